//! What consumers get over NATS: subjects, payloads byte for byte, headers; and what becomes of inputs that can't be
//! read.

use presence_tests::{Event, JetStream, User, eventually, seen};
use serde_json::json;
use uuid::Uuid;

use crate::world::{SOON, World, millis, of};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn a_change_is_told_as_the_gateway_frame_of_what_a_read_gives() {
    for jetstream in [JetStream::On, JetStream::Off] {
        let world = World::on(jetstream, |service| service).await;
        let mut events = world.nats.events().await;
        let user = User::new();
        let body = json!({ "status": "online", "custom_status": "Working" });
        let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let headers = [("traceparent", traceparent.as_str())];
        world.service.post_with(&user, "/presence/status", &body.to_string(), &headers).await.ok();

        let event = events.next_of(&user).await;
        let read = world.service.get(&User::new(), &format!("/presence/{}", user.id())).await;
        assert_eq!(event.subject, "presence.status.changed");
        assert_eq!(event.payload, format!(r#"{{"op":3,"t":"PRESENCE_UPDATE","d":{}}}"#, read.text), "{jetstream:?}");
        assert_headers(&event, &user, &format!("{}:{}:status", user.id(), read.json()["version"]));
        assert!(event.header("traceparent").unwrap().starts_with(&format!("00-{TRACE}-")), "the trace goes on");
    }
}

/// The headers of an event: its id under both names, and the CloudEvents attributes.
fn assert_headers(event: &Event, user: &User, id: &str) {
    assert_eq!(event.header("Nats-Msg-Id"), Some(id));
    assert_eq!(event.header("ce-id"), Some(id));
    assert_eq!(event.header("ce-specversion"), Some("1.0"));
    assert_eq!(event.header("ce-type"), Some(event.subject.as_str()));
    assert_eq!(event.header("ce-subject"), Some(user.id()));
    assert!(event.header("ce-source").is_some_and(|source| !source.is_empty()));
    assert!(millis(&json!(event.header("ce-time"))) > 0);
    let trace: Vec<usize> = event.header("traceparent").unwrap().split('-').map(str::len).collect();
    assert_eq!(trace, [2, 32, 16, 2], "a W3C trace context");
}

#[tokio::test]
async fn an_activity_is_told_on_its_own_subject_and_a_hidden_one_is_not_told() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let user = world.online_user().await;
    events.next_of(&user).await;

    let playing = json!({ "activity": { "type": "playing", "name": "Chess" } });
    let version = world.service.update(&user, &playing).await["version"].clone();
    let event = events.next_of(&user).await;
    assert_eq!(event.subject, "presence.activity.updated");
    assert_headers(&event, &user, &format!("{}:{version}:activity", user.id()));
    assert_eq!(event.data()["activity"]["name"], "Chess");

    world.service.update(&user, &json!({ "status": "invisible" })).await;
    assert_eq!(events.next_of(&user).await.data()["status"], "offline");
    world.service.update(&user, &json!({ "activity": { "type": "playing", "name": "Go" } })).await;
    world.settle().await;
    let more = events.so_far().await;
    assert_eq!(of(&user, &more).len(), 0, "{more:?}");
}

#[tokio::test]
async fn typing_is_told_once_in_five_seconds() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let (user, channel) = (world.online_user().await, Uuid::new_v4().to_string());
    events.next_of(&user).await;

    for _ in 0..3 {
        world.service.post(&user, "/presence/typing", &json!({ "channel_id": channel })).await;
    }
    let event = events.next_of(&user).await;
    let timestamp = event.data()["timestamp"].as_i64().unwrap();
    assert_eq!(event.subject, "presence.typing.started");
    assert_eq!(
        event.payload,
        format!(
            r#"{{"op":8,"t":"TYPING_START","d":{{"channel_id":"{channel}","user_id":"{}","timestamp":{timestamp}}}}}"#,
            user.id()
        )
    );
    let id = event.header("Nats-Msg-Id").unwrap().to_owned();
    let ms = id.strip_prefix(&format!("{}:{channel}:", user.id())).unwrap().strip_suffix(":typing").unwrap();
    assert_eq!(ms.parse::<i64>().unwrap() / 1000, timestamp);
    assert_headers(&event, &user, &id);

    world.service.update(&user, &json!({ "custom_status": "A fence" })).await;
    assert_eq!(events.next_of(&user).await.subject, "presence.status.changed", "nothing between");
}

#[tokio::test]
async fn no_visible_change_no_event() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let user = world.online_user().await;
    events.next_of(&user).await;
    let version = world.service.presence(&user).await["version"].clone();

    world.service.update(&user, &json!({ "status": "online" })).await;
    world.heartbeat(&user, "first").await;
    world.opened(&user, "first").await;
    world.settle().await;
    let more = events.so_far().await;
    assert_eq!(of(&user, &more).len(), 0, "{more:?}");
    assert_eq!(world.service.presence(&user).await["version"], version);
}

#[tokio::test]
async fn what_is_told_is_kept_in_streams() {
    let world = World::start().await;
    let user = world.online_user().await;
    world.service.update(&user, &json!({ "status": "dnd" })).await;
    let told = world.nats.stream("PRESENCE_EVENTS").await;
    let statuses: Vec<_> = of(&user, &told).iter().map(|event| event.data()["status"].clone()).collect();
    assert_eq!(statuses, [json!("online"), json!("dnd")]);
}

#[tokio::test]
async fn every_event_of_a_user_has_a_higher_version_and_tells_something_new() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let user = User::new();
    for body in [
        json!({ "status": "online" }),
        json!({ "status": "idle" }),
        json!({ "status": "idle", "custom_status": "Away" }),
        json!({ "status": "offline" }),
        json!({ "status": "dnd" }),
    ] {
        world.service.update(&user, &body).await;
    }
    world.settle().await;
    let all = events.so_far().await;
    let told: Vec<_> = of(&user, &all).iter().map(|event| event.data()).collect();
    assert_eq!(told.len(), 5);
    for pair in told.windows(2) {
        assert!(pair[0]["version"].as_u64() < pair[1]["version"].as_u64(), "{told:?}");
        assert_ne!(
            (&pair[0]["status"], &pair[0]["custom_status"], &pair[0]["client_status"]),
            (&pair[1]["status"], &pair[1]["custom_status"], &pair[1]["client_status"])
        );
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_kept_whole_and_holds_up_nobody() {
    let world = World::start().await;
    let poison = b"{\"user_id\": \xff\xfe not json".to_vec();
    world.nats.tell_raw("gateway.connection.opened", poison.clone()).await;
    let user = world.online_user().await;

    let letters = dead_letters(&world, 1).await;
    assert_eq!(letters[0].subject, "presence.dlq.connection-opened");
    assert_eq!(letters[0].payload, String::from_utf8_lossy(&poison), "the original bytes");
    let reasons = letters[0].headers.iter().filter(|(_, value)| !value.is_empty()).count();
    assert!(reasons > 0, "the reason stands in the headers: {:?}", letters[0].headers);
    assert_eq!(world.service.presence(&user).await["status"], "online");
}

#[tokio::test]
async fn of_an_array_the_good_elements_count_and_the_bad_ones_are_named() {
    let world = World::start().await;
    let (one, two) = (User::new(), User::new());
    let array = json!([
        { "user_id": one.id(), "session_id": "a" },
        { "user_id": "nobody", "session_id": "a" },
        { "session_id": "a" },
        { "user_id": two.id(), "session_id": "a", "unknown": { "field": 1 } },
    ]);
    world.nats.tell("gateway.heartbeat.received", json!([])).await;
    world.nats.tell("gateway.heartbeat.received", array.clone()).await;
    world.until_status(&one, "online").await;
    world.until_status(&two, "online").await;

    let letters = dead_letters(&world, 1).await;
    world.settle().await;
    assert_eq!(world.nats.stream("PRESENCE_DLQ").await.len(), 1, "once, and nothing of the empty array");
    assert_eq!(letters[0].subject, "presence.dlq.heartbeat-received");
    assert_eq!(letters[0].payload, array.to_string());
    let headers = format!("{:?}", letters[0].headers);
    assert!(headers.contains('1') && headers.contains('2'), "the bad indexes are named: {headers}");
}

async fn dead_letters(world: &World, count: usize) -> Vec<Event> {
    eventually("the dead letters", SOON, async || {
        let letters = world.nats.stream("PRESENCE_DLQ").await;
        seen(letters.len() >= count, letters)
    })
    .await
}
