//! Where messages come from: a consumer of the stream where the server has JetStream, a queue group where not. Which of
//! the two may change while the process runs.

mod consumer;
mod core;
mod jetstream;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use presence::events::nats::NatsLink;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::acks::Acks;
use crate::bridge::Place;
use crate::held::{Held, Rooms};
use crate::options::EventSourceMapping;
use crate::times::Times;
use crate::worker::AckWait;

pub(crate) use consumer::ACK_WAIT;
pub use consumer::Consumers;

/// How often to look for what nobody tells of.
const LOOK: Duration = Duration::from_millis(50);

/// How long to wait after something went wrong with a source before it is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// Takes the messages of one subscription from NATS and gives them to its worker, as far as there is room.
pub(crate) struct Feeder {
    pub(crate) link: NatsLink,
    pub(crate) mapping: EventSourceMapping,
    pub(crate) consumers: Consumers,
    pub(crate) times: Times,
    pub(crate) acks: Acks,
    pub(crate) ack_wait: Arc<AckWait>,
    pub(crate) to_worker: mpsc::Sender<Held>,
    pub(crate) shutdown: CancellationToken,
    /// Whether messages can come right now.
    pub(crate) place: watch::Sender<Place>,
    pub(crate) memory: Memory,
}

/// What a feeder remembers from one source to the next.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Room for messages, and how many bytes one request may bring.
    rooms: Option<(Rooms, usize)>,
    /// Which life of the stream was read, and up to which message all is settled.
    settled: Option<(u64, u64)>,
    /// What was said last about what is wrong, so that it is said once.
    said: String,
    /// What was said last about the consumer.
    notes: Vec<String>,
}

/// Why a source ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The process ends.
    Shutdown,
    /// The server is another, or has changed: look at it again.
    Changed,
    /// Something is missing or does not work, in words for an operator.
    Trouble(String),
}

impl Feeder {
    /// Feeds the worker until the shutdown.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        while let Some(has_jetstream) = shutdown.run_until_cancelled(self.has_jetstream()).await {
            let end = if has_jetstream { self.feed_from_stream().await } else { self.feed_from_core().await };
            match end {
                End::Shutdown => break,
                End::Changed => self.is_not_in_place(String::new()),
                End::Trouble(reason) => self.is_not_in_place(reason),
            }
            let _ = shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
        self.place.send_replace(Place::Missing(String::new()));
    }

    /// From now on messages come.
    fn is_in_place(&mut self, source: &str) {
        self.place.send_replace(Place::Ready);
        let function = &self.mapping.function;
        if self.memory.said.is_empty() {
            tracing::debug!(function, source, "messages can come");
        } else {
            tracing::info!(function, source, "messages can come again");
            self.memory.said.clear();
        }
    }

    /// What is wrong is said once; without words it is expected to be over in a moment.
    fn is_not_in_place(&mut self, reason: String) {
        self.place.send_replace(Place::Missing(reason.clone()));
        if !reason.is_empty() && self.memory.said != reason {
            tracing::warn!(function = self.mapping.function, reason, "no messages can come; trying on");
            self.memory.said = reason;
        }
    }

    /// Waits for a server that can be used, and says whether it has JetStream.
    async fn has_jetstream(&self) -> bool {
        while !self.link.is_ready() {
            tokio::time::sleep(LOOK).await;
        }
        self.link.has_jetstream().await
    }

    /// How the server is known now; none while nobody knows.
    fn has_jetstream_now(&self) -> Option<bool> {
        self.link.has_jetstream().now_or_never()
    }

    /// How often a connection was made: another number is another connection.
    fn connection(&self) -> u64 {
        self.link.client().statistics().connects.load(Ordering::Relaxed)
    }

    /// Room for as many messages and bytes as one subscription may hold (a batch for each invocation, and one that
    /// waits), and how many bytes may come at once: a batch, and any single message that the server takes.
    fn rooms(&mut self) -> (Rooms, usize) {
        const ENVELOPE: usize = 64 * 1024;
        let options = self.mapping.options;
        let bytes = options.batch_bytes.max(self.link.client().max_payload() + ENVELOPE);
        match &self.memory.rooms {
            Some((rooms, known)) if *known >= bytes => (rooms.clone(), *known),
            // The first time, or a server that takes larger messages than the one before.
            _ => {
                let batches = options.maximum_concurrency.max(1) + 1;
                let rooms = Rooms::new(options.batch_size.max(1) * batches, bytes * batches);
                self.memory.rooms.insert((rooms, bytes)).clone()
            }
        }
    }
}
