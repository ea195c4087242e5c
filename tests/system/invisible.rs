//! An invisible user looks in every way like one who went offline when invisibility began.

use presence_tests::{Answer, User, now_ms};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, is_between, millis, of};

/// A read with everything taken out that differs between two users and two moments by nature.
fn trace(user: &User, answer: &Answer) -> (String, Vec<(String, String)>) {
    let presence = answer.ok();
    let body = answer
        .text
        .replace(user.id(), "<user>")
        .replace(presence["last_seen"].as_str().unwrap_or("<none>"), "<last seen>")
        .replace(&presence["version"].to_string(), "<version>");
    let by_nature = ["date", "x-request-id", "traceparent"];
    let headers = answer.headers.iter().filter(|(name, _)| !by_nature.contains(&name.as_str()));
    (body, headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect())
}

#[tokio::test]
async fn an_invisible_user_and_one_who_left_leave_the_same_trace() {
    let world = World::start().await;
    let (hidden, gone, reader) = (world.online_user().await, world.online_user().await, User::new());
    let activity = json!({ "type": "playing", "name": "Chess" });
    for user in [&hidden, &gone] {
        world.service.update(user, &json!({ "status": "dnd", "custom_status": "Busy", "activity": activity })).await;
    }
    let mut events = world.nats.events().await;
    let before = now_ms();
    world.service.update(&hidden, &json!({ "status": "invisible" })).await;
    let after = now_ms();
    world.later().await;
    world.closed(&gone, "first").await;
    world.until_status(&gone, "offline").await;

    // The events.
    let event = |user: &User, event: presence_tests::Event| {
        let data = event.data();
        let payload = event.payload.replace(user.id(), "<user>").replace(&data["version"].to_string(), "<version>");
        (event.subject, payload.replace(data["last_seen"].as_str().unwrap(), "<last seen>"))
    };
    let first = event(&hidden, events.next_of(&hidden).await);
    assert_eq!(first, event(&gone, events.next_of(&gone).await));

    // The reads, now and after the hidden one did all that an invisible user may do.
    let read = async |user: &User| world.service.get(&reader, &format!("/presence/{}", user.id())).await;
    let at_first = read(&hidden).await;
    assert_eq!(trace(&hidden, &at_first), trace(&gone, &read(&gone).await));
    let last_seen = millis(&at_first.ok()["last_seen"]);
    assert!(is_between(before, last_seen, after), "frozen when invisibility began: {last_seen}");

    world.service.update(&hidden, &json!({ "custom_status": "Nobody knows", "activity": activity })).await;
    world.service.post(&hidden, "/presence/typing", &json!({ "channel_id": Uuid::new_v4() })).await;
    world.heartbeat(&hidden, "first").await;
    world.tell("gateway.connection.opened", &hidden, "phone", json!({ "platform": "mobile" })).await;
    world.tell("voice.session.created", &hidden, "voice", json!({})).await;
    world.closed(&hidden, "first").await;
    world.settle().await;

    assert_eq!(read(&hidden).await.text, at_first.text, "not one byte may change");
    let bulk = world.service.presences(&[&hidden, &gone]).await;
    assert_eq!(bulk[0], at_first.json());
    let more = events.so_far().await;
    assert_eq!(of(&hidden, &more).len(), 0, "nothing is told of an invisible user: {more:?}");
}

#[tokio::test]
async fn the_user_alone_sees_what_was_chosen() {
    let world = World::start().await;
    let user = world.online_user().await;
    let activity = json!({ "type": "listening", "name": "A record" });
    let chosen = json!({ "status": "invisible", "custom_status": "Hidden", "activity": activity });
    let answer = world.service.post(&user, "/presence/status", &chosen).await;
    let own = answer.ok();
    assert_eq!((&own["status"], &own["activity"]), (&json!("offline"), &Value::Null), "to oneself too");
    assert_eq!(own["own"]["intent"], "offline");
    assert_eq!(own["own"]["custom_status"], "Hidden");
    assert_eq!(own["own"]["activity"]["name"], "A record");
    assert!(!answer.text.contains("invisible"), "a spelling for input alone: {}", answer.text);
    let other = world.service.get(&User::new(), &format!("/presence/{}", user.id())).await;
    assert!(!other.text.contains("own") && !other.text.contains("Hidden"), "{}", other.text);
}

#[tokio::test]
async fn no_one_becomes_visible_by_staying_away() {
    let world = World::with(|service| service.heartbeat_timeout(2)).await;
    let mut events = world.nats.events().await;
    let user = User::new();
    world.service.update(&user, &json!({ "status": "offline" })).await;
    world.opened(&user, "first").await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["status"], "offline");

    let out_of_time = world.online_user().await;
    world.until_status(&out_of_time, "offline").await;
    world.opened(&user, "second").await;
    world.settle().await;
    assert_eq!(world.service.presence(&user).await["status"], "offline", "after the first session ended by itself");
    let all = events.so_far().await;
    assert_eq!(of(&user, &all).len(), 0, "{all:?}");
}

#[tokio::test]
async fn who_shows_again_is_seen_with_what_was_chosen_meanwhile() {
    let world = World::start().await;
    let user = world.online_user().await;
    world.service.update(&user, &json!({ "status": "invisible" })).await;
    let hidden = world.service.presence(&user).await;
    world.service.update(&user, &json!({ "custom_status": "Here I am" })).await;
    let shown = world.service.update(&user, &json!({ "status": "online" })).await;
    assert_eq!((&shown["status"], &shown["custom_status"]), (&json!("online"), &json!("Here I am")));
    assert!(shown["version"].as_u64() > hidden["version"].as_u64());
    assert!(millis(&shown["last_seen"]) >= millis(&hidden["last_seen"]));
}
