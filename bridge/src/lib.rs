//! From NATS to functions: an event source mapping, as AWS calls it, for each subject. Messages are taken from a durable
//! pull consumer of JetStream (or from a queue group where the server has no JetStream), offered to a function in
//! batches, and settled one by one by what the function says of them.
//!
//! No message is lost: one is acknowledged when the function is done with it, comes again when not, and goes to the dead
//! letters when it is hopeless. Many come twice; the rules of presence don't mind.
//!
//! The function is behind [`Target`], so the same code drives functions over the wire and in this process.

mod acks;
mod attempts;
mod bridge;
mod feed;
mod gate;
mod held;
mod invocation;
#[cfg(feature = "lambda")]
pub mod lambda;
mod metrics;
mod options;
#[cfg(feature = "lambda")]
pub mod program;
mod target;
mod times;
mod users;
mod waiting;
mod worker;

pub use bridge::{Bridge, Parts, Readiness};
pub use feed::Consumers;
pub use options::{EventSourceMapping, OnFailure, Options};
pub use target::{Target, TargetError};
