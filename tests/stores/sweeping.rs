//! The sweeper on a real store: outages, records that can't be read, keys that are gone, many sweepers, and what a pass
//! costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use presence::domain::{Input, InputKind, Platform, Rules, Status, StatusUpdate, Timestamp, UserId};
use presence::service::UserInput;
use presence::store::{Index, RedisConfig, RedisStore, shard_of};
use presence::sweeper::Swept;
use presence::{Error, ErrorKind, Sweeper};
use presence_tests::{Fault, Proxy, Store, eventually, now_ms};
use redis::AsyncCommands;
use uuid::Uuid;

use crate::world::{World, beats, opens, somebody};

const TIMEOUT: Duration = Duration::from_secs(45);
const INTERVAL: Duration = Duration::from_secs(30);
/// After so long without the store a sweeper takes it for an outage.
const OUTAGE: Duration = Duration::from_secs(3);

/// A world on the one server behind this port.
fn world_at(server: &Store, port: u16) -> World {
    let config = RedisConfig { url: server.url_through(port), cluster: false, wait_replicas: 0, replica_url: None };
    let store = RedisStore::new(&config, Rules::default()).unwrap();
    World::over(Arc::new(store), Timestamp::from_millis(now_ms()))
}

/// A world whose way to its server may break.
async fn behind_a_proxy() -> (Store, Proxy, World) {
    let server = Store::start_single().await;
    let proxy = Proxy::to(server.port()).await;
    let world = world_at(&server, proxy.port());
    (server, proxy, world)
}

/// A user of the first shard.
fn somebody_of_one_shard() -> UserId {
    let mut bytes = *Uuid::new_v4().as_bytes();
    bytes[15] = 0;
    UserId::new(Uuid::from_bytes(bytes))
}

/// Many users who come online at this moment, one session each.
async fn all_open(world: &World, users: &[UserId]) {
    let opens = |user: &UserId| UserInput {
        user_id: *user,
        input: Input { at: world.now(), kind: opens("a") },
        traceparent: None,
    };
    let inputs: Vec<UserInput> = users.iter().map(opens).collect();
    assert!(world.service.apply(&inputs).await.iter().all(Result::is_ok));
}

async fn status(world: &World, user: UserId) -> Status {
    world.service.presence(somebody(), user).await.unwrap().status
}

/// What was told since the last call: of whom, and which status, in its order.
fn told(world: &World) -> Vec<(UserId, String)> {
    let look = |event: &presence::events::Event| {
        let frame: serde_json::Value = serde_json::from_slice(&event.frame).unwrap();
        (event.user_id, frame["d"]["status"].as_str().unwrap().to_owned())
    };
    world.told.take().iter().map(look).collect()
}

fn is_unavailable(result: &Result<Swept, Error>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
}

/// The store is away from this world for long enough to be an outage; the sweeper tries all along.
async fn outage(world: &World, proxy: &Proxy, meanwhile: impl AsyncFn()) {
    proxy.set(Fault::Reset);
    let since = Instant::now();
    eventually("the outage to be long enough", 4 * OUTAGE, async || {
        assert!(is_unavailable(&world.sweeper.tick().await), "the store is away");
        meanwhile().await;
        if since.elapsed() > OUTAGE { Ok(()) } else { Err(since.elapsed()) }
    })
    .await;
    proxy.set(Fault::None);
}

#[tokio::test]
async fn after_an_outage_nobody_is_told_offline_for_one_interval_by_any_sweeper() {
    let (_server, proxy, world) = behind_a_proxy().await;
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.told.take();
    world.turn(TIMEOUT);
    outage(&world, &proxy, async || {}).await;

    let held = world.sweeper.tick().await.unwrap();
    assert_eq!(held, Swept { held_until: Some(world.now() + INTERVAL), ..Swept::default() });
    let newcomer = Sweeper::new(world.service.clone());
    assert_eq!(newcomer.tick().await.unwrap(), held, "it learns of the hold from the store");
    assert_eq!(status(&world, user).await, Status::Offline, "reads are not held");
    world.turn(INTERVAL - Duration::from_millis(1));
    assert_eq!(newcomer.tick().await.unwrap(), held);
    assert_eq!(told(&world), []);

    world.turn(Duration::from_millis(1));
    let swept = world.sweeper.tick().await.unwrap();
    assert_eq!((swept.expired, swept.lag, swept.held_until), (1, INTERVAL, None));
    assert_eq!(told(&world), [(user, "offline".to_owned())]);
}

#[tokio::test]
async fn after_an_outage_a_heartbeat_that_is_earlier_than_every_sweep_holds_expiries_itself() {
    let (_server, proxy, world) = behind_a_proxy().await;
    let (returning, staying_away) = (somebody(), somebody());
    all_open(&world, &[returning, staying_away]).await;
    world.told.take();
    world.turn(TIMEOUT + Duration::from_secs(1));
    outage(&world, &proxy, async || {}).await;

    world.happens(returning, beats("a")).await;
    assert_eq!(told(&world), [(returning, "online".to_owned())], "as returned, and not as gone");
    let held = world.sweeper.tick().await.unwrap();
    assert_eq!((held.expired, held.held_until), (0, Some(world.now() + INTERVAL)));
    world.turn(INTERVAL);
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
    assert_eq!(told(&world), [(staying_away, "offline".to_owned())]);
}

#[tokio::test]
async fn inputs_that_find_the_store_away_know_of_the_outage_without_a_sweeper() {
    let (_server, proxy, world) = behind_a_proxy().await;
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.told.take();
    world.turn(TIMEOUT + Duration::from_secs(1));
    let input = UserInput { user_id: user, input: Input { at: world.now(), kind: beats("a") }, traceparent: None };
    proxy.set(Fault::Reset);
    let since = Instant::now();
    eventually("the outage to be long enough", 4 * OUTAGE, async || {
        assert!(world.service.apply(std::slice::from_ref(&input)).await[0].is_err(), "the store is away");
        if since.elapsed() > OUTAGE { Ok(()) } else { Err(since.elapsed()) }
    })
    .await;
    proxy.set(Fault::None);
    eventually("the store", OUTAGE, async || {
        world.service.apply(std::slice::from_ref(&input)).await.remove(0).map_err(|error| error.kind())
    })
    .await;
    assert_eq!(told(&world), [(user, "online".to_owned())], "as returned, and not as gone");
}

#[tokio::test]
async fn a_blip_of_the_store_holds_nothing() {
    let (_server, proxy, world) = behind_a_proxy().await;
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.told.take();
    world.turn(TIMEOUT);
    proxy.set(Fault::Reset);
    assert!(is_unavailable(&world.sweeper.tick().await));
    proxy.set(Fault::None);
    let swept = world.sweeper.tick().await.unwrap();
    assert_eq!((swept.expired, swept.held_until), (1, None));
    assert_eq!(told(&world), [(user, "offline".to_owned())]);
}

#[tokio::test]
async fn a_sweeper_that_alone_was_cut_off_holds_up_nobody() {
    let server = Store::start_single().await;
    let proxy = Proxy::to(server.port()).await;
    let (cut_off, other) = (world_at(&server, proxy.port()), World::on(&server));
    let user = somebody();
    cut_off.happens(user, opens("a")).await;
    outage(&cut_off, &proxy, async || {
        other.sweeper.tick().await.unwrap();
    })
    .await;
    cut_off.turn(TIMEOUT);
    let swept = cut_off.sweeper.tick().await.unwrap();
    assert_eq!((swept.expired, swept.held_until), (1, None));
}

#[tokio::test]
async fn one_who_returns_while_expiries_are_held_is_told_as_returned_and_never_as_gone() {
    let server = Store::start().await;
    let world = World::on(&server);
    let (returning, staying_away) = (somebody(), somebody());
    all_open(&world, &[returning, staying_away]).await;
    let before = world.service.presence(returning, returning).await.unwrap().version;
    world.told.take();
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    let gone = world.service.presence(somebody(), returning).await.unwrap();
    assert_eq!(gone.status, Status::Offline);

    world.turn(Duration::from_secs(10));
    world.happens(returning, beats("a")).await;
    let back = world.service.presence(somebody(), returning).await.unwrap();
    assert!(before < gone.version && gone.version < back.version, "whoever read in between learns of the return");
    assert_eq!(told(&world), [(returning, "online".to_owned())]);

    world.turn(Duration::from_secs(20));
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
    assert_eq!(told(&world), [(staying_away, "offline".to_owned())]);
}

#[tokio::test]
async fn a_sign_of_life_that_waited_too_long_ends_nobody_while_expiries_are_held() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.told.take();
    let at = world.now();
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    // A heartbeat that was in time when it came meets the same: to renew may have taken long.
    let waited = UserInput { user_id: user, input: Input { at, kind: opens("b") }, traceparent: None };
    world.service.apply(&[waited]).await.pop().unwrap().unwrap();
    assert_eq!(told(&world), []);
    world.turn(Duration::from_secs(1));
    world.happens(user, beats("a")).await;
    assert_eq!(told(&world), [(user, "online".to_owned())], "as returned, and not as gone");
}

#[tokio::test]
async fn one_who_lost_two_sessions_and_does_not_return_is_told_offline_also_while_expiries_are_held() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.turn(Duration::from_millis(1));
    let (session_id, platform) = ("b".parse().unwrap(), Some(Platform::Mobile));
    world.happens(user, InputKind::Opened { session_id, platform, status: None }).await;
    world.told.take();
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    let unseen = StatusUpdate { custom_status: Some(Some("Away".parse().unwrap())), ..StatusUpdate::default() };
    world.update(user, unseen).await.unwrap();
    assert_eq!(told(&world).last(), Some(&(user, "offline".to_owned())));
}

#[tokio::test]
async fn what_is_pending_is_told_while_expiries_are_held_and_ends_nobody() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.told.set_away(true);
    world.happens(user, opens("a")).await;
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    world.told.set_away(false);
    let held = world.sweeper.tick().await.unwrap();
    assert_eq!((held.reminded, held.expired), (1, 0));
    assert_eq!(told(&world), [(user, "online".to_owned())]);
    world.turn(INTERVAL);
    let swept = world.sweeper.tick().await.unwrap();
    assert_eq!((swept.reminded, swept.expired), (0, 1));
    assert_eq!(told(&world), [(user, "offline".to_owned())]);
}

#[tokio::test]
async fn while_heartbeats_of_an_outage_are_caught_up_with_expiries_stay_held() {
    const MOMENT: Duration = Duration::from_millis(1);
    let server = Store::start().await;
    let world = World::on(&server);
    let hear_an_old_one = async || {
        let input = Input { at: world.now() - TIMEOUT - MOMENT, kind: beats("a") };
        let heard = world.service.apply(&[UserInput { user_id: somebody(), input, traceparent: None }]).await;
        assert!(heard.iter().all(Result::is_ok));
    };
    world.happens(somebody(), opens("a")).await;
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    for _ in 0..2 {
        world.turn(INTERVAL - MOMENT);
        hear_an_old_one().await;
        assert_eq!(world.sweeper.tick().await.unwrap().expired, 0);
    }
    world.turn(INTERVAL);
    // It holds on, and does not begin.
    hear_an_old_one().await;
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
}

#[tokio::test]
async fn an_expiry_that_a_crash_kept_from_the_index_is_found_by_its_reminder() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.told.set_away(true);
    world.happens(user, opens("a")).await;
    world.told.set_away(false);
    // As if the process had died between the commit and what comes after it.
    let deadlines = format!("presence:deadlines:{}", shard_of(user));
    let taken_out: usize = server.connect().await.zrem(deadlines, user.to_string()).await.unwrap();
    assert_eq!(taken_out, 1);
    world.turn(TIMEOUT);
    let swept = world.sweeper.tick().await.unwrap();
    assert_eq!((swept.reminded, swept.expired), (1, 1));
    assert_eq!(told(&world), [(user, "online".to_owned()), (user, "offline".to_owned())]);
    assert_eq!(world.sweeper.tick().await.unwrap(), Swept::default());
}

#[tokio::test]
async fn a_user_whose_hash_is_gone_is_told_offline_at_the_deadline() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.happens(user, opens("a")).await;
    let opened_at = world.now();
    world.told.take();
    let deleted: usize = server.connect().await.del(format!("presence:user:{user}")).await.unwrap();
    assert_eq!(deleted, 1);
    world.turn(TIMEOUT - Duration::from_millis(1));
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 0);
    world.turn(Duration::from_millis(1));
    let read = world.service.presence(somebody(), user).await.unwrap();
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
    let events = world.told.take();
    assert_eq!(events.len(), 1);
    let frame: serde_json::Value = serde_json::from_slice(&events[0].frame).unwrap();
    assert_eq!(frame["d"], serde_json::to_value(&read).unwrap());
    let deadline = (opened_at + TIMEOUT).millis() as u64;
    assert_eq!((read.status, read.version, read.last_seen), (Status::Offline, deadline, Some(opened_at)));
}

#[tokio::test]
async fn a_store_that_was_emptied_is_healed_by_the_next_heartbeat() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.happens(user, opens("a")).await;
    let before = world.service.presence(user, user).await.unwrap();
    world.told.take();
    redis::cmd("FLUSHALL").exec_async(&mut server.connect().await).await.unwrap();
    assert_eq!(status(&world, user).await, Status::Offline);
    assert_eq!(world.sweeper.tick().await.unwrap(), Swept::default(), "nobody is left to tell of");

    world.turn(INTERVAL);
    world.happens(user, beats("a")).await;
    let after = world.service.presence(user, user).await.unwrap();
    assert_eq!(after.status, Status::Online);
    assert!(after.version > before.version, "no version is used twice");
    assert_eq!(told(&world), [(user, "online".to_owned())]);
    world.turn(TIMEOUT);
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 1, "the deadline is noted again");
}

#[tokio::test]
async fn what_cannot_be_read_holds_up_nobody_and_is_looked_at_again_in_a_minute() {
    let server = Store::start().await;
    let world = World::on(&server);
    let [garbled, of_another_type, good] = [(); 3].map(|()| somebody_of_one_shard());
    all_open(&world, &[garbled, of_another_type, good]).await;
    world.told.take();
    let mut redis = server.connect().await;
    let key = |user: UserId| format!("presence:user:{user}");
    let () = redis.hset(key(garbled), "s:a", "no session").await.unwrap();
    let () = redis.set(key(of_another_type), "no hash").await.unwrap();
    let () = redis.zadd("presence:deadlines:0", "no user", 1).await.unwrap();
    let () = redis.set("presence:deadlines:1", "no index").await.unwrap();

    world.turn(TIMEOUT);
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 3);
    assert_eq!(told(&world), [(good, "offline".to_owned())]);
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 0);
    let due = world.store.due(Index::Deadlines, 0, world.now() + Duration::from_secs(60), 9).await.unwrap();
    assert_eq!(due.iter().map(|due| due.at).collect::<Vec<_>>(), [world.now() + Duration::from_secs(60); 2]);
}

#[tokio::test]
async fn a_crowd_of_one_shard_is_told_in_one_pass() {
    let server = Store::start().await;
    let world = World::on(&server);
    let users: Vec<UserId> = (0..1200).map(|_| somebody_of_one_shard()).collect();
    all_open(&world, &users).await;
    world.told.take();
    world.turn(TIMEOUT);
    assert_eq!(world.sweeper.tick().await.unwrap().expired, users.len());
    assert_eq!(told(&world).len(), users.len());
}

#[tokio::test]
async fn five_processes_that_sweep_at_once_tell_each_user_offline_by_one_version() {
    let server = Store::start().await;
    let worlds: Vec<World> = (0..5).map(|_| World::on(&server)).collect();
    let users: Vec<UserId> = (0..500).map(|_| somebody()).collect();
    all_open(&worlds[0], &users).await;
    worlds[0].told.take();
    worlds.iter().for_each(|world| world.turn(2 * TIMEOUT));
    join_all(worlds.iter().map(async |world| world.sweeper.tick().await.unwrap())).await;
    // Each passes over shards in which another is at work; a second pass finds what that one left.
    worlds[0].sweeper.tick().await.unwrap();
    let mut ids: Vec<String> =
        worlds.iter().flat_map(|world| world.told.take()).map(|event| event.id.to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), users.len(), "one id a user, however often it was told");
}

#[tokio::test]
async fn a_pass_costs_the_same_however_many_are_online() {
    let server = Store::start().await;
    let world = World::on(&server);
    let cost = async || {
        let before = commands(&server).await;
        assert_eq!(world.sweeper.tick().await.unwrap(), Swept::default());
        commands(&server).await - before
    };
    // The first pass also finds out where everything is.
    cost().await;
    let empty = cost().await;
    let users: Vec<UserId> = (0..1000).map(|_| somebody()).collect();
    all_open(&world, &users).await;
    assert_eq!(cost().await, empty);
    assert!(empty < 70, "one look a shard and index, and a few more: {empty} commands");
}

/// How many commands the store has run, without asking it how many that are.
async fn commands(server: &Store) -> usize {
    let mut stats = String::new();
    for node in server.nodes() {
        let mut connection = node.connect_node().await;
        stats += &redis::cmd("INFO").arg("commandstats").query_async::<String>(&mut connection).await.unwrap();
    }
    let count = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let of_the_test = ["info", "hello", "auth", "ping", "client"].iter().any(|own| name.starts_with(own));
        rest.split(',').next()?.parse::<usize>().ok().filter(|_| !of_the_test)
    };
    stats.lines().filter_map(count).sum()
}

#[tokio::test]
async fn a_ticker_leaves_a_sign_that_ends_with_it_and_a_helper_leaves_none() {
    let server = Store::start().await;
    let world = World::on(&server);
    world.sweeper.sweep().await.unwrap();
    assert!(!world.sweeper.has_ticker().await.unwrap());
    world.sweeper.tick().await.unwrap();
    assert!(Sweeper::new(world.service.clone()).has_ticker().await.unwrap());
    let left: i64 = server.connect().await.pttl("presence:ticker").await.unwrap();
    assert!((2000..=3000).contains(&left), "it ends by itself: {left} ms");
}
