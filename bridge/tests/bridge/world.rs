//! A NATS, a bridge on it, and a function that a test writes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream;
use async_trait::async_trait;
use futures::future::BoxFuture;
use presence::PresenceService;
use presence::clock::Clock;
use presence::domain::{Rules, Timestamp};
use presence::events::MemoryBus;
use presence::events::batch::{Batch, BatchResponse, Record};
use presence::events::nats::{NatsDeadLetters, NatsLink, NatsOptions, Streams};
use presence::store::{MemoryStore, StoreError};
use presence_bridge::{Bridge, Consumers, EventSourceMapping, Options, Parts, Target, TargetError};
use presence_tests::{Event, JetStream, Nats, eventually, now_ms, seen};
use tokio_util::sync::CancellationToken;

pub(crate) const SUBJECT: &str = "gateway.heartbeat.received";
pub(crate) const FUNCTION: &str = "heartbeat-received";
pub(crate) const STREAM: &str = "PRESENCE";

/// How long something may take that nothing holds up.
pub(crate) const SOON: Duration = Duration::from_secs(15);

pub(crate) type Answer = Result<BatchResponse, TargetError>;

/// A function: what it was given, and what it does.
pub(crate) struct Function {
    calls: Mutex<Vec<Vec<Record>>>,
    act: Box<dyn Fn(usize, Vec<Record>) -> BoxFuture<'static, Answer> + Send + Sync>,
}

/// A function that answers with a future; it gets the number of the call, from 0, and the records.
pub(crate) fn function<F>(act: impl Fn(usize, Vec<Record>) -> F + Send + Sync + 'static) -> Arc<Function>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let act = Box::new(move |call, records| -> BoxFuture<'static, Answer> { Box::pin(act(call, records)) });
    Arc::new(Function { calls: Mutex::default(), act })
}

/// A function that processes everything.
pub(crate) fn willing() -> Arc<Function> {
    function(async |_, _| done())
}

pub(crate) fn done() -> Answer {
    Ok(BatchResponse::default())
}

pub(crate) fn failed() -> Answer {
    Err(TargetError::Failed("as the test wants".to_owned()))
}

#[async_trait]
impl Target for Function {
    async fn invoke(&self, function: &str, batch: Batch) -> Answer {
        assert_eq!(function, FUNCTION);
        let call = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(batch.records.clone());
            calls.len() - 1
        };
        (self.act)(call, batch.records).await
    }
}

impl Function {
    /// The records of each call so far.
    pub(crate) fn calls(&self) -> Vec<Vec<Record>> {
        self.calls.lock().unwrap().clone()
    }

    /// The texts of all records so far, in the order of the calls.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.calls().iter().flatten().map(text).collect()
    }

    /// Waits until it was called so often.
    pub(crate) async fn until_called(&self, times: usize) {
        eventually("calls", SOON, async || {
            let calls = self.calls().len();
            seen(calls >= times, calls)
        })
        .await;
    }
}

pub(crate) fn text(record: &Record) -> String {
    String::from_utf8_lossy(&record.data).into_owned()
}

/// The wall clock, and by how much the store's is ahead of it, in milliseconds.
struct Shifted(i64);

#[async_trait]
impl Clock for Shifted {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_millis(now_ms() + self.0))
    }
}

/// A bridge at work on one subscription.
pub(crate) struct Running {
    pub(crate) bridge: Bridge,
    pub(crate) shutdown: CancellationToken,
}

/// What a bridge is started with.
pub(crate) struct Start {
    pub(crate) target: Arc<dyn Target>,
    pub(crate) options: Options,
    pub(crate) consumers: Consumers,
    pub(crate) drain_time: Duration,
    pub(crate) clock_ahead: i64,
}

impl Start {
    pub(crate) fn new(target: Arc<dyn Target>) -> Self {
        Self {
            target,
            options: Options::default(),
            consumers: Consumers::Ensure,
            drain_time: Duration::from_secs(10),
            clock_ahead: 0,
        }
    }

    pub(crate) fn with(target: Arc<dyn Target>, options: Options) -> Self {
        Self { options, ..Self::new(target) }
    }

    /// Starts it and waits until its subscription is in place.
    pub(crate) async fn on(self, nats: &Nats) -> Running {
        let running = self.unready_on(nats).await;
        running.until_ready().await;
        running
    }

    /// The same where it can't be ready yet.
    pub(crate) async fn unready_on(self, nats: &Nats) -> Running {
        self.unready_at(&nats.url()).await
    }

    pub(crate) async fn unready_at(self, url: &str) -> Running {
        let options = NatsOptions::new(url.parse().unwrap(), "test", Streams::Ensure);
        let link = NatsLink::connect(options).await.unwrap();
        let rules = Rules::default();
        let store = Arc::new(MemoryStore::new(rules));
        let clock = Arc::new(Shifted(self.clock_ahead));
        let service = Arc::new(PresenceService::with_clock(store, Arc::new(MemoryBus::new()), clock, rules));
        let parts = Parts {
            dead_letters: Arc::new(NatsDeadLetters::new(link.clone())),
            link,
            service,
            target: self.target,
            consumers: self.consumers,
            drain_time: self.drain_time,
        };
        let mapping = EventSourceMapping { subject: SUBJECT.into(), function: FUNCTION.into(), options: self.options };
        let shutdown = CancellationToken::new();
        Running { bridge: Bridge::start(parts, vec![mapping], shutdown.clone()), shutdown }
    }
}

impl Running {
    pub(crate) async fn until_ready(&self) {
        let readiness = self.bridge.readiness();
        eventually("the subscription to be in place", SOON, async || seen(readiness.is_ready(), ())).await;
    }

    /// Shuts it down and waits for its end.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.bridge.ended()).await.expect("an end");
    }
}

/// A NATS with JetStream and its streams, and no consumer.
pub(crate) async fn nats() -> Nats {
    let nats = Nats::start(JetStream::On).await;
    let options = NatsOptions::new(nats.url().parse().unwrap(), "test", Streams::Ensure);
    assert!(NatsLink::connect(options).await.unwrap().has_jetstream().await);
    nats
}

/// Publishes messages in their order; returns when the server has them.
pub(crate) async fn publish(nats: &Nats, texts: impl IntoIterator<Item = impl Into<String>>) {
    let client = nats.connect().await;
    for text in texts {
        client.publish(SUBJECT, text.into().into()).await.unwrap();
    }
    let inbox = client.new_inbox();
    let request = async_nats::Request::new().inbox(inbox.clone());
    client.send_request(inbox, request).await.expect("an echo");
}

/// A message about a user, with a note by which the test knows it.
pub(crate) fn of(user: u128, note: &str) -> String {
    format!(r#"{{"user_id":"{}","note":"{note}"}}"#, uuid::Uuid::from_u128(user))
}

/// So many messages, each of another user.
pub(crate) fn messages(count: usize) -> Vec<String> {
    (0..count).map(|number| of(number as u128, &format!("message {number}"))).collect()
}

pub(crate) async fn consumer(nats: &Nats) -> jetstream::consumer::Info {
    let jetstream = jetstream::new(nats.connect().await);
    let consumer: jetstream::consumer::PullConsumer =
        jetstream.get_consumer_from_stream(FUNCTION, STREAM).await.expect("the consumer");
    consumer.cached_info().clone()
}

/// Waits until every message is settled.
pub(crate) async fn until_settled(nats: &Nats) {
    eventually("every message to be settled", Duration::from_secs(30), async || {
        let info = consumer(nats).await;
        let open = (info.num_pending, info.num_ack_pending);
        seen(open == (0, 0), open)
    })
    .await;
}

/// Waits for so many dead letters; all of them.
pub(crate) async fn dead_letters(nats: &Nats, count: usize) -> Vec<Event> {
    eventually("the dead letters", SOON, async || {
        let letters = nats.stream("PRESENCE_DLQ").await;
        if letters.len() >= count { Ok(letters) } else { Err(letters.len()) }
    })
    .await
}
