//! One user on several devices: a session is one gateway connection and no other.

use presence_tests::User;
use serde_json::json;

use crate::world::{World, of};

#[tokio::test]
async fn a_user_is_online_until_the_last_device_leaves() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let user = User::new();
    world.tell("gateway.connection.opened", &user, "laptop", json!({ "platform": "desktop" })).await;
    world.tell("gateway.connection.opened", &user, "phone", json!({ "platform": "mobile" })).await;
    let both = json!({ "desktop": "online", "mobile": "online" });
    world.until(&user, "both devices", |presence| presence["client_status"] == both).await;

    world.closed(&user, "laptop").await;
    let one = json!({ "mobile": "online" });
    let presence = world.until(&user, "one device", |presence| presence["client_status"] == one).await;
    assert_eq!(presence["status"], "online");

    world.closed(&user, "phone").await;
    let presence = world.until_status(&user, "offline").await;
    assert_eq!(presence["client_status"], json!({}));

    world.settle().await;
    let all = events.so_far().await;
    let told: Vec<_> = of(&user, &all).iter().map(|event| event.data()["status"].clone()).collect();
    assert_eq!(told.first(), Some(&json!("online")));
    assert_eq!(told.last(), Some(&json!("offline")));
    assert_eq!(told.iter().filter(|status| **status == "offline").count(), 1, "{told:?}");
}

#[tokio::test]
async fn a_status_chosen_on_one_device_shows_on_all() {
    let world = World::start().await;
    let user = User::new();
    world.tell("gateway.connection.opened", &user, "laptop", json!({ "platform": "desktop" })).await;
    world.tell("gateway.connection.opened", &user, "phone", json!({ "platform": "mobile", "status": "dnd" })).await;
    let both = json!({ "desktop": "dnd", "mobile": "dnd" });
    let presence = world.until(&user, "dnd on both", |presence| presence["client_status"] == both).await;
    assert_eq!(presence["status"], "dnd");
}

#[tokio::test]
async fn a_choice_survives_the_end_of_all_sessions() {
    let world = World::start().await;
    let user = world.online_user().await;
    world.service.update(&user, &json!({ "status": "idle", "custom_status": "Lunch" })).await;
    world.later().await;
    world.closed(&user, "first").await;
    let gone = world.until_status(&user, "offline").await;
    assert_eq!(gone["custom_status"], json!(null));
    world.opened(&user, "second").await;
    let back = world.until_status(&user, "idle").await;
    assert_eq!(back["custom_status"], "Lunch");
}

#[tokio::test]
async fn a_page_that_is_refreshed_goes_unnoticed() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let user = world.online_user().await;
    events.next_of(&user).await;
    world.tell("gateway.connection.closed", &user, "first", json!({ "close_code": 1006 })).await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["status"], "online", "it may come back within the grace");
    world.opened(&user, "second").await;
    world.settle().await;
    let more = events.so_far().await;
    assert_eq!(of(&user, &more).len(), 0, "{more:?}");
    world.closed(&user, "second").await;
    world.until_status(&user, "offline").await;
}

#[tokio::test]
async fn a_connection_that_broke_and_does_not_come_back_ends_after_the_grace() {
    let world = World::with(|service| service.env("RESUME_GRACE", 1)).await;
    let user = world.online_user().await;
    world.tell("gateway.connection.closed", &user, "first", json!({ "close_code": 4000 })).await;
    world.until_status(&user, "offline").await;
}

#[tokio::test]
async fn a_normal_close_code_ends_at_once() {
    let world = World::start().await;
    for code in [1000, 1001] {
        let user = world.online_user().await;
        world.tell("gateway.connection.closed", &user, "first", json!({ "close_code": code })).await;
        world.until_status(&user, "offline").await;
    }
}

#[tokio::test]
async fn voice_is_an_activity_beside_ones_own() {
    let world = World::start().await;
    let user = world.online_user().await;
    world.service.update(&user, &json!({ "activity": { "type": "playing", "name": "Chess" } })).await;
    world.later().await;
    world.tell("voice.session.created", &user, "voice-1", json!({ "channel_name": "Lounge" })).await;
    let presence = world.until(&user, "the voice activity", |presence| presence["activity"]["name"] == "Lounge").await;
    assert_eq!(presence["activity"]["type"], "listening");
    let names: Vec<_> = presence["activities"].as_array().unwrap().iter().map(|activity| &activity["name"]).collect();
    assert_eq!(names, ["Lounge", "Chess"]);

    world.tell("voice.session.ended", &user, "another", json!({})).await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["activity"]["name"], "Lounge", "another voice session's end");
    world.tell("voice.session.ended", &user, "voice-1", json!({})).await;
    world.until(&user, "one's own activity again", |presence| presence["activity"]["name"] == "Chess").await;
}

#[tokio::test]
async fn a_voice_session_that_comes_before_its_user_is_held() {
    let world = World::start().await;
    let user = User::new();
    world.tell("voice.session.created", &user, "voice-1", json!({})).await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["status"], "offline");
    world.opened(&user, "first").await;
    world.until(&user, "the held activity", |presence| presence["activity"]["name"] == "Voice").await;
}
