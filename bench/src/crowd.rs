//! Many users of one service, on a Redis that holds nothing else, and a clock that can be turned.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use presence::PresenceService;
use presence::clock::{Clock, StoreClock};
use presence::domain::{Input, InputKind, Rules, SessionId, Timestamp, UserId};
use presence::events::{Event, EventPublisher, PublishError};
use presence::service::UserInput;
use presence::store::{PresenceStore, RedisConfig, RedisStore, StoreError};
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

/// How many inputs a batch has, as from a consumer.
pub(crate) const BATCH: usize = 1000;
/// How many batches are under way at once.
pub(crate) const AT_ONCE: usize = 4;

/// The users, the service and the ways to look at it.
pub(crate) struct Crowd {
    pub(crate) service: Arc<PresenceService>,
    pub(crate) redis: MultiplexedConnection,
    pub(crate) users: Vec<(UserId, SessionId)>,
    pub(crate) clock: Arc<AheadClock>,
    pub(crate) told: Arc<AtomicU64>,
}

/// The store's clock, some time ahead.
pub(crate) struct AheadClock {
    store: StoreClock,
    ahead_ms: AtomicI64,
}

/// Counts what it is given.
struct Counter(Arc<AtomicU64>);

impl Crowd {
    /// An empty Redis, and users whom nobody knows yet.
    pub(crate) async fn gather(url: &str, users: usize) -> Self {
        let client = redis::Client::open(url).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("FLUSHALL").exec_async(&mut redis).await.unwrap();
        let rules = Rules::default();
        let config = RedisConfig { url: url.to_owned(), cluster: false, wait_replicas: 0 };
        let store: Arc<dyn PresenceStore> = Arc::new(RedisStore::new(&config, rules).unwrap());
        let clock = Arc::new(AheadClock { store: StoreClock::new(store.clone()), ahead_ms: AtomicI64::new(0) });
        let told = Arc::new(AtomicU64::new(0));
        let publisher = Arc::new(Counter(told.clone()));
        let service = Arc::new(PresenceService::with_clock(store, publisher, clock.clone(), rules));
        let session = || Uuid::new_v4().to_string().parse().unwrap();
        let users = (0..users).map(|_| (UserId::new(Uuid::new_v4()), session())).collect();
        Self { service, redis, users, clock, told }
    }

    /// Applies one input of each user, in batches.
    pub(crate) async fn apply(&self, users: &[(UserId, SessionId)], kind: fn(&SessionId) -> InputKind) {
        use futures::stream::{self, StreamExt};
        let at = self.service.now().await.unwrap();
        let batches = users.chunks(BATCH).map(|chunk| async move {
            let input = |(user_id, session): &(UserId, SessionId)| UserInput {
                user_id: *user_id,
                input: Input { at, kind: kind(session) },
                traceparent: None,
            };
            let inputs: Vec<UserInput> = chunk.iter().map(input).collect();
            for result in self.service.apply(&inputs).await {
                result.unwrap();
            }
        });
        stream::iter(batches).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    pub(crate) async fn open_all(&self) {
        self.apply(&self.users, opens).await;
    }
}

pub(crate) fn opens(session: &SessionId) -> InputKind {
    InputKind::Opened { session_id: session.clone(), platform: None, status: None }
}

pub(crate) fn beats(session: &SessionId) -> InputKind {
    InputKind::Heartbeat { session_id: session.clone(), platform: None }
}

pub(crate) fn closes(session: &SessionId) -> InputKind {
    InputKind::Closed { session_id: session.clone(), abnormal: false }
}

impl AheadClock {
    pub(crate) fn turn_ms(&self, by: i64) {
        self.ahead_ms.fetch_add(by, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for AheadClock {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        let now = self.store.now().await?;
        Ok(Timestamp::from_millis(now.millis() + self.ahead_ms.load(Ordering::Relaxed)))
    }
}

#[async_trait]
impl EventPublisher for Counter {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        self.0.fetch_add(events.len() as u64, Ordering::Relaxed);
        events.iter().map(|_| Ok(())).collect()
    }

    async fn is_ready(&self) -> bool {
        true
    }
}
