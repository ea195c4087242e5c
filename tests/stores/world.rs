//! A presence service with a clock that the test turns, and with a publisher that writes down what it is given.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use presence::clock::Clock;
use presence::domain::{Input, InputKind, Rules, Status, StatusUpdate, Timestamp, Traceparent, UserId};
use presence::events::{Event, EventPublisher, PublishError};
use presence::service::UserInput;
use presence::store::{MemoryStore, PresenceStore, RedisConfig, RedisStore, StoreError};
use presence::{PresenceService, Sweeper};
use presence_tests::{Cluster, Store, now_ms};
use uuid::Uuid;

/// After so long without a heartbeat a session is over.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(45);

/// Runs a story in a world of each store.
pub(crate) async fn on_each_store(story: impl AsyncFn(&World)) {
    let start = Timestamp::from_millis(now_ms());
    story(&World::over(Arc::new(MemoryStore::new(Rules::default())), start)).await;
    story(&World::on(&Store::start_single().await)).await;
    story(&World::on_cluster(&Cluster::start().await)).await;
}

/// A user whom nobody knows yet.
pub(crate) fn somebody() -> UserId {
    UserId::new(Uuid::new_v4())
}

/// A session's connection opens.
pub(crate) fn opens(id: &str) -> InputKind {
    InputKind::Opened { session_id: id.parse().unwrap(), platform: None, status: None }
}

/// A session's connection closes in good order.
pub(crate) fn closes(id: &str) -> InputKind {
    InputKind::Closed { session_id: id.parse().unwrap(), abnormal: false }
}

/// A session gives a sign of life.
pub(crate) fn beats(id: &str) -> InputKind {
    InputKind::Heartbeat { session_id: id.parse().unwrap(), platform: None }
}

/// Many users who come online at this moment, one session each.
pub(crate) async fn all_open(world: &World, users: &[UserId]) {
    let opens = |user: &UserId| UserInput {
        user_id: *user,
        input: Input { at: world.now(), kind: opens("a") },
        traceparent: None,
    };
    let inputs: Vec<UserInput> = users.iter().map(opens).collect();
    assert!(world.service.apply(&inputs).await.iter().all(Result::is_ok));
}

/// How others see the user now.
pub(crate) async fn status(world: &World, user: UserId) -> Status {
    world.service.presence(somebody(), user).await.unwrap().status
}

/// What was told since the last call: of whom, and which status, in its order.
pub(crate) fn told(world: &World) -> Vec<(UserId, String)> {
    let look = |event: &presence::events::Event| {
        let frame: serde_json::Value = serde_json::from_slice(&event.frame).unwrap();
        (event.user_id, frame["d"]["status"].as_str().unwrap().to_owned())
    };
    world.told.take().iter().map(look).collect()
}

/// A service and everything around it.
pub(crate) struct World {
    pub(crate) service: Arc<PresenceService>,
    pub(crate) store: Arc<dyn PresenceStore>,
    pub(crate) sweeper: Sweeper,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) told: Arc<Recorder>,
}

/// Stands still until it is turned.
pub(crate) struct HandClock(AtomicI64);

/// Writes down what it is given, unless it is away.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    away: AtomicBool,
}

/// How far the clock that is turned by hand is ahead of the store's, which goes on by itself: what is decided by the one
/// must not come too late by the other.
const AHEAD: Duration = Duration::from_secs(3600);

impl World {
    pub(crate) fn over(store: Arc<dyn PresenceStore>, start: Timestamp) -> Self {
        Self::at(store, start + AHEAD)
    }

    /// By a clock that shows this moment, such as another world's.
    pub(crate) fn at(store: Arc<dyn PresenceStore>, now: Timestamp) -> Self {
        let clock = Arc::new(HandClock(AtomicI64::new(now.millis())));
        let told = Arc::new(Recorder::default());
        let service = PresenceService::with_clock(store.clone(), told.clone(), clock.clone(), Rules::default());
        let service = Arc::new(service);
        Self { sweeper: Sweeper::new(service.clone()), service, store, clock, told }
    }

    pub(crate) fn on(server: &Store) -> Self {
        Self::configured(&RedisConfig {
            url: server.url(),
            cluster: server.is_cluster(),
            wait_replicas: 0,
            replica_url: None,
        })
    }

    pub(crate) fn on_cluster(cluster: &Cluster) -> Self {
        Self::configured(&RedisConfig { url: cluster.url(), cluster: true, wait_replicas: 0, replica_url: None })
    }

    fn configured(config: &RedisConfig) -> Self {
        let redis = RedisStore::new(config, Rules::default()).unwrap();
        Self::over(Arc::new(redis), Timestamp::from_millis(now_ms()))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.0.load(Ordering::SeqCst))
    }

    pub(crate) fn turn(&self, by: Duration) {
        self.clock.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }

    /// One input that happens now.
    pub(crate) async fn happens(&self, user_id: UserId, kind: InputKind) {
        let input = UserInput { user_id, input: Input { at: self.now(), kind }, traceparent: None };
        self.service.apply(&[input]).await.pop().unwrap().unwrap();
    }

    pub(crate) async fn update(
        &self,
        user: UserId,
        update: StatusUpdate,
    ) -> Result<presence::domain::Presence, presence::Error> {
        self.service.update_status(user, update, Traceparent::generate()).await
    }
}

#[async_trait]
impl Clock for HandClock {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_millis(self.0.load(Ordering::SeqCst)))
    }
}

impl Recorder {
    /// What was told since the last call.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }
}

#[async_trait]
impl EventPublisher for Recorder {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        if self.away.load(Ordering::SeqCst) {
            return events.iter().map(|_| Err(PublishError("away".to_owned()))).collect();
        }
        self.events.lock().unwrap().extend_from_slice(events);
        events.iter().map(|_| Ok(())).collect()
    }

    async fn is_ready(&self) -> bool {
        !self.away.load(Ordering::SeqCst)
    }
}
