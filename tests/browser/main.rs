//! Clients that nobody here wrote: a browser with the page, and a WebSocket library that knows the documented frames.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests, and their helpers fail as tests do"
)]

mod page;
mod stage;
