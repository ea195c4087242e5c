//! The keys of the documentation, for other services that read them.

use std::collections::HashMap;

use presence_tests::{User, eventually, now_ms, seen};
use redis::AsyncCommands;
use serde_json::json;
use uuid::Uuid;

use crate::world::{SOON, World, is_second_between};

/// The documented fields of a user's hash, without ours.
const FIELDS: [&str; 5] = ["status", "custom_status", "activity_type", "activity_name", "last_seen"];

async fn documented(world: &World, user: &User) -> HashMap<String, String> {
    let key = format!("presence:user:{}", user.id());
    let all: HashMap<String, String> = world.store.connect().await.hgetall(key).await.unwrap();
    all.into_iter().filter(|(field, value)| FIELDS.contains(&field.as_str()) && !value.is_empty()).collect()
}

async fn ttl(world: &World, key: &str) -> i64 {
    world.store.connect().await.ttl(key).await.unwrap()
}

#[tokio::test]
async fn a_user_is_a_hash_with_the_documented_fields_and_five_minutes() {
    let world = World::start().await;
    let user = world.online_user().await;
    let before = now_ms();
    let activity = json!({ "type": "playing", "name": "Rust Programming" });
    world.service.update(&user, &json!({ "status": "idle", "custom_status": "Working", "activity": activity })).await;

    let hash = documented(&world, &user).await;
    let last_seen: i64 = hash["last_seen"].parse().expect("a Unix timestamp");
    assert!(is_second_between(before, last_seen, now_ms()), "{hash:?}");
    for (field, value) in [
        ("status", "idle"),
        ("custom_status", "Working"),
        ("activity_type", "playing"),
        ("activity_name", "Rust Programming"),
    ] {
        assert_eq!(hash[field], value);
    }
    let ttl = ttl(&world, &format!("presence:user:{}", user.id())).await;
    assert!((1..=300).contains(&ttl), "5 minutes at most: {ttl}");
}

#[tokio::test]
async fn a_heartbeat_refreshes_the_five_minutes() {
    let world = World::start().await;
    let user = world.online_user().await;
    let key = format!("presence:user:{}", user.id());
    let shortened: bool = world.store.connect().await.expire(&key, 100).await.unwrap();
    assert!(shortened);
    world.heartbeat(&user, "first").await;
    eventually("the TTL to be refreshed", SOON, async || {
        let ttl = ttl(&world, &key).await;
        seen((101..=300).contains(&ttl), ttl)
    })
    .await;
}

#[tokio::test]
async fn an_invisible_user_reads_offline_also_in_the_store() {
    let world = World::start().await;
    let user = world.online_user().await;
    let activity = json!({ "type": "playing", "name": "In secret" });
    world.service.update(&user, &json!({ "custom_status": "Hidden", "activity": activity })).await;
    world.service.update(&user, &json!({ "status": "invisible" })).await;
    let hash = documented(&world, &user).await;
    assert_eq!(hash["status"], "offline");
    for field in ["custom_status", "activity_type", "activity_name"] {
        assert_eq!(hash.get(field), None, "{hash:?}");
    }
    let hidden = hash["last_seen"].clone();
    world.heartbeat(&user, "first").await;
    world.settle().await;
    assert_eq!(documented(&world, &user).await["last_seen"], hidden, "a hidden sign of life stays hidden");
}

#[tokio::test]
async fn a_user_who_left_reads_offline_in_the_store() {
    let world = World::start().await;
    let user = world.online_user().await;
    world.closed(&user, "first").await;
    world.until_status(&user, "offline").await;
    let hash = documented(&world, &user).await;
    assert!(hash.get("status").is_none_or(|status| status == "offline"), "{hash:?}");
    assert_eq!(hash.get("activity_type"), None);
}

#[tokio::test]
async fn typing_is_a_sorted_set_of_users_by_time_for_ten_seconds() {
    let world = World::start().await;
    let (user, channel) = (world.online_user().await, Uuid::new_v4().to_string());
    let before = now_ms();
    world.service.post(&user, "/presence/typing", &json!({ "channel_id": channel })).await;
    let key = format!("typing:{channel}");
    let members: Vec<(String, f64)> = world.store.connect().await.zrange_withscores(&key, 0, -1).await.unwrap();
    assert_eq!(members.len(), 1);
    let (member, score) = &members[0];
    assert_eq!(member, user.id());
    assert!(is_second_between(before, score.floor() as i64, now_ms()), "a Unix timestamp: {score}");
    let ttl = ttl(&world, &key).await;
    assert!((1..=10).contains(&ttl), "10 seconds at most: {ttl}");
}

#[tokio::test]
async fn an_invisible_user_leaves_no_trace_of_typing() {
    let world = World::start().await;
    let (user, channel) = (world.online_user().await, Uuid::new_v4().to_string());
    world.service.update(&user, &json!({ "status": "offline" })).await;
    let answer = world.service.post(&user, "/presence/typing", &json!({ "channel_id": channel })).await;
    assert_eq!(answer.status, 204);
    let exists: bool = world.store.connect().await.exists(format!("typing:{channel}")).await.unwrap();
    assert!(!exists);
    let reading = world.service.get(&User::new(), &format!("/presence/typing/{channel}")).await.ok();
    assert_eq!(reading["users"], json!([]));
}
