//! Inputs under load while something dies: the service, NATS, the store. No message is lost, and nothing is told that
//! did not happen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use presence_tests::{Event, Nats, Service, ServiceBuilder, User, eventually, seen};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::world::World;

const OPENED: &str = "gateway.connection.opened";

/// How long from one user to the next, so that a load is still under way when something dies.
const BETWEEN: Duration = Duration::from_millis(3);

/// How soon a gateway tries again.
const PACE: Duration = Duration::from_millis(20);

/// How long a load may take, with crashes, on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// Sessions live long enough for all of it.
fn patient(service: ServiceBuilder) -> ServiceBuilder {
    service.env("HEARTBEAT_INTERVAL", 100).env("HEARTBEAT_TIMEOUT", 200)
}

/// Users whose gateway tells of them one by one and insists: each message is sent until the stream has it.
struct Arrivals {
    users: Arc<Vec<User>>,
    told: Arc<AtomicUsize>,
    telling: JoinHandle<()>,
}

impl Arrivals {
    async fn begin(nats: &Nats, users: usize) -> Self {
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
    async fn until_told(&self, count: usize) {
        eventually("messages to be told", LONG, async || {
            let told = self.told.load(Ordering::Relaxed);
            seen(told >= count, told)
        })
        .await;
    }

    /// Waits until everyone is told of and read online.
    async fn until_online(self, service: &Service) -> Arc<Vec<User>> {
        self.telling.await.unwrap();
        let everyone: Vec<&User> = self.users.iter().collect();
        eventually("everyone to be online", LONG, async || {
            let mut online = 0;
            for some in everyone.chunks(500) {
                online += service.presences(some).await.iter().filter(|one| one["status"] == "online").count();
            }
            seen(online == everyone.len(), online)
        })
        .await;
        self.users.clone()
    }
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
async fn assert_told_online_once(nats: &Nats, users: &[User]) {
    let known: HashSet<&str> = users.iter().map(User::id).collect();
    let events = eventually("everyone to be told online", LONG, async || {
        let events = nats.stream("PRESENCE_EVENTS").await;
        let told: HashSet<String> = events.iter().map(user_of).filter(|user| known.contains(user.as_str())).collect();
        if told.len() == users.len() { Ok(events) } else { Err(told.len()) }
    })
    .await;
    let mut versions: HashMap<String, HashSet<u64>> = HashMap::new();
    for event in &events {
        let data = event.data();
        assert_eq!(data["status"], "online", "nobody left: {data}");
        versions.entry(user_of(event)).or_default().insert(data["version"].as_u64().unwrap());
    }
    let changed_twice = versions.values().filter(|versions| versions.len() > 1).count();
    assert_eq!(changed_twice, 0, "one change has one version, however often it is told");
}

fn user_of(event: &Event) -> String {
    event.data()["user_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_service_that_is_killed_under_load_loses_nothing() {
    let mut world = World::with(patient).await;
    let arrivals = Arrivals::begin(&world.nats, 1500).await;
    for told in [200, 600, 1000] {
        arrivals.until_told(told).await;
        world.service.crash_and_restart().await;
    }
    let users = arrivals.until_online(&world.service).await;
    assert_told_online_once(&world.nats, &users).await;
    assert!(world.nats.stream("PRESENCE_DLQ").await.is_empty());
}

#[tokio::test]
async fn a_nats_that_restarts_under_load_loses_nothing() {
    let mut world = World::with(patient).await;
    let arrivals = Arrivals::begin(&world.nats, 1500).await;
    for told in [200, 800] {
        arrivals.until_told(told).await;
        world.nats.kill();
        world.nats.restart().await;
    }
    let users = arrivals.until_online(&world.service).await;
    assert_told_online_once(&world.nats, &users).await;
    assert!(world.service.process().is_alive());
}

#[tokio::test]
async fn a_store_that_restarts_under_load_loses_nothing_and_turns_nobody_offline() {
    let mut world = World::with(patient).await;
    let arrivals = Arrivals::begin(&world.nats, 1500).await;
    for told in [200, 800] {
        arrivals.until_told(told).await;
        world.store.kill();
        arrivals.until_told(told + 200).await;
        world.store.restart().await;
    }
    let users = arrivals.until_online(&world.service).await;
    assert_told_online_once(&world.nats, &users).await;
    assert!(world.nats.stream("PRESENCE_DLQ").await.is_empty(), "an absence is no failure of a message");
    assert!(world.service.process().is_alive());
}

#[tokio::test]
async fn a_service_that_is_asked_to_end_under_load_hands_its_messages_to_another() {
    let mut world = World::with(patient).await;
    let other = patient(Service::builder().store(&world.store).nats(&world.nats)).start().await;
    let arrivals = Arrivals::begin(&world.nats, 1500).await;
    arrivals.until_told(500).await;
    let status = world.service.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", world.service.log());
    let users = arrivals.until_online(&other).await;
    assert_told_online_once(&world.nats, &users).await;
}

#[tokio::test]
async fn two_services_share_the_messages_and_one_that_is_killed_leaves_its_share_to_the_other() {
    let mut world = World::with(patient).await;
    let other = patient(Service::builder().store(&world.store).nats(&world.nats)).start().await;
    let arrivals = Arrivals::begin(&world.nats, 1500).await;
    arrivals.until_told(700).await;
    for service in [&world.service, &other] {
        eventually("a share of the messages", LONG, async || {
            let done = done_by(service).await;
            seen(done > 50, done)
        })
        .await;
    }
    world.service.process().kill();
    let users = arrivals.until_online(&other).await;
    assert_told_online_once(&world.nats, &users).await;
}

/// How many messages a service processed.
async fn done_by(service: &Service) -> u64 {
    let metrics = service.get_openly("/metrics").await.text;
    let done = metrics
        .lines()
        .filter(|line| line.starts_with("presence_bridge_messages_total") && line.contains(r#"outcome="done""#));
    done.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
