//! The connection to NATS, and what can be sent over it right now.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Request};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::servers::{Credentials, NatsServers};
use super::streams::{self, Found, Streams};

/// An unanswered ping is followed by two more before the link counts as dead: 15 s, not the library's 3 minutes.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(800);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest pause between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// How many messages of all callers may wait for their acknowledgement.
pub(super) const IN_FLIGHT: usize = 4096;

/// The client library tells of a change a moment before it shows it: whoever waits looks again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A long-running host looks after its streams this often, and for a JetStream that was not there.
const INSPECT_INTERVAL: Duration = Duration::from_secs(15);
/// After trouble it looks again this often.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two looks, however often senders ask for one.
const INSPECT_PAUSE: Duration = Duration::from_millis(250);

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

/// What is known of the server at the other end of one connection. The next connection may find another server there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Of which connection, counted from 1.
    generation: u64,
    transport: Transport,
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

/// What the client library's events tell the rest.
#[derive(Default)]
struct Signals {
    /// Something about the connection changed.
    changed: watch::Sender<()>,
    /// An attempt to connect failed, and none has succeeded since.
    refused: AtomicBool,
    /// Someone wants the server looked at.
    inspect: Notify,
    /// How often subscribers may have missed something.
    gaps: watch::Sender<u64>,
}

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Up,
    /// The first attempt is under way.
    Connecting,
    Down,
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

        let unknown = Transport::Unusable("the server was not asked yet".to_owned());
        let (known_sender, known) = watch::channel(Known { generation: 0, transport: unknown });
        let keeper = Keeper {
            client: client.clone(),
            jetstream: jetstream.clone(),
            streams: options.streams,
            grace: options.jetstream_grace,
            signals: signals.clone(),
            known: known_sender,
            had_jetstream: false,
            gone_since: None,
            notes: Vec::new(),
        };
        let keeper = tokio::spawn(keeper.run()).abort_handle();
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

async fn client(options: &NatsOptions, signals: Arc<Signals>) -> Result<Client, async_nats::ConnectError> {
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECTION_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .reconnect_delay_callback(reconnect_delay)
        .require_tls(options.servers.tls_required())
        .retry_on_initial_connect()
        .event_callback(move |event| {
            signals.take(&event);
            std::future::ready(())
        });
    if let Some(authorities) = &options.authorities {
        connect = connect.add_root_certificates(authorities.clone());
    }
    connect = match options.servers.credentials() {
        None => connect,
        Some(Credentials::Token(token)) => connect.token(token.clone()),
        Some(Credentials::User { name, password }) => connect.user_and_password(name.clone(), password.clone()),
    };
    connect.connect(options.servers.addresses()).await
}

/// At once, then doubling, each time between half and the whole of it: a thousand functions lost the same server.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    if doublings == 0 {
        return Duration::ZERO;
    }
    let longest = (Duration::from_millis(2) * 2_u32.pow(doublings)).min(RECONNECT_DELAY);
    let share = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
    longest.mul_f64(0.5 + 0.5 * share)
}

impl Signals {
    fn take(&self, event: &async_nats::Event) {
        use async_nats::Event;
        match event {
            Event::Connected => {
                self.refused.store(false, Ordering::Relaxed);
                tracing::info!("connected to NATS");
                self.inspect.notify_one();
                self.gaps.send_modify(|gaps| *gaps += 1);
            }
            Event::Disconnected => tracing::warn!("connection to NATS lost"),
            Event::ClientError(error) => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "NATS can't be reached; trying on");
                }
            }
            Event::ServerError(error) => tracing::warn!(%error, "NATS refused something"),
            Event::SlowConsumer(_) => {
                tracing::warn!("NATS messages dropped: too slow to take them");
                self.gaps.send_modify(|gaps| *gaps += 1);
            }
            Event::LameDuckMode | Event::Draining | Event::Closed => {}
        }
        self.changed.send_replace(());
    }
}

fn generation(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

fn condition(client: &Client, signals: &Signals) -> Condition {
    match client.connection_state() {
        State::Connected => Condition::Up,
        State::Pending if !signals.refused.load(Ordering::Relaxed) => Condition::Connecting,
        State::Pending | State::Disconnected => Condition::Down,
    }
}

async fn wait_until_up(client: &Client, signals: &Signals, deadline: Instant, patient: bool) -> Result<(), String> {
    let mut changed = signals.changed.subscribe();
    loop {
        match condition(client, signals) {
            Condition::Up => return Ok(()),
            Condition::Down if !patient => return Err("NATS can't be reached".to_owned()),
            _ if Instant::now() >= deadline => return Err("NATS can't be reached in time".to_owned()),
            _ => {}
        }
        let _ = timeout_at(deadline.min(Instant::now() + LOOK_AGAIN), changed.changed()).await;
    }
}

/// Looks at the server after each connection, when senders ask for it, and now and then.
struct Keeper {
    client: Client,
    jetstream: Context,
    streams: Streams,
    grace: Duration,
    signals: Arc<Signals>,
    known: watch::Sender<Known>,
    had_jetstream: bool,
    /// Since when a JetStream that was there is not.
    gone_since: Option<Instant>,
    /// What was last said about the streams, so that it is said once.
    notes: Vec<String>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let _ = timeout(self.interval(), self.signals.inspect.notified()).await;
            // Patient: the event of a connection comes a moment before its state.
            let soon = Instant::now() + TROUBLE_INTERVAL;
            if wait_until_up(&self.client, &self.signals, soon, true).await.is_ok() {
                let generation = generation(&self.client);
                let found = streams::inspect(&self.jetstream, self.streams).await;
                self.settle(generation, found);
                tokio::time::sleep(INSPECT_PAUSE).await;
            }
        }
    }

    fn interval(&self) -> Duration {
        match (&self.known.borrow().transport, self.streams) {
            (Transport::Unusable(_), _) => TROUBLE_INTERVAL,
            // A function looks after nothing: its process is frozen between two invocations.
            (Transport::JetStream, Streams::Expect) => Duration::from_secs(3600),
            (Transport::JetStream | Transport::Core, _) => INSPECT_INTERVAL,
        }
    }

    fn settle(&mut self, generation: u64, found: Found) {
        let transport = match found {
            Found::Streams { notes } => {
                self.had_jetstream = true;
                self.gone_since = None;
                if notes != self.notes {
                    notes.iter().for_each(|note| tracing::warn!("{note}"));
                    self.notes = notes;
                }
                Transport::JetStream
            }
            Found::NoJetStream => self.without_jetstream(),
            Found::Trouble(reason) => Transport::Unusable(reason),
        };
        let before = self.known.send_replace(Known { generation, transport: transport.clone() });
        if before.transport != transport {
            match transport {
                Transport::JetStream => tracing::info!("events are kept by JetStream"),
                Transport::Core => tracing::warn!("NATS has no JetStream: events reach only those who listen"),
                Transport::Unusable(reason) => tracing::warn!(reason, "JetStream can't be used; trying on"),
            }
        }
    }

    fn without_jetstream(&mut self) -> Transport {
        if !self.had_jetstream {
            return Transport::Core;
        }
        let since = *self.gone_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.grace { Transport::Unusable("JetStream is away".to_owned()) } else { Transport::Core }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_are_quick_at_first_then_spread_and_never_far_apart() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempts in [2, 5, 11, usize::MAX] {
            let delays: Vec<Duration> = (0..200).map(|_| reconnect_delay(attempts)).collect();
            assert!(delays.iter().all(|delay| !delay.is_zero() && *delay <= RECONNECT_DELAY), "{attempts}");
            assert!(delays.iter().min() < delays.iter().max(), "{attempts}");
        }
    }
}
