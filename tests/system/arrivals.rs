//! Loads that are under way while something dies, and what must hold of them afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Client, jetstream};
use presence_tests::{Api, Event, Nats, ServiceBuilder, User, eventually, seen};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::interval;
use uuid::Uuid;

const OPENED: &str = "gateway.connection.opened";
const HEARTBEAT: &str = "gateway.heartbeat.received";

/// How long from one user to the next, so that a load is still under way when something dies.
const BETWEEN: Duration = Duration::from_millis(3);

/// How soon a gateway tries again.
const PACE: Duration = Duration::from_millis(20);

/// How long a load may take, with crashes, on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// With these, sessions live long enough for all of it.
pub(crate) const PATIENT: [(&str, &str); 2] = [("HEARTBEAT_INTERVAL", "100"), ("HEARTBEAT_TIMEOUT", "200")];

/// A service whose sessions do.
pub(crate) fn patient(service: ServiceBuilder) -> ServiceBuilder {
    service.envs(&PATIENT)
}

/// So many moments of a load of that many users, none of its first and last fifth. Others each time.
pub(crate) fn random_moments(count: usize, users: usize) -> Vec<usize> {
    let spread = users * 3 / 5;
    let moment = |_| users / 5 + Uuid::new_v4().as_u128() as usize % spread;
    let mut moments: Vec<usize> = (0..count).map(moment).collect();
    moments.sort_unstable();
    moments
}

/// Users whose gateway tells of them one by one and insists: each message is sent until the stream has it.
pub(crate) struct Arrivals {
    users: Arc<Vec<User>>,
    told: Arc<AtomicUsize>,
    telling: JoinHandle<()>,
}

impl Arrivals {
    pub(crate) async fn begin(nats: &Nats, users: usize) -> Self {
        let users: Arc<Vec<User>> = Arc::new((0..users).map(|_| User::new()).collect());
        let told = Arc::new(AtomicUsize::new(0));
        let client = nats.connect().await;
        let telling = tokio::spawn({
            let (users, told) = (users.clone(), told.clone());
            async move {
                let mut jetstream = jetstream::new(client);
                jetstream.set_timeout(Duration::from_millis(500));
                let mut arrivals = interval(BETWEEN);
                for user in users.iter() {
                    arrivals.tick().await;
                    let message = json!({ "user_id": user.id(), "session_id": "first" }).to_string();
                    insist(&jetstream, &message).await;
                    told.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { users, told, telling }
    }

    /// Waits until so many are told of.
    pub(crate) async fn until_told(&self, count: usize) {
        eventually("messages to be told", LONG, async || {
            let told = self.told.load(Ordering::Relaxed);
            seen(told >= count, told)
        })
        .await;
    }

    /// Waits until everyone is told of and read online.
    pub(crate) async fn until_online(self, api: &Api) -> Arc<Vec<User>> {
        self.telling.await.unwrap();
        until_online(api, &self.users).await;
        self.users.clone()
    }
}

/// What [`a_hundred_with_poison`] publishes among the others.
pub(crate) const POISON: &str = r#"{"user_id":"nobody","secret":"kept"}"#;

/// Ninety-nine users come online, and among their messages is one that nobody can read.
pub(crate) async fn a_hundred_with_poison(nats: &Nats) -> Vec<User> {
    let users: Vec<User> = (0..99).map(|_| User::new()).collect();
    let client = nats.connect().await;
    for (number, user) in users.iter().enumerate() {
        if number == 40 {
            client.publish(OPENED, POISON.into()).await.unwrap();
        }
        let message = json!({ "user_id": user.id(), "session_id": "first" });
        client.publish(OPENED, message.to_string().into()).await.unwrap();
    }
    client.flush().await.unwrap();
    users
}

/// Waits until everyone is read online. A host that has just been broken may refuse a while.
pub(crate) async fn until_online(api: &Api, users: &[User]) {
    let everyone: Vec<&User> = users.iter().collect();
    eventually("everyone to be online", LONG, async || {
        let mut online = 0;
        for some in everyone.chunks(500) {
            let ids: Vec<&str> = some.iter().map(|user| user.id()).collect();
            let answer = api.post(&User::new(), "/presence/bulk", &json!({ "user_ids": ids })).await;
            if answer.status != 200 {
                return Err(answer.text);
            }
            let answer = answer.json();
            let presences = answer["presences"].as_array().unwrap();
            online += presences.iter().filter(|presence| presence["status"] == "online").count();
        }
        seen(online == everyone.len(), online).map_err(|online| format!("{online} online"))
    })
    .await;
}

/// Sends until the stream has it.
async fn insist(jetstream: &jetstream::Context, message: &str) {
    let mut gateway = interval(PACE);
    loop {
        gateway.tick().await;
        if let Ok(sent) = jetstream.publish(OPENED, message.to_owned().into()).await
            && sent.await.is_ok()
        {
            return;
        }
    }
}

/// Waits until each user is told online in the stream, and asserts that nothing else is told, and each thing once: what
/// comes twice has the same version.
pub(crate) async fn assert_told_online_once(nats: &Nats, users: &[User]) {
    let events = until_all_told(nats, users).await;
    let mut versions: HashMap<String, HashSet<u64>> = HashMap::new();
    for event in &events {
        let data = event.data();
        assert_eq!(data["status"], "online", "nobody left: {data}");
        versions.entry(user_of(event)).or_default().insert(data["version"].as_u64().unwrap());
    }
    let changed_twice = versions.values().filter(|versions| versions.len() > 1).count();
    assert_eq!(changed_twice, 0, "one change has one version, however often it is told");
}

/// Everything that was told once something was told of each user.
pub(crate) async fn until_all_told(nats: &Nats, users: &[User]) -> Vec<Event> {
    let known: HashSet<&str> = users.iter().map(User::id).collect();
    eventually("everyone to be told of", LONG, async || {
        let events = nats.stream("PRESENCE_EVENTS").await;
        let told: HashSet<String> = events.iter().map(user_of).filter(|user| known.contains(user.as_str())).collect();
        if told.len() == users.len() { Ok(events) } else { Err(told.len()) }
    })
    .await
}

fn user_of(event: &Event) -> String {
    event.data()["user_id"].as_str().unwrap().to_owned()
}

/// How often each of a crowd is heard of: a few times in the shortest interval of a test, and not so often that a busy
/// machine with a cluster on it can't catch up after an outage.
const BEAT: Duration = Duration::from_secs(1);

/// Users who are there all the time: their gateway reports all their heartbeats, many in one message, once a second,
/// whether anybody hears them or not.
pub(crate) struct Crowd {
    pub(crate) users: Arc<Vec<User>>,
    beating: JoinHandle<()>,
}

impl Crowd {
    pub(crate) async fn begin(nats: &Nats, users: usize) -> Self {
        let users: Arc<Vec<User>> = Arc::new((0..users).map(|_| User::new()).collect());
        let (client, all) = (nats.connect().await, users.clone());
        let beating = tokio::spawn(async move {
            let mut beats = interval(BEAT);
            loop {
                beats.tick().await;
                for some in all.chunks(100) {
                    report(&client, some).await;
                }
            }
        });
        Self { users, beating }
    }

    /// They fall silent.
    pub(crate) fn end(self) {
        self.beating.abort();
    }
}

/// What a gateway tells while NATS is away is gone.
async fn report(client: &Client, users: &[User]) {
    let elements: Vec<Value> =
        users.iter().map(|user| json!({ "user_id": user.id(), "session_id": "first" })).collect();
    let _ = client.publish(HEARTBEAT, json!(elements).to_string().into()).await;
}
