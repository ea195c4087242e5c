//! A gateway node: what its connections share, and the work that goes on behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use presence::auth::Authenticator;
use presence::{Carrier, PresenceService};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Limits;
use crate::carrier::{self, Events, Heard, Inputs};
use crate::frame::{self, Outgoing};
use crate::hub::Hub;
use crate::report::Reports;
use crate::snapshot;

/// A gateway node, as its [`router`](crate::router) needs it. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) limits: Limits,
    /// The first frame of every connection.
    pub(crate) hello: Utf8Bytes,
    pub(crate) heartbeat_timeout: Duration,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) connections: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// Events are heard.
    hears: AtomicBool,
}

/// The work behind the connections of a node: events that come in are given out, snapshots are read, and what happens
/// to connections is told. Nothing of a gateway works until it runs.
#[must_use = "a gateway does nothing until this runs"]
pub struct Upkeep {
    shared: Arc<Shared>,
    service: Arc<PresenceService>,
    inputs: Box<dyn Inputs>,
    events: Box<dyn Events>,
}

impl Gateway {
    /// A node over the use cases and the carrier of one process. It takes the tokens that the authenticator takes, and
    /// the times of heartbeats are those of the service's rules. `shutdown` ends its connections.
    pub fn new(
        service: Arc<PresenceService>,
        authenticator: Arc<Authenticator>,
        carrier: &Carrier,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> (Self, Upkeep) {
        let rules = service.rules();
        let shared = Arc::new(Shared {
            authenticator,
            hub: Arc::default(),
            reports: Arc::default(),
            limits,
            hello: frame::hello(rules.heartbeat_interval),
            heartbeat_timeout: rules.heartbeat_timeout,
            places: Arc::new(Semaphore::new(limits.connections)),
            connections: TaskTracker::new(),
            shutdown,
            hears: AtomicBool::new(false),
        });
        let inputs = carrier::inputs(carrier, service.clone());
        let upkeep = Upkeep { shared: shared.clone(), service, inputs, events: carrier::events(carrier) };
        (Self { shared }, upkeep)
    }

    /// Whether it hears of events, for the readiness of its process. A connection that breaks later is the carrier's to
    /// tell.
    pub fn is_ready(&self) -> bool {
        self.shared.hears.load(Ordering::Relaxed)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.connections.len()
    }
}

impl Upkeep {
    /// Works until the shutdown. Returns when the connections are closed and it is told that they are, each within
    /// [`Limits::drain_time`].
    pub async fn run(self) {
        let Self { shared, service, inputs, events } = self;
        let stop = CancellationToken::new();
        // Dropped, too, if this future is: then nothing goes on without it.
        let _stop_on_return = stop.clone().drop_guard();
        let hearing = hear(events, shared.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(hearing));
        let reading = snapshot::read(shared.hub.clone(), service.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(reading));
        let telling = {
            let (shared, stop) = (shared.clone(), stop.clone());
            async move { shared.reports.tell(&*inputs, &service, &stop, shared.limits.drain_time).await }
        };
        let telling = tokio::spawn(telling);

        shared.shutdown.cancelled().await;
        shared.connections.close();
        if timeout(shared.limits.drain_time, shared.connections.wait()).await.is_err() {
            tracing::warn!(connections = shared.connections.len(), "gave up connections that do not close");
        }
        stop.cancel();
        if telling.await.is_err() {
            tracing::error!("the end of connections was not told");
        }
    }
}

/// Gives out events as they come.
async fn hear(mut events: Box<dyn Events>, shared: Arc<Shared>) {
    while let Some(heard) = events.next().await {
        match heard {
            Heard::Frame(frame) => match Outgoing::read(frame) {
                Some(event) => shared.hub.event(&event),
                None => tracing::debug!("something on the subjects of events is none"),
            },
            Heard::Gap => {
                shared.hears.store(true, Ordering::Relaxed);
                shared.hub.want_everything();
            }
        }
    }
    tracing::error!("no more events will come");
}
