//! Bulk reads from a replica: it answers while it has everything, and whatever becomes of it, no read goes back.

use std::sync::Arc;
use std::time::Duration;

use presence::domain::{Input, InputKind, Presence, Rules, Status, StatusUpdate, Timestamp, UserId};
use presence::service::UserInput;
use presence::store::{RedisConfig, RedisStore};
use presence_tests::{Fault, Proxy, Store, eventually, now_ms, seen};

use crate::world::{World, beats, closes, opens, somebody};

const USERS: usize = 40;
/// How long a replica may take to be asked again, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a read takes that asks a replica in vain, and less than the replica's connection would take to give up.
const BOUND: Duration = Duration::from_millis(900);

/// A primary and its replica, either way to which may break.
struct Pair {
    primary: Store,
    replica: Store,
    /// By which the replica hears of the primary.
    link: Proxy,
    /// By which it is read.
    way: Proxy,
    world: World,
    users: Vec<UserId>,
}

impl Pair {
    /// Everyone is online, and the replica answers.
    async fn begin() -> Self {
        let primary = Store::start_single().await;
        let link = Proxy::to(primary.port()).await;
        let replica = primary.start_replica(link.port()).await;
        // A primary that nobody writes to tells its replicas nothing either, or a test would wait for it by chance.
        configure(&primary, "repl-ping-replica-period", "3600").await;
        for server in [&primary, &replica] {
            server.allow(&["+info|replication"]).await;
        }
        let way = Proxy::to(replica.port()).await;
        let config = RedisConfig {
            url: primary.url(),
            cluster: false,
            wait_replicas: 0,
            replica_url: Some(replica.url_through(way.port())),
        };
        let store = RedisStore::new(&config, Rules::default()).unwrap();
        let world = World::over(Arc::new(store), Timestamp::from_millis(now_ms()));
        let pair = Self { primary, replica, link, way, world, users: (0..USERS).map(|_| somebody()).collect() };
        pair.all(opens("a")).await;
        pair.until_replica_answers(Status::Online).await;
        pair
    }

    async fn all(&self, kind: InputKind) {
        let input = |user_id: &UserId| UserInput {
            user_id: *user_id,
            input: Input { at: self.world.now(), kind: kind.clone() },
            traceparent: None,
        };
        let inputs: Vec<UserInput> = self.users.iter().map(input).collect();
        self.world.service.apply(&inputs).await.into_iter().for_each(Result::unwrap);
    }

    /// What one bulk read says, which must not fail, nor take long.
    async fn read(&self) -> Vec<Presence> {
        let read = tokio::time::timeout(BOUND, self.world.service.presences(somebody(), &self.users)).await;
        read.unwrap().unwrap()
    }

    async fn all_are(&self, status: Status) {
        assert!(self.read().await.iter().all(|one| one.status == status), "all are {status:?}");
    }

    /// Reads, each time rightly, until the replica has answered.
    async fn until_replica_answers(&self, status: Status) {
        eventually("the replica to answer a read", PATIENCE, async || {
            let before = self.read_of(&self.replica).await;
            self.all_are(status).await;
            let after = self.read_of(&self.replica).await;
            seen(after >= before + USERS, after)
        })
        .await;
    }

    /// How many records a server has given out.
    async fn read_of(&self, server: &Store) -> usize {
        let mut connection = server.connect_node().await;
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hgetall:calls="));
        calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
    }
}

async fn configure(server: &Store, name: &str, value: &str) {
    let mut connection = server.connect_node().await;
    redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn bulk_reads_are_answered_by_the_replica_and_have_what_was_just_written() {
    let pair = Pair::begin().await;
    let (primary, replica) = (pair.read_of(&pair.primary).await, pair.read_of(&pair.replica).await);
    let rounds = 20;
    for round in 0..rounds {
        // The same user may change only so often.
        let chosen = format!("Round {round}");
        let update = StatusUpdate { custom_status: Some(Some(chosen.parse().unwrap())), ..StatusUpdate::default() };
        let user = pair.users[round];
        let told = pair.world.update(user, update).await.unwrap();
        let read = pair.read().await.into_iter().find(|one| one.user_id == user).unwrap();
        assert_eq!((read.version, read.custom_status), (told.version, told.custom_status), "everyone reads own writes");
    }
    let of_replica = pair.read_of(&pair.replica).await - replica;
    let of_primary = pair.read_of(&pair.primary).await - primary;
    assert!(of_replica > USERS * rounds / 2, "the replica answered: {of_replica}, the primary: {of_primary}");

    let before = pair.read_of(&pair.replica).await;
    pair.world.service.presence(somebody(), pair.users[0]).await.unwrap();
    pair.world.service.presence(pair.users[0], pair.users[0]).await.unwrap();
    assert_eq!(pair.read_of(&pair.replica).await, before, "one user costs the primary no more than the question");
}

#[tokio::test]
async fn a_replica_that_is_behind_is_left_and_tells_of_nobody_who_is_gone_or_still_here() {
    let pair = Pair::begin().await;
    pair.link.set(Fault::BlackHole);
    // It has heard of no heartbeat after the first sign of life.
    pair.world.turn(Duration::from_secs(30));
    pair.all(beats("a")).await;
    pair.world.turn(Duration::from_secs(30));
    pair.all_are(Status::Online).await;
    pair.world.turn(Duration::from_millis(14_999));
    pair.all_are(Status::Online).await;
    pair.world.turn(Duration::from_millis(1));
    pair.all_are(Status::Offline).await;

    // It has heard of no end, and knows sessions that would go on for long.
    pair.link.set(Fault::None);
    pair.all(opens("b")).await;
    pair.until_replica_answers(Status::Online).await;
    pair.link.set(Fault::BlackHole);
    pair.all(closes("b")).await;
    for _ in 0..20 {
        pair.all_are(Status::Offline).await;
    }
    pair.link.set(Fault::None);
    pair.until_replica_answers(Status::Offline).await;
}

#[tokio::test]
async fn a_replica_that_hangs_or_dies_makes_no_read_fail_and_is_found_again() {
    let mut pair = Pair::begin().await;
    pair.replica.freeze();
    pair.all(closes("a")).await;
    for _ in 0..5 {
        pair.all_are(Status::Offline).await;
    }
    pair.replica.thaw();
    pair.until_replica_answers(Status::Offline).await;

    pair.way.set(Fault::HalfOpen);
    pair.all_are(Status::Offline).await;
    pair.way.set(Fault::Cut);
    pair.all_are(Status::Offline).await;
    pair.way.set(Fault::None);
    pair.until_replica_answers(Status::Offline).await;

    pair.replica.kill();
    pair.all(opens("b")).await;
    for _ in 0..5 {
        pair.all_are(Status::Online).await;
    }
    pair.replica.restart().await;
    pair.replica.allow(&["+info|replication"]).await;
    pair.until_replica_answers(Status::Online).await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_and_refuses_to_say_what_may_be_old_is_not_believed_to_know_nobody() {
    let pair = Pair::begin().await;
    configure(&pair.replica, "replica-serve-stale-data", "no").await;
    let connection = pair.replica.connect_node().await;
    // Nothing is written any more: it is as far as its primary, and knows only that it is alone.
    pair.link.set(Fault::Cut);
    eventually("the replica to refuse", PATIENCE, async || {
        let read: Result<redis::Value, _> =
            redis::cmd("HGETALL").arg("presence:user:x").query_async(&mut connection.clone()).await;
        read.err().ok_or("it answers")
    })
    .await;
    for _ in 0..5 {
        pair.all_are(Status::Online).await;
    }
}

/// As after a failover that not everyone has heard of.
#[tokio::test]
async fn a_server_with_another_history_is_not_read_however_much_it_has_seen() {
    let mut pair = Pair::begin().await;
    pair.replica.promote().await;
    let mut connection = pair.replica.connect_node().await;
    for _ in 0..100 {
        redis::cmd("SET").arg("another-history").arg("x".repeat(10_000)).exec_async(&mut connection).await.unwrap();
    }
    pair.all(closes("a")).await;
    for _ in 0..20 {
        pair.all_are(Status::Offline).await;
    }
}
