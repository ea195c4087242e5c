//! A crowd on a cluster of three nodes, while slots move from one to another, and while nodes are away.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use presence::Error;
use presence::domain::{Input, InputKind, UserId};
use presence::service::UserInput;
use presence::store::SHARDS;
use presence::sweeper::Swept;
use presence_tests::{Cluster, Moving, Store, eventually, seen};
use serde_json::Value;
use uuid::Uuid;

use crate::world::{World, beats, opens};

const USERS: usize = 300;
/// How many slots are to move at least.
const MOVES: usize = 10;
const INTERVAL: Duration = Duration::from_secs(30);
/// How long parts that come back may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same happens to all of them, now and in one batch. Nobody is refused because a slot moves.
async fn all(world: &World, users: &[UserId], kind: InputKind) {
    for done in each(world, users, kind).await {
        done.unwrap();
    }
}

/// The same where some may be refused.
async fn each(world: &World, users: &[UserId], kind: InputKind) -> Vec<Result<(), Error>> {
    let input = |user_id: &UserId| UserInput {
        user_id: *user_id,
        input: Input { at: world.now(), kind: kind.clone() },
        traceparent: None,
    };
    world.service.apply(&users.iter().map(input).collect::<Vec<_>>()).await
}

async fn sweep(world: &World) -> usize {
    let mut expired = 0;
    loop {
        match world.sweeper.tick().await.unwrap().expired {
            0 => return expired,
            more => expired += more,
        }
    }
}

#[tokio::test]
async fn each_of_a_crowd_is_told_online_and_offline_once_while_slots_move() {
    let cluster = Cluster::start().await;
    let world = World::on_cluster(&cluster);
    let users: Vec<UserId> = (0..USERS).map(|_| UserId::new(Uuid::new_v4())).collect();
    let indexes =
        (0..SHARDS).flat_map(|shard| ["deadlines", "reminders"].map(|name| format!("presence:{name}:{shard}")));
    let hashes = users.iter().map(|user| format!("presence:user:{user}"));
    let keys: Vec<String> = indexes.zip(hashes).flat_map(|(index, hash)| [index, hash]).collect();
    let session = || "a".parse().unwrap();

    let slots = Moving { keys, ..Moving::default() };
    let story = async {
        all(&world, &users, InputKind::Opened { session_id: session(), platform: None, status: None }).await;
        // Where the machine is busy slots move slowly; the end says if they don't at all.
        for round in 0..500 {
            if round >= 5 && slots.moved.load(Ordering::Relaxed) > MOVES {
                break;
            }
            world.turn(Duration::from_secs(30));
            all(&world, &users, InputKind::Heartbeat { session_id: session(), platform: None }).await;
            assert_eq!(sweep(&world).await, 0);
        }
        let (leave, vanish) = users.split_at(USERS / 2);
        all(&world, leave, InputKind::Closed { session_id: session(), abnormal: false }).await;
        world.turn(Duration::from_millis(44_999));
        assert_eq!(sweep(&world).await, 0);
        world.turn(Duration::from_millis(1));
        assert_eq!(sweep(&world).await, vanish.len());
    };
    cluster.while_slots_move(&slots, story).await;
    let moves = slots.moved.into_inner();
    assert!(moves > MOVES, "only {moves} slots moved meanwhile");

    let mut told: HashMap<UserId, Vec<String>> = HashMap::new();
    for event in world.told.take() {
        let frame: Value = serde_json::from_slice(&event.frame).unwrap();
        told.entry(event.user_id).or_default().push(frame["d"]["status"].as_str().unwrap().to_owned());
    }
    for user in &users {
        assert_eq!(told.remove(user).unwrap(), ["online", "offline"]);
    }
    let spread = cluster.keys().await;
    assert!(spread.iter().all(|keys| *keys > USERS / 10), "{spread:?}");
}

/// All nodes are away for long, then all but one are back, then all. What is asked of one more than of others: users,
/// the sign of a ticker, the hold.
#[tokio::test]
async fn while_a_part_of_a_cluster_stays_away_nobody_is_told_offline_and_after_it_everyone_has_one_interval() {
    let cluster = Cluster::start().await;
    let world = World::on_cluster(&cluster);
    let users: Vec<UserId> = (0..30).map(|_| UserId::new(Uuid::new_v4())).collect();
    all(&world, &users, opens("a")).await;
    world.told.take();
    for away in cluster.nodes() {
        world.turn(Duration::from_secs(46));
        cluster.nodes().iter().for_each(Store::freeze);
        let since = Instant::now();
        eventually("the outage to be long enough", PATIENCE, async || {
            assert!(world.sweeper.tick().await.is_err(), "the cluster is away");
            seen(since.elapsed() > Duration::from_secs(3), since.elapsed())
        })
        .await;

        cluster.nodes().iter().filter(|node| node.port() != away.port()).for_each(Store::thaw);
        let beaten = each(&world, &users, beats("a")).await;
        assert!(beaten.iter().any(Result::is_err), "a part is away");
        assert!(world.sweeper.tick().await.is_err(), "a part is away");
        world.turn(INTERVAL);

        away.thaw();
        let swept = eventually("a pass over all parts", PATIENCE, async || world.sweeper.tick().await).await;
        assert_eq!((swept.expired, swept.held_until), (0, Some(world.now() + INTERVAL)));
        all(&world, &users, beats("a")).await;
        for event in world.told.take() {
            let frame: Value = serde_json::from_slice(&event.frame).unwrap();
            assert_eq!(frame["d"]["status"], "online", "{} is told as returned, and not as gone", event.user_id);
        }
        world.turn(INTERVAL);
        assert_eq!(world.sweeper.tick().await.unwrap(), Swept::default(), "all were heard in time");
    }
}
