//! A crowd on a cluster of three nodes, while slots move from one to another.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use presence::domain::{Input, InputKind, UserId};
use presence::service::UserInput;
use presence::store::SHARDS;
use presence_tests::Cluster;
use serde_json::Value;
use uuid::Uuid;

use crate::world::World;

const USERS: usize = 300;

/// The same happens to all of them, now and in one batch. Nobody is refused because a slot moves.
async fn all(world: &World, users: &[UserId], kind: InputKind) {
    let input = |user_id: &UserId| UserInput {
        user_id: *user_id,
        input: Input { at: world.now(), kind: kind.clone() },
        traceparent: None,
    };
    for done in world.service.apply(&users.iter().map(input).collect::<Vec<_>>()).await {
        done.unwrap();
    }
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

    let moves = AtomicUsize::new(0);
    let story = async {
        all(&world, &users, InputKind::Opened { session_id: session(), platform: None, status: None }).await;
        for _ in 0..5 {
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
    cluster.while_slots_move(&keys, &moves, story).await;
    let moves = moves.into_inner();
    assert!(moves > 10, "only {moves} slots moved meanwhile");

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
