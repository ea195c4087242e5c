//! The bridge as a process of its own, with the functions in the local Lambda emulator: the whole as it runs in the
//! cloud.

use std::time::Duration;

use presence_tests::{Api, Emulator, Event, JetStream, Nats, Service, Store, User, eventually, seen};
use serde_json::{Value, json};

use crate::arrivals::{POISON, a_hundred_with_poison, until_online};
use crate::world::SOON;

const OPENED: &str = "gateway.connection.opened";
const CLOSED: &str = "gateway.connection.closed";
const HEARTBEAT: &str = "gateway.heartbeat.received";

/// How long a function may take to start on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct World {
    // Dropped in this order.
    _bridge: Service,
    emulator: Emulator,
    nats: Nats,
    _store: Store,
}

impl World {
    async fn with(variables: &[(&str, &str)]) -> Self {
        let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
        let emulator = Emulator::start_with(&store, &nats, variables).await;
        let bridge = Service::bridge_to(&emulator).store(&store).nats(&nats).envs(variables).start().await;
        Self { _bridge: bridge, emulator, nats, _store: store }
    }

    async fn tell(&self, subject: &'static str, user: &User, session: &str, more: Value) {
        let mut message = json!({ "user_id": user.id(), "session_id": session });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.nats.tell(subject, message).await;
    }

    async fn until_status(&self, user: &User, status: &str) {
        until_status(&self.emulator, user, status).await;
    }
}

async fn until_status(api: &Api, user: &User, status: &str) {
    eventually(&format!("to be read {status}"), LONG, async || {
        // A function finds out at its own time that the store is back.
        let answer = api.get(&User::new(), &format!("/presence/{}", user.id())).await;
        seen(answer.status == 200 && answer.json()["status"] == status, answer.text)
    })
    .await;
}

#[tokio::test]
async fn messages_of_nats_reach_the_functions_and_silence_is_told() {
    let world = World::with(&[("HEARTBEAT_INTERVAL", "5"), ("HEARTBEAT_TIMEOUT", "8")]).await;
    world.emulator.warm_up().await;
    let mut events = world.nats.events().await;
    let (user, silent) = (User::new(), User::new());

    world.tell(OPENED, &user, "desk", json!({ "platform": "desktop" })).await;
    world.tell(OPENED, &silent, "lost", json!({})).await;
    world.until_status(&user, "online").await;
    assert_eq!(events.next_of(&user).await.data()["client_status"], json!({ "desktop": "online" }));

    world.tell("voice.session.created", &user, "voice", json!({ "channel_name": "Lounge" })).await;
    let joined = events.next_of(&user).await;
    assert_eq!(
        (joined.subject.as_str(), joined.data()["activity"]["name"].as_str()),
        ("presence.activity.updated", Some("Lounge"))
    );
    world.tell("voice.session.ended", &user, "voice", json!({})).await;
    assert_eq!(events.next_of(&user).await.data()["activity"], Value::Null);

    world.nats.tell(HEARTBEAT, json!([{ "user_id": user.id(), "session_id": "phone", "platform": "mobile" }])).await;
    let adopted = events.next_of(&user).await.data();
    assert_eq!(adopted["client_status"]["mobile"], "online", "a heartbeat of a session that nobody knew: {adopted}");
    world.tell(CLOSED, &user, "desk", json!({})).await;
    world.tell(CLOSED, &user, "phone", json!({})).await;
    world.until_status(&user, "offline").await;

    // The bridge itself sweeps.
    let told = eventually("silence to be told", LONG, async || {
        let events = world.nats.stream("PRESENCE_EVENTS").await;
        let of_silent = |event: &Event| event.data()["user_id"] == silent.id();
        events.into_iter().rfind(of_silent).filter(|event| event.data()["status"] == "offline").ok_or(())
    })
    .await;
    assert_eq!(told.subject, "presence.status.changed");

    world.emulator.stop().await;
}

#[tokio::test]
async fn one_poison_message_among_a_hundred_is_kept_whole_and_the_functions_do_the_others() {
    let world = World::with(&[]).await;
    let users = a_hundred_with_poison(&world.nats).await;
    until_online(&world.emulator, &users).await;
    let letters = eventually("a dead letter", LONG, async || {
        let letters = world.nats.stream("PRESENCE_DLQ").await;
        if letters.is_empty() { Err(()) } else { Ok(letters) }
    })
    .await;
    let kept: Vec<_> = letters.iter().map(|letter| (letter.subject.as_str(), letter.payload.as_str())).collect();
    assert_eq!(kept, [("presence.dlq.connection-opened", POISON)]);
    world.emulator.stop().await;
}

#[tokio::test]
async fn while_the_functions_or_their_store_are_away_messages_wait() {
    let (mut store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let nobody = Api::at(1);
    let user = User::new();
    let early = Service::bridge_to(&nobody).store(&store).nats(&nats).start().await;
    nats.tell(OPENED, json!({ "user_id": user.id(), "session_id": "first" })).await;
    eventually("the bridge to notice", SOON, async || {
        let metrics = early.get_openly("/metrics").await.text;
        seen(metrics.contains(r#"outcome="unavailable""#), metrics)
    })
    .await;
    drop(early);
    // The function comes with the store away, so it says so itself.
    let emulator = Emulator::start(&store, &nats).await;
    let bridge = Service::bridge_to(&emulator).store(&store).nats(&nats).start().await;
    until_status(&emulator, &user, "online").await;
    store.kill();
    let late = User::new();
    nats.tell(OPENED, json!({ "user_id": late.id(), "session_id": "first" })).await;
    eventually("the bridge to notice", SOON, async || {
        let ready = bridge.get_openly("/ready").await;
        seen(ready.status == 503 && ready.json()["store"] == false, ready.text)
    })
    .await;
    store.restart().await;
    until_status(&emulator, &late, "online").await;
    assert!(nats.stream("PRESENCE_DLQ").await.is_empty());
    emulator.stop().await;
}

#[tokio::test]
async fn a_bridge_that_may_create_nothing_says_what_is_missing() {
    let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let first = Service::bridge_to(&Api::at(1)).store(&store).nats(&nats).start().await;
    drop(first);
    let jetstream = async_nats::jetstream::new(nats.connect().await);
    jetstream.delete_consumer_from_stream("voice-session-ended", "PRESENCE").await.unwrap();

    let bridge =
        Service::bridge_to(&Api::at(1)).store(&store).nats(&nats).env("CREATE_STREAMS", "off").start_unready().await;
    let missing = eventually("what is missing", SOON, async || {
        let ready = bridge.get_openly("/ready").await.json();
        if ready["missing"].is_array() { Ok(ready["missing"].clone()) } else { Err(ready) }
    })
    .await;
    assert_eq!(missing.as_array().unwrap().len(), 1, "{missing}");
    let words = "consumer voice-session-ended of stream PRESENCE does not exist";
    assert!(missing[0].as_str().unwrap().starts_with(words), "{missing}");
    assert!(bridge.log().contains(words));
    jetstream.delete_stream("PRESENCE").await.unwrap();
    eventually("the stream to be missed", SOON, async || {
        let ready = bridge.get_openly("/ready").await.text;
        seen(ready.contains("stream PRESENCE does not exist"), ready)
    })
    .await;
    drop(bridge);

    // That of the dead letters is not needed until there is one: it is missed all the same.
    jetstream.delete_stream("PRESENCE_DLQ").await.unwrap();
    let provisioned = Service::bridge_to(&Api::at(1)).store(&store).nats(&nats).env("CREATE_STREAMS", "off");
    let bridge = provisioned.start_unready().await;
    eventually("the stream of dead letters to be missed", SOON, async || {
        let log = bridge.log();
        seen(log.contains("stream PRESENCE_DLQ does not exist"), log)
    })
    .await;
    assert!(jetstream.get_stream("PRESENCE_DLQ").await.is_err(), "it may not make it");
}

#[tokio::test]
async fn all_that_is_wrong_with_its_configuration_is_told_before_anything_starts() {
    let builder = Service::bridge_to(&Api::at(1))
        .env("REDIS_URL", "redis://:hunter2@")
        .env("BATCH_SIZE", "many")
        .env("HEARTBEAT_RECEIVED_ON_FAILURE", "cry");
    let (status, said) = builder.fail().await;
    assert_eq!(status.code(), Some(1));
    for variable in ["REDIS_URL", "BATCH_SIZE", "HEARTBEAT_RECEIVED_ON_FAILURE"] {
        assert!(said.contains(variable), "{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}
