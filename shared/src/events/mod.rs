//! How changes are told: the events on the wire ([`Event`]) and who carries them ([`EventPublisher`]); and where the
//! messages go that can't be processed ([`DeadLetters`]). And how messages come in ([`inputs`], [`batch`]).

pub mod batch;
mod dead_letter;
mod event;
pub mod inputs;
pub mod memory;
pub mod nats;

pub use crate::domain::Traceparent;
pub use dead_letter::{DEAD_LETTER_PREFIX, DeadLetter, DeadLetters, MemoryDeadLetters};
pub use event::{Event, EventKind, SUBJECTS};
pub use memory::MemoryBus;

use async_trait::async_trait;

/// Carries events to whoever listens. Implementations: NATS, and the bus inside one process.
#[async_trait]
pub trait EventPublisher: Send + Sync + 'static {
    /// Publishes each event, in order, and says of each whether the other side is known to have it. Ends within a
    /// bounded time, also when nobody can be reached; an event whose fate is unknown counts as not published and may
    /// be told again with the same id.
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>>;

    /// Whether events can be carried right now.
    async fn is_ready(&self) -> bool;
}

/// An event that is not known to have arrived.
#[derive(Debug, Clone, thiserror::Error)]
#[error("event not known to be published: {0}")]
pub struct PublishError(pub String);
