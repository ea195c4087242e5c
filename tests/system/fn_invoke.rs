//! The event functions as their host invokes them: a batch of messages in, those that have to come again out. They run in
//! the local Lambda emulator and nothing else of ours does, so that whatever happens they did.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use presence_tests::{Emulator, JetStream, Nats, Service, Store, User, eventually, now_ms, seen};
use serde_json::{Value, json};

use crate::world::SOON;

const OPENED: &str = "connection-opened";
const CLOSED: &str = "connection-closed";
const HEARTBEAT: &str = "heartbeat-received";

/// How long an outage may be watched. A pass asks a store that is away up to four times, and may wait for each answer
/// until the deadline of a command.
const OUTAGE: Duration = Duration::from_secs(30);

/// A store, a NATS without JetStream, so that nobody has to create streams, and the functions.
struct World {
    emulator: Emulator,
    nats: Nats,
    store: Store,
}

impl World {
    async fn with(variables: &[(&str, &str)]) -> Self {
        let (store, nats) = (Store::start().await, Nats::start(JetStream::Off).await);
        let emulator = Emulator::start_with(&store, &nats, variables).await;
        Self { emulator, nats, store }
    }

    /// Hands messages to a function, which must have done with all of them.
    async fn done(&self, function: &str, messages: &[Value]) {
        let texts: Vec<String> = messages.iter().map(Value::to_string).collect();
        let answer = self.emulator.invoke(function, &batch(&texts)).await;
        assert_eq!(answer, (200, json!({ "batchItemFailures": [] })), "{function}");
    }

    async fn status(&self, user: &User) -> Value {
        self.emulator.presence(user).await["status"].clone()
    }
}

/// A batch of messages that were published now.
fn batch(messages: &[String]) -> Value {
    let record = |(number, message): (usize, &String)| {
        json!({
            "messageId": format!("PRESENCE:{}", number + 1),
            "subject": "any",
            "data": BASE64_STANDARD.encode(message),
            "headers": {},
            "numDelivered": 1,
            "timestamp": now_ms(),
        })
    };
    json!({ "eventSource": "nats:jetstream", "Records": messages.iter().enumerate().map(record).collect::<Vec<_>>() })
}

fn session(user: &User, session: &str) -> Value {
    json!({ "user_id": user.id(), "session_id": session })
}

#[tokio::test]
async fn each_function_does_what_its_messages_say() {
    let world = World::with(&[]).await;
    let mut events = world.nats.events().await;
    let (user, other) = (User::new(), User::new());

    world.done(OPENED, &[session(&user, "a"), json!([session(&user, "b"), session(&other, "a")])]).await;
    assert_eq!(world.status(&user).await, "online");
    assert_eq!(world.status(&other).await, "online");
    assert_eq!(events.next_of(&user).await.data()["status"], "online");

    world.done(HEARTBEAT, &[json!([session(&user, "a"), session(&User::new(), "adopted")])]).await;
    let joined = json!({ "user_id": user.id(), "session_id": "voice", "channel_name": "Lounge" });
    world.done("voice-session-created", &[joined]).await;
    assert_eq!(world.emulator.presence(&user).await["activity"]["name"], "Lounge");
    assert_eq!(events.next_of(&user).await.subject, "presence.activity.updated");
    world.done("voice-session-ended", &[session(&user, "voice")]).await;
    assert_eq!(world.emulator.presence(&user).await["activity"], Value::Null);
    events.next_of(&user).await;

    world.done(CLOSED, &[session(&user, "a")]).await;
    assert_eq!(world.status(&user).await, "online", "the other session lives");
    world.done(CLOSED, &[session(&user, "b")]).await;
    assert_eq!(world.status(&user).await, "offline");
    assert_eq!(events.next_of(&user).await.data()["status"], "offline");
    world.emulator.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_or_a_dead_letter_and_the_function_lives_on() {
    let world = World::with(&[]).await;
    let mut letters = world.nats.subscribe("presence.dlq.>").await;
    for event in [json!({}), json!(7), json!({ "Records": 7 }), json!({ "Records": [{ "messageId": "a" }] })] {
        let (status, error) = world.emulator.invoke(OPENED, &event).await;
        assert_eq!(status, 500, "{error}");
        assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("deserialize")), "{error}");
    }

    let users = [User::new(), User::new()];
    let messages =
        [session(&users[0], "a").to_string(), "poison".to_owned(), format!("[{},7]", session(&users[1], "a"))];
    let answer = world.emulator.invoke(OPENED, &batch(&messages)).await;
    assert_eq!(answer, (200, json!({ "batchItemFailures": [] })));
    for user in &users {
        assert_eq!(world.status(user).await, "online");
    }
    for (payload, elements) in [(&messages[1], None), (&messages[2], Some("1"))] {
        let letter = letters.next().await;
        assert_eq!((letter.subject.as_str(), &letter.payload), ("presence.dlq.connection-opened", payload));
        assert_eq!(letter.header("Dlq-Elements"), elements);
    }
    assert!(!world.emulator.log().contains("panicked"), "{}", world.emulator.log());
    world.emulator.stop().await;
}

#[tokio::test]
async fn while_the_store_is_away_a_batch_fails_as_a_whole_and_says_why() {
    let mut world = World::with(&[]).await;
    let user = User::new();
    world.done(OPENED, &[session(&User::new(), "a")]).await;
    world.store.kill();
    let message = batch(&[session(&user, "a").to_string()]);
    let (status, error) = world.emulator.invoke(OPENED, &message).await;
    assert_eq!((status, &error["errorType"]), (500, &json!("Unavailable")), "{error}");
    // A function that starts while the store is away starts all the same.
    let (status, error) = world.emulator.invoke(HEARTBEAT, &message).await;
    assert_eq!((status, &error["errorType"]), (500, &json!("Unavailable")), "{error}");
    world.store.restart().await;
    eventually("the function to reach the store again", SOON, async || {
        let answer = world.emulator.invoke(OPENED, &message).await;
        seen(answer.0 == 200, answer)
    })
    .await;
    assert_eq!(world.status(&user).await, "online");
    world.emulator.stop().await;
}

#[tokio::test]
async fn the_schedule_alone_tells_of_silence_and_reads_need_nobody_to() {
    let world = World::with(&[("HEARTBEAT_INTERVAL", "1"), ("HEARTBEAT_TIMEOUT", "2")]).await;
    let mut events = world.nats.events().await;
    // The first invocation starts the function, which may take longer than a message is worth something.
    world.done(OPENED, &[]).await;
    let (user, opened_at) = (User::new(), now_ms());
    world.done(OPENED, &[json!({ "user_id": user.id(), "session_id": "a", "timestamp": opened_at })]).await;
    assert_eq!(events.next_of(&user).await.data()["status"], "online");

    // Nothing sweeps, and a read at the deadline says offline.
    let deadline = opened_at + 2000;
    eventually("a read that says offline", SOON, async || {
        let before = now_ms();
        let status = world.status(&user).await;
        assert!(before < deadline || status == "offline", "online, {} ms too late", before - deadline);
        seen(status == "offline", status)
    })
    .await;
    assert!(events.so_far().await.iter().all(|event| event.data()["status"] != "offline"), "nobody has looked yet");

    let schedule = json!({ "source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": "{\"once\":true}" });
    let (status, summary) = world.emulator.invoke("sweep-timeouts", &schedule).await;
    assert_eq!(status, 200, "{summary}");
    assert_eq!((&summary["passes"], &summary["expired"]), (&json!(1), &json!(1)), "{summary}");
    let told = events.so_far().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0].data()["user_id"], &told[0].data()["status"]), (&json!(user.id()), &json!("offline")));
    world.emulator.stop().await;
}

#[tokio::test]
async fn after_the_store_was_away_the_schedule_holds_expiries_for_one_interval() {
    let mut world = World::with(&[("HEARTBEAT_INTERVAL", "4"), ("HEARTBEAT_TIMEOUT", "5")]).await;
    let once = json!({ "once": true });
    // Both functions have started before anything depends on time.
    world.done(OPENED, &[]).await;
    assert_eq!(world.emulator.invoke("sweep-timeouts", &once).await.0, 200);
    let user = User::new();
    world.done(OPENED, &[session(&user, "a")]).await;
    world.store.kill();
    let since = now_ms();
    eventually("the deadline to pass", OUTAGE, async || {
        let (status, answer) = world.emulator.invoke("sweep-timeouts", &once).await;
        assert_eq!((status, &answer["errorType"]), (500, &json!("Unavailable")), "{answer}");
        seen(now_ms() > since + 5500, ())
    })
    .await;
    world.store.restart().await;
    let (_, held) = eventually("a pass", SOON, async || {
        let answer = world.emulator.invoke("sweep-timeouts", &once).await;
        seen(answer.0 == 200, answer)
    })
    .await;
    assert_eq!((&held["held"], &held["expired"]), (&json!(true), &json!(0)), "{held}");
    let over = eventually("the hold to be over", SOON, async || {
        let (_, summary) = world.emulator.invoke("sweep-timeouts", &once).await;
        seen(summary["held"] == false, summary)
    })
    .await;
    assert_eq!(over["expired"], 1, "{over}");
    world.emulator.stop().await;
}

#[tokio::test]
async fn where_a_process_ticks_the_schedule_makes_one_pass() {
    let world = World::with(&[]).await;
    let service = Service::start(&world.store, &world.nats).await;
    for event in [json!({}), json!({ "detail": {} }), json!("anything")] {
        let (status, summary) = world.emulator.invoke("sweep-timeouts", &event).await;
        assert_eq!(status, 200, "{summary}");
        assert_eq!((&summary["passes"], &summary["yielded"]), (&json!(1), &json!(true)), "{summary}");
    }
    drop(service);
    world.emulator.stop().await;
}
