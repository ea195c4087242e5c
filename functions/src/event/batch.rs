//! The batch runner: the same for every subscription and in every host.

use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use presence::events::batch::{Batch, BatchResponse, Record};
use presence::events::{DeadLetters, Traceparent};
use presence::metrics::BATCH_RECORDS;
use presence::telemetry::{self, SPANS};
use presence::{Error, ErrorKind, PresenceService};
use tracing::Instrument;

use super::Subscription;
use super::plan::{Disposition, Plan, all_unavailable};

/// What the host of a function says of an invocation.
#[derive(Debug, Clone, Default)]
pub struct Invocation<'a> {
    /// What the host calls it, in its own log.
    pub request_id: Option<&'a str>,
    /// The trace that it belongs to.
    pub trace: Option<Traceparent>,
}

/// How many messages of a batch its span is tied to: a collector refuses spans with many more links.
const LINKS: usize = 32;

/// Processes batches of messages. Cheap to clone.
#[derive(Clone)]
pub struct EventHandler {
    service: Arc<PresenceService>,
    dead_letters: Arc<dyn DeadLetters>,
}

impl EventHandler {
    /// A handler over the use cases and the place for messages that can't be processed.
    pub fn new(service: Arc<PresenceService>, dead_letters: Arc<dyn DeadLetters>) -> Self {
        Self { service, dead_letters }
    }

    /// Processes a batch and names the records that have to come again. Everything in it is decided together, in its
    /// order. What can't be read goes to the dead letters and holds up nothing.
    ///
    /// The batch fails as a whole, with [`ErrorKind::Unavailable`], while the store is away: nothing is known against
    /// any record then, and its host waits instead of counting attempts. Any batch may come again, wholly or in part.
    pub async fn handle(&self, subscription: Subscription, batch: &Batch) -> Result<BatchResponse, Error> {
        self.handle_within(subscription, batch, Invocation::default()).await
    }

    /// The same within an invocation, to whose trace changes belong whose message carries none.
    pub async fn handle_within(
        &self,
        subscription: Subscription,
        batch: &Batch,
        invocation: Invocation<'_>,
    ) -> Result<BatchResponse, Error> {
        let Subscription { function, .. } = subscription;
        let records = batch.records.len();
        let told = tracing::info_span!(target: SPANS, "batch", otel.kind = "consumer", otel.name = function, records);
        let trace = telemetry::continue_trace(&told, invocation.trace);
        if !told.is_disabled() {
            let carried = batch.records.iter().filter_map(Record::traceparent);
            carried.take(LINKS).for_each(|carried| telemetry::link_trace(&told, &carried));
        }
        let request_id = invocation.request_id;
        let span = tracing::info_span!("batch", request_id, function, records, traceparent = %trace);
        self.decide(subscription, batch, &trace).instrument(span).instrument(told).await
    }

    async fn decide(
        &self,
        subscription: Subscription,
        batch: &Batch,
        trace: &Traceparent,
    ) -> Result<BatchResponse, Error> {
        let now = self.service.now().await?;
        let plan = Plan::read(subscription, batch, now, self.service.rules().heartbeat_timeout);
        let decided =
            if plan.inputs().is_empty() { Vec::new() } else { self.service.apply_within(trace, plan.inputs()).await };
        if all_unavailable(&decided) {
            return Err(ErrorKind::Unavailable.into());
        }
        let settled = plan.settle(&decided).into_iter();
        let failures = join_all(settled.map(|(id, disposition)| self.finish(subscription, id, disposition))).await;
        Ok(BatchResponse::failed(failures.into_iter().flatten()))
    }

    /// The message id, if the record has to come again.
    async fn finish(&self, subscription: Subscription, message_id: String, disposition: Disposition) -> Option<String> {
        let (outcome, again) = match disposition {
            Disposition::Done => ("done", false),
            Disposition::Retry => ("retry", true),
            Disposition::DeadLetter(letter) => match self.dead_letters.put(letter).await {
                Ok(()) => ("dead_letter", false),
                Err(error) => {
                    tracing::warn!(function = subscription.function, message_id, %error, "a dead letter is not kept yet");
                    ("retry", true)
                }
            },
        };
        let function = subscription.function;
        metrics::counter!(BATCH_RECORDS, "function" => function, "outcome" => outcome).increment(1);
        again.then_some(message_id)
    }
}

impl fmt::Debug for EventHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHandler").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use presence::domain::{Rules, Status, Timestamp, UserId};
    use presence::events::batch::Record;
    use presence::events::{DeadLetter, MemoryBus, MemoryDeadLetters, PublishError};
    use presence::store::{MemoryStore, RedisConfig, RedisStore};

    use super::*;
    use crate::event::testing::{USER, record};
    use crate::event::{connection_closed, connection_opened, heartbeat_received};

    /// The embedded service, and its dead letters.
    fn service() -> (Arc<PresenceService>, Arc<MemoryDeadLetters>, EventHandler) {
        let rules = Rules::default();
        let store = Arc::new(MemoryStore::new(rules));
        let service = Arc::new(PresenceService::new(store, Arc::new(MemoryBus::new()), rules));
        let letters = Arc::new(MemoryDeadLetters::default());
        (service.clone(), letters.clone(), EventHandler::new(service, letters))
    }

    fn batch(records: Vec<Record>) -> Batch {
        Batch { event_source: "nats:jetstream".into(), records }
    }

    async fn now(service: &PresenceService) -> i64 {
        service.now().await.unwrap().millis()
    }

    async fn status(service: &PresenceService) -> Status {
        let user: UserId = USER.parse().unwrap();
        service.presence(user, user).await.unwrap().status
    }

    fn message(session: &str) -> String {
        format!(r#"{{"user_id":"{USER}","session_id":"{session}"}}"#)
    }

    #[tokio::test]
    async fn a_batch_is_decided_and_may_come_again() {
        let (service, letters, handler) = service();
        let opened = batch(vec![record(1, now(&service).await, message("a"))]);
        for _ in 0..2 {
            let answer = handler.handle(connection_opened::SUBSCRIPTION, &opened).await.unwrap();
            assert_eq!(answer, BatchResponse::default());
        }
        assert_eq!(status(&service).await, Status::Online);
        let closed = batch(vec![record(2, now(&service).await, message("a"))]);
        handler.handle(connection_closed::SUBSCRIPTION, &closed).await.unwrap();
        handler.handle(connection_opened::SUBSCRIPTION, &opened).await.unwrap();
        assert_eq!(status(&service).await, Status::Offline, "an open that comes again after the close opens nothing");
        assert!(letters.letters().is_empty());
    }

    #[tokio::test]
    async fn poison_goes_to_the_dead_letters_once_and_holds_up_nothing() {
        let (service, letters, handler) = service();
        let at = now(&service).await;
        let poisoned =
            batch(vec![record(1, at, "poison"), record(2, at, format!("[{},7]", message("a"))), record(3, at, "[]")]);
        for _ in 0..2 {
            let answer = handler.handle(heartbeat_received::SUBSCRIPTION, &poisoned).await.unwrap();
            assert_eq!(answer, BatchResponse::default());
        }
        assert_eq!(status(&service).await, Status::Online);
        let kept: Vec<(String, Vec<usize>)> =
            letters.letters().into_iter().map(|letter| (letter.message_id, letter.elements)).collect();
        assert_eq!(kept, [("PRESENCE:1".to_owned(), vec![]), ("PRESENCE:2".to_owned(), vec![1])]);
    }

    #[tokio::test]
    async fn an_open_from_long_ago_makes_nobody_visible() {
        let (service, _, handler) = service();
        let old = Timestamp::from_millis(now(&service).await - 46_000).millis();
        let answer = handler.handle(connection_opened::SUBSCRIPTION, &batch(vec![record(1, old, message("a"))])).await;
        assert_eq!(answer.unwrap(), BatchResponse::default());
        assert_eq!(status(&service).await, Status::Offline);
    }

    #[tokio::test]
    async fn while_the_store_is_away_the_batch_fails_as_a_whole_and_nothing_is_given_up() {
        let rules = Rules::default();
        // Nobody listens on port 1.
        let redis =
            RedisConfig { url: "redis://127.0.0.1:1".into(), cluster: false, wait_replicas: 0, replica_url: None };
        let store = Arc::new(RedisStore::new(&redis, rules).unwrap());
        let service = Arc::new(PresenceService::new(store, Arc::new(MemoryBus::new()), rules));
        let letters = Arc::new(MemoryDeadLetters::default());
        let handler = EventHandler::new(service, letters.clone());
        let poisoned = batch(vec![record(1, 0, message("a")), record(2, 0, "poison")]);
        let error = handler.handle(heartbeat_received::SUBSCRIPTION, &poisoned).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(letters.letters().is_empty());
    }

    struct Full;

    #[async_trait]
    impl DeadLetters for Full {
        async fn put(&self, _: DeadLetter) -> Result<(), PublishError> {
            Err(PublishError("no room".into()))
        }
    }

    #[tokio::test]
    async fn a_record_whose_letter_is_not_kept_comes_again_alone() {
        let (service, _, _) = service();
        let handler = EventHandler::new(service.clone(), Arc::new(Full));
        let at = now(&service).await;
        let poisoned = batch(vec![record(1, at, message("a")), record(2, at, "poison")]);
        let answer = handler.handle(heartbeat_received::SUBSCRIPTION, &poisoned).await.unwrap();
        assert_eq!(answer, BatchResponse::failed(["PRESENCE:2".to_owned()]));
    }

    #[tokio::test]
    async fn an_empty_batch_is_done() {
        let (_, _, handler) = service();
        let answer = handler.handle(heartbeat_received::SUBSCRIPTION, &batch(vec![])).await;
        assert_eq!(answer.unwrap(), BatchResponse::default());
    }
}
