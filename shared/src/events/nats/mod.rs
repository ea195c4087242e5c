//! Events and dead letters over NATS: kept by JetStream where the server has it, handed to whoever listens where not.
//!
//! One [`NatsLink`] is one connection. It is made in the background, so that NATS being away never holds up a start,
//! and made again whenever it breaks.

mod dead_letters;
mod inputs;
mod link;
mod publisher;
mod send;
mod servers;
mod streams;
mod subscription;

pub use dead_letters::NatsDeadLetters;
pub use link::{NatsLink, NatsOptions};
pub use publisher::NatsPublisher;
pub use servers::NatsServers;
pub use streams::{DEAD_LETTER_STREAM, EVENT_STREAM, INPUT_STREAM, Streams};
pub use subscription::{NatsReceived, NatsSubscription};
