//! Inputs that come twice, late or out of order end where the ordered ones end.

use presence_tests::{User, now_ms};
use serde_json::json;

use crate::world::{World, is_between, millis, of};

const OPENED: &str = "gateway.connection.opened";
const CLOSED: &str = "gateway.connection.closed";
const HEARTBEAT: &str = "gateway.heartbeat.received";

#[tokio::test]
async fn a_close_that_overtakes_its_open_wins() {
    let world = World::start().await;
    let (user, now) = (User::new(), now_ms());
    world.tell(CLOSED, &user, "first", json!({ "timestamp": now - 1000 })).await;
    world.settle().await;
    world.tell(OPENED, &user, "first", json!({ "timestamp": now - 2000 })).await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["status"], "offline");
}

#[tokio::test]
async fn a_heartbeat_from_before_the_close_wakes_nobody() {
    let world = World::start().await;
    let user = world.online_user().await;
    world.closed(&user, "first").await;
    world.until_status(&user, "offline").await;
    world.tell(HEARTBEAT, &user, "first", json!({ "timestamp": now_ms() - 5000 })).await;
    world.heartbeat(&user, "first").await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["status"], "offline", "it was closed already");
}

#[tokio::test]
async fn a_late_close_of_an_earlier_life_of_the_session_ends_nothing() {
    let world = World::start().await;
    let (user, now) = (User::new(), now_ms());
    world.tell(OPENED, &user, "first", json!({ "timestamp": now - 1000 })).await;
    world.until_status(&user, "online").await;
    world.tell(CLOSED, &user, "first", json!({ "timestamp": now - 2000 })).await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["status"], "online");
}

#[tokio::test]
async fn a_later_open_of_a_closed_session_starts_anew() {
    let world = World::start().await;
    let (user, now) = (User::new(), now_ms());
    world.tell(OPENED, &user, "first", json!({ "timestamp": now - 3000 })).await;
    world.until_status(&user, "online").await;
    world.tell(CLOSED, &user, "first", json!({ "timestamp": now - 2000 })).await;
    world.until_status(&user, "offline").await;
    world.tell(OPENED, &user, "first", json!({ "timestamp": now - 1000 })).await;
    world.until_status(&user, "online").await;
}

#[tokio::test]
async fn an_input_that_comes_twice_counts_once() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let (user, now) = (User::new(), now_ms());
    for (subject, at) in [(OPENED, 3000), (OPENED, 3000), (CLOSED, 2000), (CLOSED, 2000), (OPENED, 3000)] {
        world.tell(subject, &user, "first", json!({ "timestamp": now - at })).await;
        world.settle().await;
    }
    assert_eq!(world.service.presence(&user).await["status"], "offline");
    let all = events.so_far().await;
    let told: Vec<_> = of(&user, &all).iter().map(|event| event.data()["status"].clone()).collect();
    assert_eq!(told, [json!("online"), json!("offline")]);
}

#[tokio::test]
async fn an_unknown_session_is_adopted_by_its_heartbeat() {
    let world = World::start().await;
    let user = User::new();
    world.tell(HEARTBEAT, &user, "lost", json!({ "platform": "mobile" })).await;
    let presence = world.until_status(&user, "online").await;
    assert_eq!(presence["client_status"], json!({ "mobile": "online" }));
}

#[tokio::test]
async fn the_end_of_a_voice_session_that_overtakes_its_beginning_wins() {
    let world = World::start().await;
    let (user, now) = (world.online_user().await, now_ms());
    world.tell("voice.session.ended", &user, "voice-1", json!({ "timestamp": now - 1000 })).await;
    world.settle().await;
    world.tell("voice.session.created", &user, "voice-1", json!({ "timestamp": now - 2000 })).await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["activity"], json!(null));
}

#[tokio::test]
async fn a_time_may_be_written_in_every_documented_way() {
    let world = World::start().await;
    let now = now_ms() - 2000;
    let rfc3339 = chrono::DateTime::from_timestamp_millis(now).unwrap().to_rfc3339();
    for timestamp in [json!(now), json!(now / 1000), json!(rfc3339)] {
        let user = User::new();
        world.tell(OPENED, &user, "first", json!({ "timestamp": timestamp })).await;
        let presence = world.until_status(&user, "online").await;
        let last_seen = millis(&presence["last_seen"]);
        assert!(is_between(now - 1000, last_seen, now), "{timestamp}: {last_seen}");
    }
}

#[tokio::test]
async fn a_time_in_the_future_or_the_far_past_is_not_believed() {
    let world = World::start().await;
    for timestamp in [now_ms() + 3_600_000, now_ms() - 3_600_000] {
        let (user, before) = (User::new(), now_ms());
        world.tell(OPENED, &user, "first", json!({ "timestamp": timestamp })).await;
        let presence = world.until_status(&user, "online").await;
        let last_seen = millis(&presence["last_seen"]);
        assert!(is_between(before, last_seen, now_ms()), "the message's own time: {last_seen}");
    }
}
