//! A process dies at every point between write, publish and confirm, over fifty thousand transitions on each store: each
//! is told, in order, as if nobody had died.
//!
//! Two worlds live through the same history by the same clock: one over the store in memory in which nobody dies, and
//! one over Redis in which processes die all the time, at the calls of the store and of the publisher, in the middle of
//! them, and by a connection that ends after any number of bytes, and where some events do not get across. What is told of each user must be the same, byte for
//! byte, but for what is told twice.
//!
//! Seen to fail with: a commit without its reminder (`remind_at: None` in decide.rs), a change that is told before the one
//! before it has arrived (decide.rs), and a deadline that is not noted again by whoever finishes a change
//! (`concerns_deadlines` in store/mod.rs). That the reminder is written before the record has a test of its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures::StreamExt;
use futures::future::join_all;
use presence::domain::{
    ActivityKind, ActivityUpdate, Input, InputKind, Intent, Platform, Presence, Rules, SessionId, StatusUpdate,
    Timestamp, UserId,
};
use presence::events::Event;
use presence::service::UserInput;
use presence::store::{Index, Loaded, MemoryStore, PresenceStore, RedisConfig, RedisStore, SHARDS};
use presence::sweeper::Swept;
use presence::{PresenceService, Sweeper};
use presence_tests::{Direction, Fault, Proxy, Store, eventually, now_ms, seen, setting};
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;
use uuid::Uuid;

use crate::mortal::{Death, MortalPublisher, MortalStore};
use crate::world::{Recorder, World, opens, somebody};

const USERS: usize = 400;
/// A process passes fewer points than this in one piece of work.
const POINTS: i64 = 14;
/// A batch is fewer bytes than this on its way to Redis.
const BYTES: usize = 400_000;
/// By then everything that could not be told is tried again.
const LONGEST_REMINDER: Duration = Duration::from_secs(31);
/// How often what was told is compared: after so many pieces of work.
const CHAPTER: usize = 12;
/// By then a store that lives has answered, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A world in which processes die.
struct DyingWorld {
    server: Store,
    proxy: Proxy,
    /// Look inside and never die.
    store: Arc<RedisStore>,
    redis: MultiplexedConnection,
    death: Arc<Death>,
    told: Arc<Recorder>,
    cut: usize,
}

/// One process of it.
struct Process {
    service: Arc<PresenceService>,
    sweeper: Sweeper,
}

impl DyingWorld {
    async fn start() -> Self {
        let server = Store::start_single().await;
        let proxy = Proxy::to(server.port()).await;
        let store = Arc::new(redis_at(&server, server.port()));
        store.time().await.unwrap();
        let mut redis = server.connect_node().await;
        // It is processes that die here: what the server has stays.
        redis::cmd("CONFIG").arg("SET").arg("appendonly").arg("no").exec_async(&mut redis).await.unwrap();
        Self { server, proxy, store, redis, death: Death::never(), told: Arc::default(), cut: 0 }
    }

    fn process(&self, clocked: &World) -> Process {
        let redis = Arc::new(redis_at(&self.server, self.proxy.port()));
        let store = Arc::new(MortalStore { store: redis, death: self.death.clone() });
        let events = Arc::new(MortalPublisher { events: self.told.clone(), death: self.death.clone() });
        let service = PresenceService::with_clock(store, events, clocked.clock.clone(), Rules::default());
        let service = Arc::new(service);
        Process { sweeper: Sweeper::new(service.clone()), service }
    }

    /// One sweep of a process that does not die. On a busy machine it may have no answer in time, as in any other.
    async fn sweep(&self, clocked: &World) -> Swept {
        eventually("a sweep", PATIENCE, async || self.process(clocked).sweeper.tick().await).await
    }

    /// Lets a process do one piece of work in the middle of which it may die. True if it lived.
    async fn lives(&mut self, rng: &mut Rng, work: impl Future<Output = bool>) -> bool {
        let (points, part) = (rng.i64(1..=POINTS), rng.u64(0..=1024));
        self.death.set_refusal((rng.u8(..4) == 0).then(|| rng.fork()));
        let lived = self.may_die(rng, points, part, work).await;
        self.death.set_refusal(None);
        lived
    }

    async fn may_die(&mut self, rng: &mut Rng, points: i64, part: u64, work: impl Future<Output = bool>) -> bool {
        if rng.u8(..8) > 0 {
            return self.death.after(points, part, work).await.unwrap_or(false);
        }
        let way = if rng.bool() { Direction::Request } else { Direction::Reply };
        self.proxy.set(Fault::CutAfter(way, rng.usize(..BYTES)));
        let lived = tokio::select! {
            biased;
            () = self.proxy.cut() => false,
            lived = work => lived,
        };
        self.cut += usize::from(!lived);
        self.proxy.set(Fault::None);
        lived
    }

    /// Waits until Redis has seen the end of every process, and so everything that they sent before.
    async fn until_gone(&self) {
        eventually("the connections of dead processes to end", Duration::from_secs(10), async || {
            let mut redis = self.redis.clone();
            let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
            // This one, and that of the store that looks inside.
            seen(clients.lines().count() == 2, clients)
        })
        .await;
    }
}

fn redis_at(server: &Store, port: u16) -> RedisStore {
    let config = RedisConfig { url: server.url_through(port), cluster: false, wait_replicas: 0, replica_url: None };
    RedisStore::new(&config, Rules::default()).unwrap()
}

/// What gateways tell of a crowd at one moment, mostly of changes that others see.
fn messages(rng: &mut Rng, users: &[UserId], now: Timestamp) -> Vec<UserInput> {
    let mut inputs = Vec::new();
    for user in users {
        let count = [0, 1, 1, 1, 1, 1, 1, 1, 1, 2][rng.usize(..10)];
        for _ in 0..count {
            let age = if rng.u8(..8) == 0 { rng.u64(..40_000) } else { 0 };
            let input = Input { at: now - Duration::from_millis(age), kind: message(rng) };
            inputs.push(UserInput { user_id: *user, input, traceparent: None });
        }
    }
    inputs
}

fn message(rng: &mut Rng) -> InputKind {
    // A session runs in one place, and its gateway says where.
    let (session_id, platform) =
        [("a", Platform::Desktop), ("b", Platform::Mobile), ("c", Platform::Web)][rng.usize(..3)];
    let (session_id, platform): (SessionId, _) = (session_id.parse().unwrap(), Some(platform));
    match rng.u8(..10) {
        0..4 => {
            let intents = [Intent::Online, Intent::Idle, Intent::Dnd, Intent::Invisible];
            InputKind::Opened { session_id, platform, status: rng.bool().then(|| intents[rng.usize(..4)]) }
        }
        4..7 => InputKind::Closed { session_id, abnormal: rng.u8(..4) == 0 },
        7 => InputKind::Heartbeat { session_id, platform },
        8 => InputKind::VoiceCreated { session_id, name: "Lounge".parse().unwrap() },
        _ => InputKind::VoiceEnded { session_id },
    }
}

/// What the users choose over HTTP at one moment.
fn choices(rng: &mut Rng, users: &[UserId], now: Timestamp) -> Vec<UserInput> {
    let choice = |(place, user): (usize, &UserId)| {
        let intents = [Intent::Online, Intent::Idle, Intent::Dnd, Intent::Invisible];
        let status = (rng.u8(..3) > 0).then(|| intents[rng.usize(..16).min(3)]);
        let words = format!("number {place} at {now}").parse().unwrap();
        let activity = ActivityUpdate { kind: ActivityKind::Playing, name: "Chess".parse().unwrap() };
        let activity = (rng.u8(..4) == 0).then(|| rng.bool().then_some(activity));
        let update = StatusUpdate { status, custom_status: Some(Some(words)), activity };
        let input = Input { at: now, kind: InputKind::StatusUpdated(update) };
        UserInput { user_id: *user, input, traceparent: None }
    };
    users.iter().enumerate().map(choice).collect()
}

async fn decides(service: &PresenceService, inputs: &[UserInput]) -> bool {
    service.apply(inputs).await.iter().all(Result::is_ok)
}

/// Messages come again until a process has lived through them.
async fn live_messages(dying: &mut DyingWorld, calm: &World, rng: &mut Rng, inputs: &[UserInput]) {
    assert!(decides(&calm.service, inputs).await);
    let mut is_first = true;
    loop {
        let process = dying.process(calm);
        let work = decides(&process.service, inputs);
        let lived = if is_first || rng.u8(..4) == 0 { dying.lives(rng, work).await } else { work.await };
        if lived {
            return;
        }
        is_first = false;
    }
}

/// On one server both are sent together, so that a connection hardly ever breaks just in between.
#[tokio::test]
async fn a_change_reaches_the_store_after_its_reminder() {
    let server = Store::start_single().await;
    let world = World::on(&server);
    // From here on the store knows the scripts.
    world.happens(somebody(), opens("a")).await;
    let client = redis::Client::open(server.admin_url()).unwrap();
    let mut commands = pin!(client.get_async_monitor().await.unwrap().into_on_message::<String>());
    let user = somebody();
    world.happens(user, opens("a")).await;
    let mut reminded = false;
    loop {
        let command = timeout(PATIENCE, commands.next()).await.expect("the change").expect("a store that lives");
        reminded |= command.contains("\"ZADD\" \"presence:reminders:");
        if command.contains(&format!("\"HSET\" \"presence:user:{user}\"")) {
            break;
        }
    }
    assert!(reminded, "a crash would have left a change that nobody is reminded of");
}

/// Nobody repeats a request of which the answer never came. It took effect, or it did not; if it did, all of it did.
async fn live_choices(dying: &mut DyingWorld, calm: &World, rng: &mut Rng, inputs: &[UserInput]) {
    let process = dying.process(calm);
    let _ = dying.lives(rng, decides(&process.service, inputs)).await;
    drop(process);
    dying.until_gone().await;
    let users: Vec<UserId> = inputs.iter().map(|input| input.user_id).collect();
    let stored = eventually("the store to answer", PATIENCE, async || {
        dying.store.load(&users).await.into_iter().collect::<Result<Vec<Loaded>, _>>()
    })
    .await;
    let took_effect =
        |(input, stored): (&UserInput, Loaded)| stored.record.updates.contains(&input.input.at).then(|| input.clone());
    let effective: Vec<UserInput> = inputs.iter().zip(stored).filter_map(took_effect).collect();
    assert!(decides(&calm.service, &effective).await);
}

/// Sweeps both worlds; a sweeper that died, or had no answer in time, is followed by one that lives.
async fn sweep(dying: &mut DyingWorld, calm: &World, rng: &mut Rng) {
    calm.sweeper.tick().await.unwrap();
    let process = dying.process(calm);
    if !dying.lives(rng, async { process.sweeper.tick().await.is_ok() }).await {
        dying.sweep(calm).await;
    }
}

/// What was told of each user, once each, in the order of its first telling.
fn told_once(events: Vec<Event>) -> BTreeMap<UserId, Vec<(String, String)>> {
    let mut frames: HashMap<String, String> = HashMap::new();
    let mut told: BTreeMap<UserId, Vec<(String, String)>> = BTreeMap::new();
    for Event { user_id, id, frame, .. } in events {
        let frame = String::from_utf8(frame.to_vec()).unwrap();
        match frames.insert(id.clone(), frame.clone()) {
            None => told.entry(user_id).or_default().push((id, frame)),
            Some(before) => assert_eq!(before, frame, "what is told again is the same"),
        }
    }
    // Status and activity of one change go over different subjects.
    for told in told.values_mut() {
        told.chunk_by_mut(|one, next| change_of(&one.0) == change_of(&next.0)).for_each(<[_]>::sort);
    }
    told
}

/// The user and the version in an event's id.
fn change_of(id: &str) -> &str {
    id.rsplit_once(':').unwrap().0
}

/// Waits for nobody: turns the clock to where every reminder is due, sweeps, and compares.
async fn end_chapter(
    dying: &DyingWorld,
    calm: &World,
    users: &[UserId],
    last: &mut HashMap<UserId, Presence>,
) -> usize {
    calm.turn(LONGEST_REMINDER);
    calm.sweeper.tick().await.unwrap();
    while dying.sweep(calm).await != Swept::default() {}
    let later = calm.now() + Duration::from_secs(3600);
    let left = eventually("the store to answer", PATIENCE, async || {
        let reminders = (0..SHARDS).map(|shard| dying.store.due(Index::Reminders, shard, later, 9));
        join_all(reminders).await.into_iter().collect::<Result<Vec<_>, _>>()
    })
    .await;
    assert_eq!(left.concat(), [], "nothing is left to be told");

    let (expected, actual) = (told_once(calm.told.take()), told_once(dying.told.take()));
    let strangers: HashSet<&UserId> = actual.keys().filter(|user| !expected.contains_key(user)).collect();
    assert!(strangers.is_empty(), "told of users of whom there is nothing to tell: {strangers:?}");
    let mut versions = HashSet::new();
    for (user, expected) in &expected {
        let actual = actual.get(user).map_or(&[][..], Vec::as_slice);
        let same = expected.iter().zip(actual).take_while(|(one, other)| one == other).count();
        let (missing, instead) = (&expected[same..], &actual[same..]);
        assert_eq!(
            missing.get(..2.min(missing.len())),
            instead.get(..2.min(instead.len())),
            "told of a user, in order"
        );
        for (id, frame) in expected {
            versions.insert(change_of(id).to_owned());
            let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
            last.insert(*user, serde_json::from_value(frame["d"].clone()).unwrap());
        }
    }
    let reader = UserId::new(Uuid::nil());
    let service = dying.process(calm).service;
    let reads = eventually("the store to answer", PATIENCE, async || service.presences(reader, users).await).await;
    for read in reads {
        let Some(told) = last.get(&read.user_id) else { continue };
        let told = Presence { last_seen: read.last_seen, ..told.clone() };
        assert_eq!(told, read, "the last event is the state");
    }
    versions.len()
}

#[tokio::test]
async fn every_transition_is_told_in_order_wherever_processes_die() {
    let wanted = setting("CRASH_TRANSITIONS", 50_000);
    let seed = setting("SEED", now_ms() as u64);
    println!("PRESENCE_TEST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let users: Vec<UserId> = (0..USERS).map(|_| UserId::new(Uuid::from_u128(rng.u128(..)))).collect();
    let calm = World::over(Arc::new(MemoryStore::new(Rules::default())), Timestamp::from_millis(now_ms()));
    let mut dying = DyingWorld::start().await;
    let mut last = HashMap::new();
    let mut transitions = 0;
    while transitions < wanted {
        for _ in 0..CHAPTER {
            // Sometimes so long that everyone's sessions end.
            calm.turn(Duration::from_millis(if rng.u8(..12) == 0 { 46_000 } else { rng.u64(1..9000) }));
            match rng.u8(..8) {
                0..4 => {
                    let inputs = messages(&mut rng, &users, calm.now());
                    live_messages(&mut dying, &calm, &mut rng, &inputs).await;
                }
                4..7 => {
                    let inputs = choices(&mut rng, &users, calm.now());
                    live_choices(&mut dying, &calm, &mut rng, &inputs).await;
                }
                _ => sweep(&mut dying, &calm, &mut rng).await,
            }
        }
        transitions += end_chapter(&dying, &calm, &users, &mut last).await;
    }
    let places = dying.death.places();
    println!("{transitions} transitions; processes died at {places:?}, and {} by a cut connection", dying.cut);
    let calls =
        ["commit", "publish", "finish"].map(|call| ["before", "within", "after"].map(|at| format!("{call}.{at}")));
    // A few transitions come by few of them.
    for place in calls.as_flattened().iter().filter(|_| wanted >= 30_000) {
        assert!(places.get(place.as_str()).is_some_and(|died| *died > 0), "too few died at {place}");
    }
    assert!(dying.cut > 0 || wanted < 30_000);
}
