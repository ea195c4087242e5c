//! A gateway node over real connections: what clients get, what is told of them, and what becomes of hostile ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests, and their helpers fail as tests do"
)]

mod client;
mod conversation;
mod end;
mod hostile;
mod nodes;
mod over_nats;
mod subscriptions;
mod world;
