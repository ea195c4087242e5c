//! Promise 7, in two worlds: users with the same random history, of whom one became invisible where the other went
//! offline, and then did all kinds of things. Whatever anyone else can get hold of is compared byte for byte.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use http::{Method, Request};
use presence_tests::{Answer, Event, User};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

use crate::world::{SOON, World, of};

/// How many pairs of users there are, each with a history of its own.
const PAIRS: u8 = 16;

/// Something that one user does.
#[derive(Debug, Clone)]
enum Act {
    /// A gateway tells of a session.
    Tells(&'static str, &'static str, Value),
    /// A request of their own.
    Posts(&'static str, Value),
}

use Act::{Posts, Tells};

/// Sessions that come and go beside the first one, all on one platform: then going offline is one change.
fn session_act() -> impl Strategy<Value = Act> {
    let subject = prop_oneof![
        Just(("gateway.connection.opened", json!({}))),
        Just(("gateway.heartbeat.received", json!({}))),
        Just(("gateway.connection.closed", json!({}))),
        Just(("gateway.connection.closed", json!({ "close_code": 1006 }))),
    ];
    (subject, prop_oneof![Just("second"), Just("third")]).prop_map(|((subject, more), id)| Tells(subject, id, more))
}

fn voice_act() -> impl Strategy<Value = Act> {
    let created = json!({ "channel_name": "Lounge" });
    prop_oneof![
        2 => Just(Tells("voice.session.created", "voice", created)),
        1 => Just(Tells("voice.session.ended", "voice", json!({}))),
    ]
}

fn update(statuses: &'static [&'static str]) -> impl Strategy<Value = Act> {
    let text = prop_oneof![Just(Value::Null), Just(json!("Busy"))];
    let activity = prop_oneof![Just(Value::Null), Just(json!({ "type": "playing", "name": "Chess" }))];
    prop_oneof![
        proptest::sample::select(statuses).prop_map(|status| json!({ "status": status })),
        text.prop_map(|text| json!({ "custom_status": text })),
        activity.prop_map(|activity| json!({ "activity": activity })),
    ]
    .prop_map(|body| Posts("/presence/status", body))
}

/// What goes before, for both; few enough updates to be allowed one more.
fn before() -> impl Strategy<Value = Vec<Act>> {
    let updates = vec(update(&["online", "idle", "dnd"]), 0..3);
    let messages = vec(prop_oneof![3 => session_act().boxed(), 1 => voice_act().boxed()], 0..6);
    (updates, messages).prop_map(|(updates, messages)| [updates, messages].concat()).prop_shuffle()
}

/// What only the invisible one does afterwards.
fn after(channel: &str) -> impl Strategy<Value = Vec<Act>> + use<> {
    let typing = Posts("/presence/typing", json!({ "channel_id": channel }));
    let first = prop_oneof![
        Just(Tells("gateway.connection.closed", "first", json!({}))),
        Just(Tells("gateway.heartbeat.received", "first", json!({}))),
        Just(Tells("gateway.connection.opened", "phone", json!({ "platform": "mobile" }))),
        Just(Tells("gateway.connection.opened", "phone", json!({ "status": "invisible" }))),
    ];
    let messages = vec(prop_oneof![session_act().boxed(), voice_act().boxed(), first.boxed()], 2..10);
    let updates = vec(update(&["offline", "invisible"]), 1..3);
    (messages, updates)
        .prop_map(move |(messages, updates)| [messages, updates, vec![typing.clone()]].concat())
        .prop_shuffle()
}

/// Two users with the same past, and how they came to be gone.
#[derive(Debug)]
struct Pair {
    hidden: User,
    gone: User,
    channel: String,
    /// By which way one of them became invisible.
    by_update: bool,
    before: Vec<Act>,
    after: Vec<Act>,
}

impl Pair {
    /// The same for the same seed, but for their ids.
    fn of(seed: u8) -> Self {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let channel = Uuid::new_v4().to_string();
        let tree = (before(), after(&channel), any::<bool>()).new_tree(&mut runner).unwrap();
        let (before, after, by_update) = tree.current();
        Self { hidden: User::new(), gone: User::new(), channel, by_update, before, after }
    }

    fn both(&self) -> [&User; 2] {
        [&self.hidden, &self.gone]
    }
}

/// Everything that comes to a subscriber of the gateway.
struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Listener {
    /// Subscribed to all of them, and what it was sent of them at once.
    async fn with_snapshot(world: &World, pairs: &[Pair]) -> (Self, Vec<String>) {
        let (socket, _) = connect_async(format!("ws://127.0.0.1:{}/gateway", world.service.port())).await.unwrap();
        let mut listener = Self(socket);
        let ids: Vec<&str> = pairs.iter().flat_map(Pair::both).map(User::id).collect();
        listener.send(&json!({ "op": 2, "d": { "token": User::new().token() } })).await;
        let channels: Vec<&str> = pairs.iter().map(|pair| pair.channel.as_str()).collect();
        listener.send(&json!({ "op": 14, "d": { "user_ids": ids, "channel_ids": channels } })).await;
        let mut frames = Vec::new();
        while !ids.iter().all(|id| frames.iter().any(|frame: &String| frame.contains(id))) {
            frames.push(listener.next().await);
        }
        (listener, frames)
    }

    async fn send(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> String {
        loop {
            let message = timeout(SOON, self.0.next()).await.expect("a frame in time");
            match message.expect("the connection").unwrap() {
                Message::Text(text) => return text.to_string(),
                other => assert!(matches!(other, Message::Ping(_) | Message::Pong(_)), "{other:?}"),
            }
        }
    }

    /// All frames that were sent before now: the answer to a heartbeat comes after them.
    async fn so_far(&mut self) -> Vec<String> {
        self.send(&json!({ "op": 1, "d": null })).await;
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                answer if answer == r#"{"op":11,"d":null}"# => return frames,
                frame => frames.push(frame),
            }
        }
    }
}

/// What a stranger gets to see of a user by asking.
struct Seen<'a> {
    user: &'a User,
    presence: Value,
    asked: Vec<Answer>,
}

impl<'a> Seen<'a> {
    async fn of(world: &World, user: &'a User, reader: &User) -> Self {
        let path = format!("/presence/{}", user.id());
        let token = format!("Bearer {}", reader.token());
        let head = Request::builder().method(Method::HEAD).uri(&path).header(AUTHORIZATION, token);
        let asked = vec![
            world.service.get(reader, &path).await,
            world.service.send(head.body(Bytes::new()).unwrap()).await,
            world.service.post(reader, "/presence/bulk", &json!({ "user_ids": [user.id()] })).await,
        ];
        Self { user, presence: asked[0].ok(), asked }
    }

    /// The answers as they came, but for the headers that are each request's own.
    fn bytes(&self) -> Vec<String> {
        let bytes = |answer: &Answer| {
            let own = ["date", "x-request-id", "traceparent"];
            let headers = answer.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
            let headers = headers.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
            format!("{}\n{}\n{}", answer.status, headers.collect::<String>(), answer.text)
        };
        self.asked.iter().map(bytes).collect()
    }

    fn answers(&self) -> Vec<String> {
        self.bytes().iter().map(|answer| self.anyone(answer)).collect()
    }

    /// The user's events among others.
    fn events(&self, events: &[Event]) -> Vec<String> {
        let header = |(name, value): &(String, String)| match name.as_str() {
            "traceparent" => format!("{name}: {} bytes\n", value.len()),
            "ce-time" => format!("{name}: {} bytes\n", value.len()),
            _ => format!("{name}: {value}\n"),
        };
        let bytes = |event: &Event| {
            let mut headers: Vec<String> = event.headers.iter().map(header).collect();
            headers.sort();
            self.anyone(&format!("{}\n{}\n{}", event.subject, headers.concat(), event.payload))
        };
        of(self.user, events).into_iter().map(bytes).collect()
    }

    /// The gateway's frames about the user among others.
    fn frames(&self, frames: &[String]) -> Vec<String> {
        frames.iter().filter(|frame| frame.contains(self.user.id())).map(|frame| self.anyone(frame)).collect()
    }

    /// Without what differs between two users and two moments.
    fn anyone(&self, text: &str) -> String {
        text.replace(self.user.id(), "<user>")
            .replace(self.presence["last_seen"].as_str().unwrap(), "<last seen>")
            .replace(&self.presence["version"].to_string(), "<version>")
    }
}

async fn act(world: &World, user: &User, act: &Act) {
    match act {
        Tells(subject, session, more) => world.tell(subject, user, session, more.clone()).await,
        Posts(path, body) => {
            let answer = world.service.post(user, path, body).await;
            assert!(matches!(answer.status, 200 | 204), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn whatever_an_invisible_user_does_nobody_else_can_tell_them_from_one_who_left() {
    let world = World::start().await;
    let pairs: Vec<Pair> = (0..PAIRS).map(Pair::of).collect();
    let reader = User::new();
    for pair in &pairs {
        for user in pair.both() {
            world.opened(user, "first").await;
            world.until_status(user, "online").await;
            for one in &pair.before {
                act(&world, user, one).await;
            }
        }
    }
    world.settle().await;
    world.later().await;
    let mut events = world.nats.events().await;
    let (mut listener, _) = Listener::with_snapshot(&world, &pairs).await;

    for pair in &pairs {
        if pair.by_update {
            act(&world, &pair.hidden, &Posts("/presence/status", json!({ "status": "offline" }))).await;
        } else {
            world.tell("gateway.connection.opened", &pair.hidden, "fourth", json!({ "status": "invisible" })).await;
        }
        let closed = ["first", "second", "third"].map(|id| json!({ "user_id": pair.gone.id(), "session_id": id }));
        world.nats.tell("gateway.connection.closed", json!(closed)).await;
        for user in pair.both() {
            world.until_status(user, "offline").await;
        }
    }
    world.settle().await;

    // They go offline alike.
    let (told, frames) = (events.so_far().await, listener.so_far().await);
    let mut at_first = Vec::new();
    for pair in &pairs {
        let [hidden, gone] =
            [Seen::of(&world, &pair.hidden, &reader).await, Seen::of(&world, &pair.gone, &reader).await];
        assert_eq!(hidden.answers(), gone.answers(), "{pair:?}");
        assert_eq!(hidden.events(&told), gone.events(&told), "{pair:?}");
        assert_eq!(hidden.frames(&frames), gone.frames(&frames), "{pair:?}");
        assert_eq!((hidden.events(&told).len(), hidden.frames(&frames).len()), (1, 1), "{pair:?}");
        at_first.push((hidden, gone));
    }

    // Then one of them does all that an invisible user may do, and no byte changes.
    for pair in &pairs {
        for one in &pair.after {
            act(&world, &pair.hidden, one).await;
        }
    }
    world.settle().await;
    let (told, frames) = (events.so_far().await, listener.so_far().await);
    let (_, snapshot) = Listener::with_snapshot(&world, &pairs).await;
    for (pair, (hidden, gone)) in pairs.iter().zip(&at_first) {
        for before in [hidden, gone] {
            let now = Seen::of(&world, before.user, &reader).await;
            assert_eq!(now.bytes(), before.bytes(), "{pair:?}");
            assert_eq!(before.events(&told), [""; 0], "{pair:?}");
            assert_eq!(before.frames(&frames), [""; 0], "{pair:?}");
        }
        assert_eq!(hidden.frames(&snapshot), gone.frames(&snapshot), "{pair:?}");
        let typing = world.service.get(&reader, &format!("/presence/typing/{}", pair.channel)).await;
        let nobody = Uuid::new_v4().to_string();
        let silence = world.service.get(&reader, &format!("/presence/typing/{nobody}")).await;
        assert_eq!(typing.text.replace(&pair.channel, &nobody), silence.text, "{pair:?}");
        assert!(!frames.iter().any(|frame| frame.contains(&pair.channel)), "{pair:?}");
    }
}
