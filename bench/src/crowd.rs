//! Many users of one service in this process, over a store that holds nothing else, and a clock that is turned by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use presence::clock::{Clock, StoreClock};
use presence::domain::{Input, InputKind, Rules, SessionId, Timestamp, UserId};
use presence::events::{Event, EventPublisher, PublishError};
use presence::service::UserInput;
use presence::store::{PresenceStore, RedisConfig, RedisStore, StoreError};
use presence::{ErrorKind, PresenceService};
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

use crate::population;
use crate::stage::{Kept, Stage};

/// How many inputs a batch has, as from a consumer.
pub(crate) const BATCH: usize = 1000;
/// How many batches are under way at once, if the store is quick enough.
pub(crate) const AT_ONCE: usize = 4;
/// A batch should not take longer: the store's deadline of a command is 500 ms, and a command waits for all before it.
const IN_TIME: Duration = Duration::from_millis(150);

/// How far the clock that is turned by hand is ahead of the store's, which goes on by itself: what is decided by the one
/// must not come too late by the other, however long it takes.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// A user and the one session that they have.
pub(crate) type Member = (UserId, SessionId);

/// The users, the service and the ways to look at it.
pub(crate) struct Crowd {
    pub(crate) service: Arc<PresenceService>,
    pub(crate) redis: MultiplexedConnection,
    pub(crate) users: Vec<Member>,
    pub(crate) clock: Arc<TurnedClock>,
    /// Inputs that the store had no time for, and that were offered again.
    again: AtomicU64,
}

/// A clock that stands where it was turned to, so that nobody's time is up because a round took long.
pub(crate) struct TurnedClock(AtomicI64);

/// Takes every event, and tells nobody.
struct Nobody;

impl Crowd {
    /// An empty store, and users whom nobody knows yet. Nobody hears of events.
    pub(crate) async fn gather(stage: &Stage, users: usize, kept: Kept) -> Self {
        Self::with_publisher(stage, users, kept, Arc::new(Nobody)).await
    }

    /// The same with somebody else to carry the events.
    pub(crate) async fn with_publisher(
        stage: &Stage,
        users: usize,
        kept: Kept,
        publisher: Arc<dyn EventPublisher>,
    ) -> Self {
        let redis = stage.empty(kept).await;
        let rules = Rules::default();
        let store = store(stage, rules);
        let clock = Arc::new(TurnedClock(AtomicI64::new((store.time().await.unwrap() + AHEAD).millis())));
        let service = Arc::new(PresenceService::with_clock(store, publisher, clock.clone(), rules));
        Self { service, redis, users: strangers(users), clock, again: AtomicU64::new(0) }
    }

    /// Applies one input of each user, in batches. As many batches are under way as end in time, and what the store had
    /// no time for is offered again, as a consumer does.
    pub(crate) async fn apply(&self, users: &[Member], kind: fn(&SessionId) -> InputKind) {
        let at = self.service.now().await.unwrap();
        self.again.fetch_add(apply(&self.service, users, kind, at).await, Ordering::Relaxed);
    }

    /// Everyone opens their connection.
    pub(crate) async fn open_all(&self) {
        self.apply(&self.users, opens).await;
    }

    /// Everyone is online, by a short cut.
    pub(crate) async fn bring_online(&self) {
        self.apply(&self.users[..1], opens).await;
        population::copy(&self.redis, self.users[0].0, &self.users[1..]).await;
    }

    /// A sentence for the report if the store had no time for some inputs.
    pub(crate) fn remark(&self) -> Option<String> {
        let again = self.again.load(Ordering::Relaxed);
        (again > 0).then(|| format!("{again} inputs found the store too busy and were offered again."))
    }
}

/// Users online in the store by its own clock, for a process to find: nobody is told of them.
pub(crate) async fn open_online(stage: &Stage, users: &[Member], rules: Rules) {
    let store = store(stage, rules);
    let clock = Arc::new(StoreClock::new(store.clone()));
    let service = PresenceService::with_clock(store, Arc::new(Nobody), clock, rules);
    let at = service.now().await.unwrap();
    apply(&service, &users[..1], opens, at).await;
    population::copy(&stage.redis().await, users[0].0, &users[1..]).await;
}

/// So many users whom nobody knows. Their sessions have one name, which is each user's own affair.
pub(crate) fn strangers(count: usize) -> Vec<Member> {
    let session: SessionId = Uuid::new_v4().to_string().parse().unwrap();
    (0..count).map(|_| (UserId::new(Uuid::new_v4()), session.clone())).collect()
}

fn store(stage: &Stage, rules: Rules) -> Arc<dyn PresenceStore> {
    let config =
        RedisConfig { url: stage.servers.redis_url.clone(), cluster: false, wait_replicas: 0, replica_url: None };
    Arc::new(RedisStore::new(&config, rules).unwrap())
}

/// How many inputs had to be offered again.
async fn apply(service: &PresenceService, users: &[Member], kind: fn(&SessionId) -> InputKind, at: Timestamp) -> u64 {
    let mut batches = users.chunks(BATCH);
    let (mut under_way, mut allowed, mut again) = (FuturesUnordered::new(), AT_ONCE, 0);
    loop {
        while under_way.len() < allowed
            && let Some(batch) = batches.next()
        {
            under_way.push(apply_batch(service, batch, kind, at));
        }
        let Some((took, refused)) = under_way.next().await else { return again };
        allowed = if took > IN_TIME { (allowed / 2).max(1) } else { (allowed + 1).min(AT_ONCE) };
        again += refused;
    }
}

async fn apply_batch(
    service: &PresenceService,
    users: &[Member],
    kind: fn(&SessionId) -> InputKind,
    at: Timestamp,
) -> (Duration, u64) {
    let input = |(user_id, session): &Member| UserInput {
        user_id: *user_id,
        input: Input { at, kind: kind(session) },
        traceparent: None,
    };
    let start = Instant::now();
    let mut inputs: Vec<UserInput> = users.iter().map(input).collect();
    let mut again = 0;
    loop {
        let results = service.apply(&inputs).await;
        let refused = inputs.into_iter().zip(results).filter_map(|(input, result)| match result {
            Ok(()) => None,
            Err(error) if error.kind() == ErrorKind::Unavailable => Some(input),
            Err(error) => unreachable!("an input that can't be decided: {error}"),
        });
        inputs = refused.collect();
        if inputs.is_empty() {
            return (start.elapsed(), again);
        }
        again += inputs.len() as u64;
        assert!(again < 100 * users.len() as u64, "the store is away");
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

impl TurnedClock {
    pub(crate) fn turn_ms(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for TurnedClock {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_millis(self.0.load(Ordering::Relaxed)))
    }
}

#[async_trait]
impl EventPublisher for Nobody {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        events.iter().map(|_| Ok(())).collect()
    }

    async fn is_ready(&self) -> bool {
        true
    }
}
