//! The bridge between a real NATS and functions that behave as a test wants: late, failing, throttling, silent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests, and their helpers fail as tests do"
)]

mod core_nats;
mod failures;
mod lives;
mod order;
mod pace;
mod times;
mod world;
