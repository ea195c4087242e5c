//! What subscribers get: a snapshot, then every change after it, once and in order.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use presence::domain::{Input, InputKind, Intent, Rules, Timestamp, Traceparent, UserId};
use presence::events::memory::Received;
use presence::events::{Event, EventKind, MemoryBus};
use presence::service::UserInput;
use presence::store::MemoryStore;
use presence::{Carrier, PresenceService};
use presence_gateway::Limits;
use presence_tests::User;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::client::Client;
use crate::world::{World, config, id};

#[tokio::test]
async fn a_subscription_is_answered_with_one_update_a_user_as_a_read_gives_it() {
    let world = World::start().await;
    let (online, invisible, never_seen) = (User::new(), User::new(), User::new());
    world.say(&online, "Here").await;
    world.choose(&online, Intent::Idle).await;
    world.choose(&invisible, Intent::Invisible).await;
    let (mut client, _) = world.connect(&invisible).await;
    client.subscribe(&[&online, &invisible, &never_seen, &online]).await;
    for user in [&online, &invisible, &never_seen] {
        let expected = serde_json::to_string(&world.presence(user).await).unwrap();
        assert_eq!(client.text().await, format!(r#"{{"op":3,"t":"PRESENCE_UPDATE","d":{expected}}}"#));
    }
    client.beat().await;
}

#[tokio::test]
async fn events_go_to_those_who_subscribed_byte_for_byte() {
    let world = World::start().await;
    let mut bus = world.bus.as_ref().unwrap().subscribe();
    let (watched, other) = (User::new(), User::new());
    world.choose(&watched, Intent::Idle).await;
    let (mut client, _) = world.connect(&User::new()).await;
    client.subscribe(&[&watched]).await;
    client.update().await;
    world.say(&other, "Not for you").await;
    for text in ["One", "Zwei ☕", "\u{1F9EA} \"three\" \\"] {
        world.say(&watched, text).await;
    }
    let mut published = Vec::new();
    while published.len() < 4 {
        let Some(Received::Event(event)) = bus.next().await else { panic!("no event") };
        if event.user_id == id(&watched) {
            published.push(String::from_utf8(event.frame.to_vec()).unwrap());
        }
    }
    // The first came before the snapshot.
    for frame in published.into_iter().skip(1) {
        assert_eq!(client.text().await, frame);
    }
    client.beat().await;
}

#[tokio::test]
async fn typing_is_told_to_the_channel_and_whoever_comes_later_hears_who_types() {
    let world = World::start().await;
    let (ada, channel) = (User::new(), Uuid::new_v4().to_string());
    let subscribe = json!({ "op": 14, "d": { "channel_ids": [channel] } });
    let (mut early, _) = world.connect(&User::new()).await;
    early.send(&subscribe).await;
    early.beat().await;
    let typing = || world.service.start_typing(id(&ada), channel.parse().unwrap(), Traceparent::generate());
    typing().await.unwrap();
    let frame = early.frame().await;
    assert_eq!((&frame["op"], &frame["t"]), (&json!(8), &json!("TYPING_START")));
    assert_eq!((&frame["d"]["channel_id"], &frame["d"]["user_id"]), (&json!(channel), &json!(ada.id())));

    let (mut late, _) = world.connect(&User::new()).await;
    late.send(&subscribe).await;
    assert_eq!(late.frame().await, frame);
    late.beat().await;
    early.beat().await;
}

#[tokio::test]
async fn an_event_told_twice_or_late_is_sent_once_and_never_backwards() {
    let world = World::start().await;
    let watched = User::new();
    let (mut client, _) = world.connect(&User::new()).await;
    client.subscribe(&[&watched]).await;
    let mut presence = world.presence(&watched).await;
    client.update().await;
    let mut event = |version| {
        presence.version = version;
        let now = Timestamp::from_millis(1_704_110_400_000);
        Event::presence(EventKind::Status, &presence, now, Traceparent::generate())
    };
    let events: Vec<Event> = [3, 3, 2, 5, 4, 5, 6].into_iter().map(&mut event).collect();
    world.publish(&events).await;
    for version in [3, 5, 6] {
        assert_eq!(client.update().await["version"], version);
    }
    client.beat().await;
}

#[tokio::test]
async fn what_a_lagging_bus_loses_is_read_again() {
    let rules = Rules::default();
    let bus = MemoryBus::with_capacity(4);
    let service = PresenceService::new(Arc::new(MemoryStore::new(rules)), Arc::new(bus.clone()), rules);
    let carrier = Carrier::Embedded(bus);
    let world = World::on(Arc::new(service), &carrier, &config(&[]), Limits::default()).await;
    let users: Vec<User> = (0..20).map(|_| User::new()).collect();
    let (mut client, _) = world.connect(&User::new()).await;
    client.subscribe(&users.iter().collect::<Vec<_>>()).await;
    for _ in &users {
        assert_eq!(client.update().await["status"], "offline");
    }
    // All at once, in a test of one thread: the gateway can't listen until 16 of the events are lost.
    let at = world.service.now().await.unwrap();
    let open = |user: &User| {
        let kind = InputKind::Opened { session_id: "s".parse().unwrap(), platform: None, status: None };
        UserInput { user_id: id(user), input: Input { at, kind }, traceparent: None }
    };
    let results = world.service.apply(&users.iter().map(open).collect::<Vec<_>>()).await;
    assert!(results.iter().all(Result::is_ok));
    let mut online = std::collections::HashSet::new();
    while online.len() < users.len() {
        let update = client.update().await;
        assert_eq!(update["status"], "online");
        online.insert(update["user_id"].to_string());
    }
}

/// Everyone changes all the time while clients come, subscribe, and subscribe anew: each of them sees the versions of
/// each user rise, and ends with the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_missed_between_snapshot_and_stream_and_none_goes_backwards() {
    const USERS: usize = 20;
    const CHANGES: usize = 40;
    const CLIENTS: usize = 30;
    let world = Arc::new(World::start().await);
    let users: Arc<Vec<User>> = Arc::new((0..USERS).map(|_| User::new()).collect());
    let changes = (0..USERS).map(|number| {
        let (world, users) = (world.clone(), users.clone());
        tokio::spawn(async move {
            for round in 0..CHANGES {
                // Opened and closed sessions are changes that no rate limit holds up.
                let user = id(&users[number]);
                let now = world.service.now().await.unwrap();
                let session_id = format!("s-{round}").parse().unwrap();
                let kind = InputKind::Opened { session_id, platform: None, status: None };
                open_or_close(&world, user, now, kind).await;
                let session_id = format!("s-{round}").parse().unwrap();
                open_or_close(&world, user, now, InputKind::closed(session_id, None)).await;
                tokio::task::yield_now().await;
            }
        })
    });
    let changes: Vec<_> = changes.collect();
    let over = Arc::new(Semaphore::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let (world, users, over) = (world.clone(), users.clone(), over.clone());
        tokio::spawn(async move {
            let (mut client, _) = world.connect(&User::new()).await;
            let all: Vec<&User> = users.iter().collect();
            let mut seen = HashMap::new();
            client.subscribe(&all[number % 7..]).await;
            read_some(&mut client, &mut seen, number).await;
            client.subscribe(&all).await;
            drop(over.acquire().await.unwrap());
            client.send(&json!({ "op": 14, "d": { "channel_ids": [] } })).await;
            finish(&mut client, &mut seen, &world, &all).await;
        })
    });
    let clients: Vec<_> = clients.collect();
    for change in changes {
        change.await.unwrap();
    }
    over.add_permits(CLIENTS);
    for client in join_all(clients).await {
        client.unwrap();
    }
}

async fn open_or_close(world: &World, user_id: UserId, at: Timestamp, kind: InputKind) {
    let input = Input { at, kind };
    let input = UserInput { user_id, input, traceparent: None };
    world.service.apply(&[input]).await.pop().unwrap().unwrap();
}

/// Reads a few updates, so that clients are at different places when they subscribe anew.
async fn read_some(client: &mut Client, seen: &mut HashMap<String, u64>, count: usize) {
    for _ in 0..count {
        note(seen, &client.update().await);
    }
}

/// Reads until everyone's last version is there.
async fn finish(client: &mut Client, seen: &mut HashMap<String, u64>, world: &World, users: &[&User]) {
    let mut last = HashMap::new();
    for user in users {
        last.insert(user.id().to_owned(), world.presence(user).await.version);
    }
    while *seen != last {
        let update = client.update().await;
        note(seen, &update);
    }
}

fn note(seen: &mut HashMap<String, u64>, update: &Value) {
    let (user, version) = (update["user_id"].as_str().unwrap().to_owned(), update["version"].as_u64().unwrap());
    let before = seen.insert(user, version);
    // Equal once more is the answer to a second subscription.
    assert!(before.is_none_or(|before| before <= version), "{before:?} then {update}");
}
