//! A real NATS, the gateway's side of it (inputs) and the consumers' side of it (events).

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::StreamExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::access::{Access, PASSWORD};
use crate::binaries::tool;
use crate::port::free_port;
use crate::process::Process;
use crate::{User, eventually};

/// How long an event may take that has to come.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Whether the server keeps what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JetStream {
    /// Streams, kept on disk.
    On,
    /// Plain publish and subscribe.
    Off,
}

/// A server with its own port, name and data.
pub struct Nats {
    jetstream: JetStream,
    port: u16,
    name: String,
    dir: TempDir,
    process: Option<Process>,
    access: Access,
}

/// One event as a consumer gets it.
#[derive(Debug, Clone)]
pub struct Event {
    /// The subject it came on.
    pub subject: String,
    /// Its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The payload, byte for byte.
    pub payload: String,
}

/// A consumer of every event since it subscribed. Delivery is at least once, so it drops, as every consumer must, what
/// it has had already.
pub struct Events {
    subscriber: async_nats::Subscriber,
    client: async_nats::Client,
    had: HashSet<String>,
}

impl Nats {
    /// Starts a server.
    pub async fn start(jetstream: JetStream) -> Self {
        let mut nats = Self::stopped(jetstream);
        nats.restart().await;
        nats
    }

    /// A server that is away: its port is known and nobody listens there, until [`restart`](Self::restart).
    pub fn stopped(jetstream: JetStream) -> Self {
        let dir = tempfile::Builder::new().prefix("nats.").tempdir().unwrap();
        let name = format!("test-{}", uuid::Uuid::new_v4());
        Self { jetstream, port: free_port(), name, dir, process: None, access: Access::documented(jetstream) }
    }

    /// Starts a server that lets in only whom its configuration says.
    pub async fn start_with(jetstream: JetStream, access: Access) -> Self {
        let mut nats = Self { access, ..Self::stopped(jetstream) };
        nats.restart().await;
        nats
    }

    /// Starts it again on its port with its data.
    pub async fn restart(&mut self) {
        let mut command = Command::new(tool("NATS_SERVER_BIN"));
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string(), "--name", &self.name]);
        if self.jetstream == JetStream::On {
            command.arg("--jetstream").arg("--store_dir").arg(self.dir.path());
        }
        let file = self.dir.path().join("config");
        std::fs::write(&file, &self.access.config).unwrap();
        command.arg("--config").arg(file);
        let mut process = Process::start("NATS", &mut command, self.dir.path());
        process.wait_until_up(self.port, async || self.greets_by_its_name().await).await;
        self.process = Some(process);
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it without closing its connections.
    pub fn freeze(&self) {
        self.process.as_ref().unwrap().freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.as_ref().unwrap().thaw();
    }

    /// The URL of someone who may do everything.
    pub fn url(&self) -> String {
        self.url_as(&self.access.login)
    }

    /// The URL of a documented user.
    pub fn url_of(&self, user: &str) -> String {
        self.url_as(&format!("{user}:{PASSWORD}@"))
    }

    /// The same for somebody else: `user:password@`. With TLS the name is the one in the certificate.
    pub fn url_as(&self, login: &str) -> String {
        let (scheme, host) =
            if self.access.authorities.is_some() { ("tls", "localhost") } else { ("nats", "127.0.0.1") };
        format!("{scheme}://{login}{host}:{}", self.port)
    }

    /// The URL of a documented user by way of another port, such as a proxy's.
    pub fn url_through(&self, user: &str, port: u16) -> String {
        format!("nats://{user}:{PASSWORD}@127.0.0.1:{port}")
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A client with the patience of a test.
    pub async fn connect(&self) -> async_nats::Client {
        let mut options = async_nats::ConnectOptions::new()
            .connection_timeout(Duration::from_secs(2))
            .request_timeout(Some(Duration::from_secs(5)));
        if let Some(authorities) = &self.access.authorities {
            options = options.add_root_certificates(authorities.clone());
        }
        if let Some((name, password)) = self.access.login.trim_end_matches('@').split_once(':') {
            options = options.user_and_password(name.to_owned(), password.to_owned());
        }
        options.connect(self.url_as("")).await.expect("a connection to NATS")
    }

    /// Tells the service what a gateway or the voice service would, and returns when the server has it.
    pub async fn tell(&self, subject: &'static str, message: Value) {
        self.tell_raw(subject, message.to_string()).await;
    }

    /// The same with any bytes.
    pub async fn tell_raw(&self, subject: &'static str, payload: impl Into<Vec<u8>>) {
        let client = self.connect().await;
        client.publish(subject, payload.into().into()).await.unwrap();
        round_trip(&client).await;
    }

    /// Subscribes to all events; returns when the server knows of it.
    pub async fn events(&self) -> Events {
        self.subscribe("presence.>").await
    }

    /// Subscribes to one subject or a pattern of them.
    pub async fn subscribe(&self, subject: &'static str) -> Events {
        let client = self.connect().await;
        let subscriber = client.subscribe(subject).await.unwrap();
        round_trip(&client).await;
        Events { subscriber, client, had: HashSet::new() }
    }

    /// All messages of a stream so far, the oldest first. An empty list also if there is no such stream yet.
    pub async fn stream(&self, name: &str) -> Vec<Event> {
        let jetstream = async_nats::jetstream::new(self.connect().await);
        let Ok(mut stream) = jetstream.get_stream(name).await else { return Vec::new() };
        let state = stream.info().await.expect("the stream's state").state.clone();
        let mut events = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            if let Ok(message) = stream.get_raw_message(sequence).await {
                events.push(Event::new(message.subject.to_string(), &message.headers, &message.payload));
            }
        }
        events
    }

    /// The number of the last message of a stream; 0 if there is none.
    pub async fn last_sequence(&self, name: &str) -> u64 {
        let jetstream = async_nats::jetstream::new(self.connect().await);
        let Ok(mut stream) = jetstream.get_stream(name).await else { return 0 };
        stream.info().await.expect("the stream's state").state.last_sequence
    }

    /// What a stream got after that message: the number, the moment in milliseconds since the epoch, and the event.
    pub async fn stored_after(&self, name: &str, sequence: u64) -> Vec<(u64, i64, Event)> {
        let jetstream = async_nats::jetstream::new(self.connect().await);
        let stream = jetstream.get_stream(name).await.expect("the stream");
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 },
            ack_policy: AckPolicy::None,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let mut stored = Vec::new();
        let mut pending = consumer.cached_info().num_pending;
        while pending > 0 {
            let mut batch = consumer.fetch().max_messages(500).messages().await.expect("a batch");
            while let Some(message) = batch.next().await {
                let message = message.expect("a message");
                let info = message.info().expect("what the server says of it");
                pending = info.pending;
                let at = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap();
                let headers = message.headers.clone().unwrap_or_default();
                stored.push((
                    info.stream_sequence,
                    at,
                    Event::new(message.subject.to_string(), &headers, &message.payload),
                ));
            }
        }
        stored
    }

    /// The first line of the server's greeting names the server, so a stranger on the port is noticed.
    async fn greets_by_its_name(&self) -> bool {
        let greeting = async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await.ok()?;
            Some(line)
        };
        matches!(timeout(Duration::from_secs(2), greeting).await, Ok(Some(line)) if line.contains(&self.name))
    }
}

impl Events {
    /// The next event, whoever it is of.
    pub async fn next(&mut self) -> Event {
        loop {
            let message = timeout(ARRIVAL, self.subscriber.next()).await.expect("no event came");
            if let Some(event) = self.take(message.expect("the connection")) {
                return event;
            }
        }
    }

    /// The next event of the user; those of others are passed over.
    pub async fn next_of(&mut self, user: &User) -> Event {
        loop {
            let event = self.next().await;
            if event.data()["user_id"] == user.id() {
                return event;
            }
        }
    }

    /// All events that the server has sent so far. A round trip on the same connection is the fence: the server sends
    /// in order.
    pub async fn so_far(&mut self) -> Vec<Event> {
        round_trip(&self.client).await;
        let mut events = Vec::new();
        while let Ok(Some(message)) = timeout(Duration::ZERO, self.subscriber.next()).await {
            events.extend(self.take(message));
        }
        events
    }

    /// The event, unless it came before.
    fn take(&mut self, message: async_nats::Message) -> Option<Event> {
        let headers = message.headers.unwrap_or_default();
        let event = Event::new(message.subject.to_string(), &headers, &message.payload);
        let is_new = event.header("Nats-Msg-Id").is_none_or(|id| self.had.insert(id.to_owned()));
        is_new.then_some(event)
    }
}

impl Event {
    fn new(subject: String, headers: &async_nats::HeaderMap, payload: &[u8]) -> Self {
        let headers = headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(|value| (name.to_string(), value.to_string())))
            .collect();
        Self { subject, headers, payload: String::from_utf8_lossy(payload).into_owned() }
    }

    /// The one value of a header; none if it is missing or there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    }

    /// The frame.
    pub fn frame(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.payload))
    }

    /// The `d` of the frame.
    pub fn data(&self) -> Value {
        self.frame()["d"].clone()
    }
}

/// Returns when the server has everything that the client sent before: `flush` alone means written to the socket.
async fn round_trip(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.unwrap();
    eventually("an echo from NATS", ARRIVAL, async || {
        client.publish(inbox.clone(), "".into()).await.map_err(|error| error.to_string())?;
        timeout(ARRIVAL, echo.next()).await.ok().flatten().ok_or_else(|| "nothing".to_owned())
    })
    .await;
}
