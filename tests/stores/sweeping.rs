//! The sweeper on a real store: records that can't be read, keys that are gone, many sweepers, and what a pass costs.

use std::time::Duration;

use futures::future::join_all;
use presence::Sweeper;
use presence::domain::{Status, UserId};
use presence::store::{Index, shard_of};
use presence::sweeper::Swept;
use presence_tests::Store;
use redis::AsyncCommands;
use uuid::Uuid;

use crate::world::{TIMEOUT, World, all_open, beats, opens, somebody, status, told};

/// A user of the first shard.
fn somebody_of_one_shard() -> UserId {
    let mut bytes = *Uuid::new_v4().as_bytes();
    bytes[15] = 0;
    UserId::new(Uuid::from_bytes(bytes))
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

    world.turn(Duration::from_secs(30));
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
async fn what_cannot_be_written_of_one_user_holds_up_nobody_else() {
    let server = Store::start().await;
    let world = World::on(&server);
    let users: Vec<UserId> = (0..100).map(|_| somebody_of_one_shard()).collect();
    all_open(&world, &users).await;
    world.told.take();
    let profile = format!("{{presence:user:{}}}:profile", users[50]);
    let () = server.connect().await.set(profile, "no hash").await.unwrap();

    world.turn(TIMEOUT);
    world.sweeper.tick().await.unwrap();
    let mut gone: Vec<UserId> =
        told(&world).into_iter().map(|(user, _)| user).filter(|user| *user != users[50]).collect();
    gone.sort();
    gone.dedup();
    assert_eq!(gone.len(), users.len() - 1);
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
async fn a_shard_is_its_takers_also_if_they_ask_again_for_want_of_an_answer() {
    let server = Store::start().await;
    let store = World::on(&server).store;
    let takes = async |sweeper: &str| store.take_shard(0, sweeper).await.unwrap();
    assert!(takes("one").await);
    assert!(takes("one").await, "the first answer may be lost");
    assert!(!takes("other").await);
    store.release_shard(0, "other").await.unwrap();
    assert!(!takes("other").await, "nobody gives back what is another's");
    store.release_shard(0, "one").await.unwrap();
    assert!(takes("other").await);
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
