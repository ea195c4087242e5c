//! All subscriptions of a process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use presence::PresenceService;
use presence::events::DeadLetters;
use presence::events::nats::NatsLink;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acks::Acks;
use crate::feed::{ACK_WAIT, Consumers, Feeder, Memory};
use crate::invocation::Job;
use crate::metrics;
use crate::options::EventSourceMapping;
use crate::target::Target;
use crate::times::Times;
use crate::worker::{AckWait, Worker};

/// What a bridge works with.
pub struct Parts {
    /// The connection to NATS, which may be away.
    pub link: NatsLink,
    /// The use cases, of which the store's clock is needed.
    pub service: Arc<PresenceService>,
    /// Where hopeless messages go.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Who processes the messages.
    pub target: Arc<dyn Target>,
    /// Who makes the consumers.
    pub consumers: Consumers,
    /// How long a shutdown waits for invocations that are under way. What is not finished then comes again.
    pub drain_time: Duration,
}

/// The event source mappings of a process at work. Any number of processes may work on the same ones; they share the
/// messages.
pub struct Bridge {
    tasks: TaskTracker,
    readiness: Readiness,
}

/// Whether all subscriptions are in place. Clones tell the same.
#[derive(Clone)]
pub struct Readiness {
    subscriptions: Arc<[watch::Receiver<Place>]>,
}

/// Whether messages of one subscription can come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is in place.
    Ready,
    /// Not yet, or not now; in words for an operator, if there are any.
    Missing(String),
}

impl Bridge {
    /// Starts to work on the mappings, until `shutdown`. Needs a tokio runtime.
    pub fn start(parts: Parts, mappings: Vec<EventSourceMapping>, shutdown: CancellationToken) -> Self {
        metrics::describe();
        let times = Times::start(parts.link.clone(), parts.service.clone(), shutdown.clone());
        let tasks = TaskTracker::new();
        let subscriptions: Vec<watch::Receiver<Place>> = mappings
            .into_iter()
            .map(|mapping| start_one(&parts, mapping, times.clone(), &tasks, shutdown.clone()))
            .collect();
        tasks.close();
        Self { tasks, readiness: Readiness { subscriptions: subscriptions.into() } }
    }

    /// Whether all subscriptions are in place.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Waits for the end after a shutdown: what was under way is finished, and what was not begun is handed back.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }
}

fn start_one(
    parts: &Parts,
    mapping: EventSourceMapping,
    times: Times,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> watch::Receiver<Place> {
    let (place, in_place) = watch::channel(Place::Missing(String::new()));
    let ack_wait = Arc::new(AckWait::new(ACK_WAIT));
    let acks = Acks::new(parts.link.client().clone());
    // What is on its way to the worker is bounded by the room for messages.
    let (to_worker, arriving) = mpsc::channel(mapping.options.batch_size.max(1));
    let job = Arc::new(Job {
        mapping: mapping.clone(),
        target: parts.target.clone(),
        dead_letters: parts.dead_letters.clone(),
        service: parts.service.clone(),
        times: times.clone(),
        acks: acks.clone(),
    });
    let feeder = Feeder {
        link: parts.link.clone(),
        mapping,
        consumers: parts.consumers,
        times,
        acks,
        ack_wait: ack_wait.clone(),
        to_worker,
        shutdown: shutdown.clone(),
        place,
        memory: Memory::default(),
    };
    tasks.spawn(feeder.run());
    tasks.spawn(Worker::new(job, arriving, ack_wait, parts.drain_time).run(shutdown));
    in_place
}

impl Readiness {
    /// Whether messages of every subscription can come right now.
    pub fn is_ready(&self) -> bool {
        self.subscriptions.iter().all(|place| *place.borrow() == Place::Ready)
    }

    /// What keeps subscriptions from being in place, as far as it is known.
    pub fn missing(&self) -> Vec<String> {
        let reason = |place: &watch::Receiver<Place>| match &*place.borrow() {
            Place::Missing(reason) if !reason.is_empty() => Some(reason.clone()),
            _ => None,
        };
        self.subscriptions.iter().filter_map(reason).collect()
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("is_ready", &self.readiness.is_ready()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("is_ready", &self.is_ready()).finish_non_exhaustive()
    }
}
