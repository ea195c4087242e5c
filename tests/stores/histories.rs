//! Random histories, lived through on both stores at once: every answer, every event and every read must be the same,
//! and the documented fields in Redis must say what the API says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use presence::domain::{
    ActivityKind, ActivityUpdate, ChannelId, Input, InputKind, Intent, Platform, Presence, Rules, SessionId,
    StatusUpdate, Timestamp, Traceparent, UserId,
};
use presence::events::Event;
use presence::service::UserInput;
use presence::store::{MemoryStore, shard_of};
use presence_tests::{Cluster, Moving, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use redis::AsyncCommands;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::world::World;

const USERS: usize = 3;

/// One step of a history. Users and sessions are few, so that steps meet.
#[derive(Debug, Clone)]
enum Step {
    /// Inputs of one batch, each of a user and so many milliseconds old.
    Inputs(Vec<(usize, i64, InputKind)>),
    Update(usize, StatusUpdate),
    Type(usize),
    /// Time passes.
    Wait(Duration),
    Sweep,
    /// The publisher goes away, or comes back.
    Publisher(bool),
}

/// What one world did in one step.
#[derive(Debug, PartialEq)]
struct Outcome {
    answer: Result<Option<Presence>, presence::ErrorKind>,
    told: BTreeMap<UserId, Vec<(String, String)>>,
    looks: Vec<Presence>,
    typing: Vec<UserId>,
}

fn session() -> impl Strategy<Value = SessionId> {
    prop_oneof!["a", "b", "c"].prop_map(|id| id.parse().unwrap())
}

fn intent() -> impl Strategy<Value = Intent> {
    prop_oneof![Just(Intent::Online), Just(Intent::Idle), Just(Intent::Dnd), Just(Intent::Invisible)]
}

fn platform() -> impl Strategy<Value = Option<Platform>> {
    prop_oneof![Just(None), Just(Some(Platform::Desktop)), Just(Some(Platform::Mobile))]
}

fn input() -> impl Strategy<Value = InputKind> {
    let voice =
        |id: SessionId| InputKind::VoiceCreated { session_id: id, name: "Lounge, the big one".parse().unwrap() };
    prop_oneof![
        3 => (session(), platform(), proptest::option::weighted(0.2, intent()))
            .prop_map(|(session_id, platform, status)| InputKind::Opened { session_id, platform, status }),
        2 => (session(), any::<bool>()).prop_map(|(session_id, abnormal)| InputKind::Closed { session_id, abnormal }),
        4 => (session(), platform()).prop_map(|(session_id, platform)| InputKind::Heartbeat { session_id, platform }),
        1 => session().prop_map(voice),
        1 => session().prop_map(|session_id| InputKind::VoiceEnded { session_id }),
    ]
}

/// Mostly fresh, sometimes late, sometimes too late.
fn age() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0), 2 => 0..20_000_i64, 1 => 44_000..46_000_i64]
}

fn update() -> impl Strategy<Value = StatusUpdate> {
    let words = prop_oneof![
        Just("At work"),
        Just("😀,=;{} \"quoted\""),
        Just("a text that is longer than 64 bytes, which is kept apart from others")
    ];
    let words = words.prop_map(|text| Some(text.parse().unwrap()));
    let activity = prop_oneof![Just("Chess"), Just("Go, the game")]
        .prop_map(|name| Some(ActivityUpdate { kind: ActivityKind::Playing, name: name.parse().unwrap() }));
    let custom_status = proptest::option::weighted(0.4, prop_oneof![3 => words, 1 => Just(None)]);
    let activity = proptest::option::weighted(0.4, prop_oneof![3 => activity, 1 => Just(None)]);
    (proptest::option::weighted(0.7, intent()), custom_status, activity)
        .prop_map(|(status, custom_status, activity)| StatusUpdate { status, custom_status, activity })
}

/// Time steps that fall on, just before and just after the moments at which something ends.
fn wait() -> impl Strategy<Value = Duration> {
    let moments =
        prop_oneof![Just(1_000), Just(2_000), Just(5_000), Just(15_000), Just(20_000), Just(30_000), Just(45_000)];
    (moments, -1_i64..=1).prop_map(|(moment, off)| Duration::from_millis((moment + off) as u64))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec((0..USERS, age(), input()), 1..5).prop_map(Step::Inputs),
        3 => (0..USERS, update()).prop_map(|(user, update)| Step::Update(user, update)),
        1 => (0..USERS).prop_map(Step::Type),
        4 => wait().prop_map(Step::Wait),
        2 => Just(Step::Sweep),
        1 => any::<bool>().prop_map(Step::Publisher),
    ]
}

async fn live(world: &World, users: &[UserId], channel: ChannelId, step: &Step) -> Outcome {
    let mut answer = Ok(None);
    match step {
        Step::Inputs(inputs) => {
            let now = world.now();
            let input = |(user, age, kind): &(usize, i64, InputKind)| UserInput {
                user_id: users[*user],
                input: Input { at: Timestamp::from_millis(now.millis() - age), kind: kind.clone() },
                traceparent: None,
            };
            for result in world.service.apply(&inputs.iter().map(input).collect::<Vec<_>>()).await {
                result.unwrap();
            }
        }
        Step::Update(user, update) => {
            answer = world.update(users[*user], update.clone()).await.map(Some).map_err(|error| error.kind());
        }
        Step::Type(user) => {
            world.service.start_typing(users[*user], channel, Traceparent::generate()).await.unwrap();
        }
        Step::Wait(duration) => world.turn(*duration),
        Step::Sweep => drop(world.sweeper.tick().await.unwrap()),
        Step::Publisher(away) => world.told.set_away(*away),
    }
    let mut told: BTreeMap<UserId, Vec<(String, String)>> = BTreeMap::new();
    for Event { user_id, id, frame, .. } in world.told.take() {
        told.entry(user_id).or_default().push((id, String::from_utf8(frame.to_vec()).unwrap()));
    }
    let mut looks = world.service.presences(Uuid::nil().to_string().parse().unwrap(), users).await.unwrap();
    for user in users {
        looks.push(world.service.presence(*user, *user).await.unwrap());
    }
    let typing = world.service.typing(channel).await.unwrap();
    Outcome { answer, told, looks, typing: typing.into_iter().map(|typist| typist.user_id).collect() }
}

/// After a sweep nothing is left to account for, so the documented fields say what a read says.
async fn check_documented_fields(redis: &mut impl AsyncCommands, looks: &[Presence]) {
    for look in looks {
        let fields: HashMap<String, String> = redis.hgetall(format!("presence:user:{}", look.user_id)).await.unwrap();
        if fields.is_empty() {
            assert_eq!(look.status.as_str(), "offline");
            continue;
        }
        let field = |name: &str| fields.get(name).cloned();
        let activity = look.activity.as_ref();
        assert_eq!(field("status").as_deref(), Some(look.status.as_str()));
        assert_eq!(field("custom_status"), look.custom_status.as_ref().map(ToString::to_string));
        assert_eq!(field("activity_type").as_deref(), activity.map(|activity| activity.kind.as_str()));
        assert_eq!(field("activity_name"), activity.map(|activity| activity.name.to_string()));
        assert_eq!(field("activity_started_at"), activity.map(|activity| activity.started_at.seconds().to_string()));
        assert_eq!(field("last_seen"), look.last_seen.map(|seen| seen.seconds().to_string()));
    }
}

fn users() -> Vec<UserId> {
    (0..USERS).map(|_| UserId::new(Uuid::new_v4())).collect()
}

/// Lives through a history on the memory store and on another, which holds nothing else.
async fn compare(
    steps: &[Step],
    users: &[UserId],
    other: &World,
    redis: &mut impl AsyncCommands,
) -> Result<(), TestCaseError> {
    let memory = World::at(Arc::new(MemoryStore::new(Rules::default())), other.now());
    let channel: ChannelId = Uuid::new_v4().to_string().parse().unwrap();
    for step in steps {
        let expected = live(&memory, users, channel, step).await;
        let actual = live(other, users, channel, step).await;
        prop_assert_eq!(&expected, &actual, "after {:?}", step);
        if matches!(step, Step::Sweep) {
            check_documented_fields(redis, &actual.looks[..USERS]).await;
        }
    }
    Ok(())
}

fn for_any_history(cases: u32, lives: impl Fn(Vec<Step>) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    if let Err(failure) = TestRunner::new(config).run(&vec(step(), 1..40), lives) {
        panic!("{failure}");
    }
}

#[test]
fn any_history_is_the_same_on_both_stores() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(Store::start());
    let connection = runtime.block_on(server.connect());
    for_any_history(200, |steps| {
        runtime.block_on(async {
            let mut connection = connection.clone();
            redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
            compare(&steps, &users(), &World::on(&server), &mut connection).await
        })
    });
}

/// A slot that moves serves its users all the while.
#[test]
fn any_history_is_the_same_in_a_cluster_whose_slots_move() {
    let runtime = Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start());
    let connection = runtime.block_on(cluster.connect());
    let moves = AtomicUsize::new(0);
    for_any_history(30, |steps| {
        runtime.block_on(async {
            cluster.flush().await;
            let (users, world) = (users(), World::on_cluster(&cluster));
            let shards = users.iter().map(|user| shard_of(*user));
            let indexes =
                shards.flat_map(|shard| ["deadlines", "reminders"].map(|index| format!("presence:{index}:{shard}")));
            let keys: Vec<String> = users.iter().map(|user| format!("presence:user:{user}")).chain(indexes).collect();
            let slots = Moving { keys, ..Moving::default() };
            let mut connection = connection.clone();
            let lived = cluster.while_slots_move(&slots, compare(&steps, &users, &world, &mut connection)).await;
            moves.fetch_add(slots.moved.into_inner(), Ordering::Relaxed);
            lived
        })
    });
    let moves = moves.into_inner();
    assert!(moves > 100, "only {moves} slots moved meanwhile");
}
