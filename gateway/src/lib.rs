//! The reference WebSocket gateway: clients identify, subscribe and send heartbeats; what happens to their connections
//! is told to the presence service, and its events are given to whoever subscribed, byte for byte.
//!
//! It runs inside `presence-service` or apart from it, any number of nodes at once.

mod carrier;
mod close;
mod connection;
mod frame;
mod gateway;
mod hub;
mod limits;
mod outbox;
mod page;
mod rate;
mod report;
mod session;
mod snapshot;
mod upgrade;

pub use gateway::{Gateway, Upkeep};
pub use limits::Limits;
pub use page::page;
pub use upgrade::{PATH, router};
