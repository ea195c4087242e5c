//! A node over a real NATS, as it runs apart from the service: what it tells, what it hears, and what it does when the
//! servers are away.

use std::time::Duration;

use presence::Host;
use presence::domain::Intent;
use presence_gateway::Limits;
use presence_tests::{Event, Events, Fault, JetStream, Nats, Proxy, Store, User, eventually, seen};
use serde_json::{Value, json};

use crate::client::Client;
use crate::world::{SOON, World, config};

async fn world(nats: &Nats, more: &[(&str, &str)]) -> World {
    let url = nats.url();
    let variables: Vec<(&str, &str)> = [("NATS_URL", url.as_str())].into_iter().chain(more.iter().copied()).collect();
    let config = config(&variables);
    let connected = presence::connect(&config, Host::Process).await.unwrap();
    let world = World::on(connected.service, &connected.carrier, &config, Limits::default()).await;
    eventually("NATS", SOON, async || seen(world.service.readiness().await.events, ()).map_err(|()| "not ready")).await;
    world
}

/// The elements of the messages on a subject of the inputs until `enough` says so.
async fn told(inputs: &mut Events, subject: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut elements = Vec::new();
    while !enough(&elements) {
        let message: Event = inputs.next().await;
        if message.subject == subject {
            let array: Value = serde_json::from_str(&message.payload).unwrap();
            elements.extend(array.as_array().unwrap().iter().cloned());
        }
    }
    elements
}

#[tokio::test]
async fn what_happens_to_connections_is_told_on_the_documented_subjects() {
    for jetstream in [JetStream::On, JetStream::Off] {
        let nats = Nats::start(jetstream).await;
        let world = world(&nats, &[]).await;
        let mut inputs = nats.subscribe("gateway.>").await;
        let user = User::new();
        let before = presence_tests::now_ms();
        let mut client = Client::connect(world.port).await;
        let session = client.identify(&user, json!({ "platform": "desktop", "status": "idle" })).await;
        let opened = told(&mut inputs, "gateway.connection.opened", |all| !all.is_empty()).await.remove(0);
        let mut expected = json!({
            "user_id": user.id(), "session_id": session, "platform": "desktop", "status": "idle",
            "timestamp": opened["timestamp"]
        });
        assert_eq!(opened, expected, "{jetstream:?}");
        assert!((before..=presence_tests::now_ms()).contains(&opened["timestamp"].as_i64().unwrap()));

        client.beat().await;
        let beat = told(&mut inputs, "gateway.heartbeat.received", |all| !all.is_empty()).await.remove(0);
        expected.as_object_mut().unwrap().remove("status");
        expected["timestamp"] = beat["timestamp"].clone();
        assert_eq!(beat, expected);
        assert!(beat["timestamp"].as_i64() >= opened["timestamp"].as_i64());

        client.vanish();
        let closed = told(&mut inputs, "gateway.connection.closed", |all| !all.is_empty()).await.remove(0);
        let timestamp = closed["timestamp"].clone();
        assert_eq!(
            closed,
            json!({ "user_id": user.id(), "session_id": session, "close_code": 1006, "timestamp": timestamp })
        );
        for (code, expected) in [(1000, json!(1000)), (1001, json!(1001)), (4000, json!(4000))] {
            let (client, _) = world.connect(&user).await;
            client.close(code).await;
            let closed = told(&mut inputs, "gateway.connection.closed", |all| !all.is_empty()).await.remove(0);
            assert_eq!(closed["close_code"], expected);
        }
    }
}

#[tokio::test]
async fn heartbeats_are_gathered_into_few_messages() {
    let nats = Nats::start(JetStream::On).await;
    let world = world(&nats, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(world.connect(&User::new()).await.0);
    }
    let mut inputs = nats.subscribe("gateway.heartbeat.received").await;
    for client in &mut clients {
        client.beat().await;
    }
    let (mut messages, mut heartbeats) = (0, 0);
    while heartbeats < 100 {
        let message = inputs.next().await;
        heartbeats += serde_json::from_str::<Value>(&message.payload).unwrap().as_array().unwrap().len();
        messages += 1;
    }
    assert_eq!(heartbeats, 100);
    assert!(messages <= 10, "{messages} messages");
}

#[tokio::test]
async fn events_of_other_processes_are_forwarded_byte_for_byte() {
    let nats = Nats::start(JetStream::Off).await;
    let world = world(&nats, &[]).await;
    let (watched, channel) = (User::new(), uuid::Uuid::new_v4());
    let (mut client, _) = world.connect(&User::new()).await;
    client.send(&json!({ "op": 14, "d": { "user_ids": [watched.id()], "channel_ids": [channel] } })).await;
    client.update().await;
    let id = watched.id();
    let update = format!(r#"{{ "op":3, "t":"PRESENCE_UPDATE","d":{{"user_id":"{id}","version":7,"ünknown":[1, 2]}}}}"#);
    let typing = format!(r#"{{"op":8,"t":"TYPING_START","d":{{"channel_id":"{channel}","user_id":"{id}"}} }}"#);
    nats.tell_raw("presence.activity.updated", b"no frame".to_vec()).await;
    nats.tell_raw("presence.status.changed", update.clone().into_bytes()).await;
    assert_eq!(client.text().await, update);
    nats.tell_raw("presence.typing.started", typing.clone().into_bytes()).await;
    assert_eq!(client.text().await, typing);
}

#[tokio::test]
async fn what_changed_while_nats_was_away_is_read_when_it_is_back_and_what_happened_is_told() {
    let mut nats = Nats::start(JetStream::On).await;
    let world = world(&nats, &[]).await;
    let (watched, leaver, comer) = (User::new(), User::new(), User::new());
    let (mut client, _) = world.connect(&User::new()).await;
    let (leaving, leaving_session) = world.connect(&leaver).await;
    world.choose(&watched, Intent::Online).await;
    client.subscribe(&[&watched]).await;
    client.update().await;

    nats.kill();
    world.say(&watched, "Nobody hears this").await;
    leaving.close(1000).await;
    let (mut coming, coming_session) = world.connect(&comer).await;
    coming.beat().await;
    client.beat().await;
    nats.restart().await;
    assert_eq!(client.update().await["custom_status"], "Nobody hears this");
    eventually("everything to be told", SOON, async || {
        let inputs = nats.stream("PRESENCE").await;
        let has = |subject: &str, session: &str| {
            inputs.iter().any(|input| input.subject == subject && input.payload.contains(session))
        };
        let all = has("gateway.connection.closed", &leaving_session)
            && has("gateway.connection.opened", &coming_session)
            && has("gateway.heartbeat.received", &coming_session);
        seen(all, inputs.len())
    })
    .await;
    world.say(&watched, "Everybody hears this").await;
    assert_eq!(client.update().await["custom_status"], "Everybody hears this");
}

#[tokio::test]
async fn what_was_told_while_only_the_gateway_was_cut_off_is_read_when_it_is_back() {
    let nats = Nats::start(JetStream::On).await;
    let proxy = Proxy::to(nats.port()).await;
    let direct = config(&[("NATS_URL", &nats.url())]);
    let service = presence::connect(&direct, Host::Process).await.unwrap().service;
    let through_proxy =
        config(&[("NATS_URL", &nats.url().replace(&nats.port().to_string(), &proxy.port().to_string()))]);
    let carrier = presence::connect(&through_proxy, Host::Process).await.unwrap().carrier;
    let world = World::on(service, &carrier, &through_proxy, Limits::default()).await;
    let watched = User::new();
    world.choose(&watched, Intent::Online).await;
    let (mut client, _) = world.connect(&User::new()).await;
    client.subscribe(&[&watched]).await;
    assert_eq!(client.update().await["status"], "online");

    proxy.set(Fault::Cut);
    let mut events = nats.events().await;
    world.say(&watched, "Told to everyone else").await;
    assert_eq!(events.next_of(&watched).await.data()["custom_status"], "Told to everyone else");
    client.beat().await;
    proxy.set(Fault::None);
    assert_eq!(client.update().await["custom_status"], "Told to everyone else");
}

#[tokio::test]
async fn while_the_store_is_away_snapshots_wait_and_heartbeats_go_on() {
    let (nats, store) = (Nats::start(JetStream::On).await, Store::start_single().await);
    let proxy = Proxy::to(store.port()).await;
    let redis = store.url_through(proxy.port());
    let world = world(&nats, &[("REDIS_URL", &redis)]).await;
    let watched = User::new();
    world.choose(&watched, Intent::Online).await;
    world.say(&watched, "Before").await;
    proxy.set(Fault::Reset);
    let (mut client, _) = world.connect(&User::new()).await;
    client.subscribe(&[&watched]).await;
    for _ in 0..3 {
        client.beat().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    proxy.set(Fault::None);
    assert_eq!(client.update().await["custom_status"], "Before");
}
