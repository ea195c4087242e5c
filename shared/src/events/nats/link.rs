//! The connection to NATS, and what can be sent over it right now.

mod connection;
mod keeper;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, Request};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use self::connection::{Condition, LOOK_AGAIN, Signals, client, condition, generation, wait_until_up};
use self::keeper::{INSPECT_PAUSE, Keeper, Known, TROUBLE_INTERVAL};
use super::servers::NatsServers;
use super::streams::Streams;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How many messages of all callers may wait for their acknowledgement.
pub(super) const IN_FLIGHT: usize = 4096;

/// How to connect.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Where, and as whom.
    pub servers: NatsServers,
    /// What the server calls this connection in its own reports.
    pub name: String,
    /// Whether to create the streams.
    pub streams: Streams,
    /// A PEM file of the certificate authorities that are trusted; none means those of the system.
    pub authorities: Option<PathBuf>,
    /// How long JetStream must be gone, once it was there, before events are published without it. Until then they
    /// count as not published: a server that is only restarting must not cost anyone an event.
    pub jetstream_grace: Duration,
}

impl NatsOptions {
    /// The usual options: 30 s without JetStream before events go without it.
    pub fn new(servers: NatsServers, name: impl Into<String>, streams: Streams) -> Self {
        Self { servers, name: name.into(), streams, authorities: None, jetstream_grace: Duration::from_secs(30) }
    }

    /// The same with a PEM file of certificate authorities, which are trusted instead of those of the system.
    pub fn trusting(self, authorities: Option<PathBuf>) -> Self {
        Self { authorities, ..self }
    }
}

/// How messages can be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    /// The server keeps messages and acknowledges each one.
    JetStream,
    /// The server has no JetStream: messages reach whoever listens now.
    Core,
    /// It has one that can't be used, for this reason.
    Unusable(String),
}

/// A connection to NATS that is made in the background, and made again whenever it breaks. Clones share it; it ends
/// with the last of them.
#[derive(Clone)]
pub struct NatsLink {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    jetstream: Context,
    /// Sent anew with each look at the server.
    known: watch::Receiver<Known>,
    signals: Arc<Signals>,
    in_flight: Semaphore,
    keeper: AbortHandle,
}

impl NatsLink {
    /// Starts to connect and returns at once: NATS may be away, now and later. Needs a tokio runtime.
    pub async fn connect(options: NatsOptions) -> Result<Self, async_nats::ConnectError> {
        // It fails only where a provider is installed already; `ring` is the only one that is built in.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let signals = Arc::new(Signals::default());
        let client = client(&options, signals.clone()).await?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            // Abandoned acknowledgements hold a place for a while: the limit that counts is `IN_FLIGHT`.
            .max_ack_inflight(4 * IN_FLIGHT)
            .build(client.clone());

        let (known, keeper) = Keeper::start(client.clone(), jetstream.clone(), &options, signals.clone());
        let in_flight = Semaphore::new(IN_FLIGHT);
        let shared = Shared { client, jetstream, known, signals, in_flight, keeper };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The connection itself, for subscriptions.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// JetStream over this connection, whether the server has it or not.
    pub fn jetstream(&self) -> &Context {
        &self.shared.jetstream
    }

    /// Waits until a server was asked, and says whether it has JetStream with our streams.
    pub async fn has_jetstream(&self) -> bool {
        let mut known = self.shared.known.clone();
        let usable = known.wait_for(|known| !matches!(known.transport, Transport::Unusable(_))).await;
        usable.is_ok_and(|known| known.transport == Transport::JetStream)
    }

    /// Whether messages can be sent right now.
    pub fn is_ready(&self) -> bool {
        let up = condition(&self.shared.client, &self.shared.signals) == Condition::Up;
        up && self.current().is_some_and(|transport| !matches!(transport, Transport::Unusable(_)))
    }

    /// What is known of the server at the other end now.
    fn current(&self) -> Option<Transport> {
        let known = self.shared.known.borrow();
        (known.generation == self.generation()).then(|| known.transport.clone())
    }

    pub(super) fn in_flight(&self) -> &Semaphore {
        &self.shared.in_flight
    }

    /// How to send now. Waits for the first connection, and for the first look at the server after each; a connection
    /// that is known to be down is waited for only by the patient.
    pub(super) async fn transport(&self, deadline: Instant, patient: bool) -> Result<Transport, String> {
        let Shared { client, signals, known, .. } = &*self.shared;
        let mut known = known.clone();
        loop {
            known.mark_unchanged();
            wait_until_up(client, signals, deadline, patient).await?;
            match self.current() {
                Some(Transport::Unusable(reason)) => {
                    signals.inspect.notify_one();
                    return Err(reason);
                }
                Some(transport) => return Ok(transport),
                None => signals.inspect.notify_one(),
            }
            if timeout_at(deadline, known.changed()).await.is_err() {
                return Err("the server does not say whether it has JetStream".to_owned());
            }
        }
    }

    /// How many connections there were: rises when one is made anew.
    pub(super) fn generation(&self) -> u64 {
        generation(&self.shared.client)
    }

    /// Rises each time that subscribers may have missed something: the connection was made anew, or they were too slow.
    pub(super) fn gaps(&self) -> watch::Receiver<u64> {
        self.shared.signals.gaps.subscribe()
    }

    /// Returns when a server has taken everything that was sent to it before, subscriptions too. Waits for one as long
    /// as it takes.
    pub(super) async fn settled(&self) {
        let Shared { client, signals, .. } = &*self.shared;
        loop {
            if wait_until_up(client, signals, Instant::now() + TROUBLE_INTERVAL, true).await.is_err() {
                continue;
            }
            let echo = client.new_inbox();
            let request = Request::new().inbox(echo.clone()).timeout(None);
            if matches!(timeout(REQUEST_TIMEOUT, client.send_request(echo, request)).await, Ok(Ok(_))) {
                return;
            }
            tokio::time::sleep(INSPECT_PAUSE).await;
        }
    }

    /// Waits until the connection of that generation is gone.
    pub(super) async fn broken(&self, generation: u64) {
        let Shared { client, signals, .. } = &*self.shared;
        let mut changed = signals.changed.subscribe();
        while self.generation() == generation && condition(client, signals) == Condition::Up {
            let _ = timeout(5 * LOOK_AGAIN, changed.changed()).await;
        }
    }

    /// Has the server looked at again, without waiting for it.
    pub(super) fn inspect_soon(&self) {
        self.shared.signals.inspect.notify_one();
    }

    /// Has the server looked at again, and waits for that.
    pub(super) async fn inspect(&self, deadline: Instant) {
        let mut known = self.shared.known.clone();
        known.mark_unchanged();
        self.inspect_soon();
        let _ = timeout_at(deadline, known.changed()).await;
    }
}

impl fmt::Debug for NatsLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLink").field("transport", &self.current()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
