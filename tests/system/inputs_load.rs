//! Many inputs at once, and inputs in the middle of other load.

use presence_tests::{Api, JetStream, Service, User, eventually, now_ms, seen};
use serde_json::{Value, json};

use crate::arrivals::{POISON, a_hundred_with_poison, until_online};
use crate::world::{SOON, World, millis};

const OPENED: &str = "gateway.connection.opened";
const HEARTBEAT: &str = "gateway.heartbeat.received";

#[tokio::test]
async fn one_poison_message_among_a_hundred_is_kept_whole_and_the_others_count() {
    for jetstream in [JetStream::On, JetStream::Off] {
        let world = World::on(jetstream, |service| service).await;
        let mut letters = world.nats.subscribe("presence.dlq.>").await;
        let users = a_hundred_with_poison(&world.nats).await;
        until_online(&world.service, &users).await;
        let letter = letters.next().await;
        assert_eq!(letter.subject, "presence.dlq.connection-opened");
        assert_eq!(letter.payload, POISON);
        assert_eq!(letter.header("Dlq-Reason"), Some("user_id: a user id is a hyphenated UUID"));
        world.settle().await;
        assert!(letters.so_far().await.is_empty(), "{jetstream:?}: once");
    }
}

#[tokio::test]
async fn a_gateway_may_tell_of_thousands_in_one_message() {
    let world = World::start().await;
    let users: Vec<User> = (0..5000).map(|_| User::new()).collect();
    let elements: Vec<Value> =
        users.iter().map(|user| json!({ "user_id": user.id(), "session_id": "first" })).collect();
    world.nats.tell(HEARTBEAT, json!(elements)).await;
    until_online(&world.service, &users).await;
}

#[tokio::test]
async fn two_services_without_jetstream_take_each_message_once() {
    let world = World::on(JetStream::Off, |service| service).await;
    let other = Service::start(&world.store, &world.nats).await;
    let users: Vec<User> = (0..300).map(|_| User::new()).collect();
    let client = world.nats.connect().await;
    for user in &users {
        let message = json!({ "user_id": user.id(), "session_id": "first" });
        client.publish(OPENED, message.to_string().into()).await.unwrap();
    }
    client.flush().await.unwrap();
    until_online(&other, &users).await;
    let shares = eventually("each message to be done once", SOON, async || {
        let shares = [opens_done_by(&world.service).await, opens_done_by(&other).await];
        seen(shares.iter().sum::<u64>() == 300, shares)
    })
    .await;
    assert!(shares.iter().all(|share| *share > 50), "{shares:?}");
}

async fn opens_done_by(service: &Service) -> u64 {
    let metrics = service.get_openly("/metrics").await.text;
    let line = r#"presence_batch_records_total{function="connection-opened",outcome="done"} "#;
    metrics.lines().find_map(|found| found.strip_prefix(line)).unwrap_or("0").parse().unwrap()
}

#[tokio::test]
async fn readiness_says_whether_the_subscriptions_are_in_place() {
    let mut world = World::start().await;
    let ready = world.service.get_openly("/ready").await;
    assert_eq!((ready.status, ready.json()["subscriptions"].clone()), (200, json!(true)));
    world.nats.kill();
    let starting = Service::builder().store(&world.store).nats(&world.nats).start_unready().await;
    let ready = starting.get_openly("/ready").await;
    assert_eq!((ready.status, ready.json()["subscriptions"].clone()), (503, json!(false)));
    world.nats.restart().await;
    eventually("the subscriptions", SOON, async || {
        let ready = starting.get_openly("/ready").await;
        seen(ready.status == 200, ready.text)
    })
    .await;
}

#[tokio::test]
async fn heartbeats_are_heard_in_time_while_readers_flood_the_service() {
    let world = World::start().await;
    let user = world.online_user().await;
    let api: Api = *world.service;
    let path = format!("/presence/{}", User::new().id());
    let readers: Vec<_> = (0..200)
        .map(|_| {
            let (reader, path) = (User::new(), path.clone());
            tokio::spawn(async move {
                loop {
                    api.get(&reader, &path).await;
                }
            })
        })
        .collect();
    let mut slowest = 0;
    for _ in 0..10 {
        let told = now_ms();
        world.heartbeat(&user, "first").await;
        world.until(&user, "the heartbeat", |presence| millis(&presence["last_seen"]) >= told).await;
        slowest = slowest.max(now_ms() - told);
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(slowest < 3000, "a heartbeat took {slowest} ms to be heard");
}
