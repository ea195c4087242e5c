//! What clients and gateway say to each other: hello, identify, heartbeats, and the ends of it.

use std::time::Duration;

use presence::domain::{Platform, Status};
use presence_gateway::Limits;
use presence_tests::User;
use serde_json::json;
use tokio::time::Instant;

use crate::client::{Client, Ended};
use crate::world::{SOON, World};

#[tokio::test]
async fn the_first_frame_says_how_often_hearts_beat() {
    let world = World::with(&[("HEARTBEAT_INTERVAL", "7.5")], Limits::default()).await;
    let mut client = Client::connect(world.port).await;
    assert_eq!(client.text().await, r#"{"op":10,"d":{"heartbeat_interval":7500}}"#);
}

#[tokio::test]
async fn whoever_identifies_is_online_on_their_platform_until_the_connection_closes() {
    let world = World::start().await;
    let user = User::new();
    let mut client = Client::connect(world.port).await;
    let session = client.identify(&user, json!({ "platform": "mobile" })).await;
    let presence = world.until_status(&user, "online").await;
    assert_eq!(presence.client_status.into_iter().collect::<Vec<_>>(), [(Platform::Mobile, Status::Online)]);
    let (other, other_session) = world.connect(&user).await;
    assert_ne!(session, other_session);
    world.until(&user, "both platforms", |presence| presence.client_status.len() == 2).await;

    client.close(1000).await;
    world.until(&user, "the platform that is left", |presence| presence.client_status.len() == 1).await;
    assert_eq!(world.presence(&user).await.status, Status::Online);
    other.close(1001).await;
    world.until_status(&user, "offline").await;
}

#[tokio::test]
async fn a_status_that_comes_with_the_connection_is_a_choice() {
    let world = World::start().await;
    let user = User::new();
    let mut client = Client::connect(world.port).await;
    client.identify(&user, json!({ "status": "dnd" })).await;
    world.until_status(&user, "dnd").await;
    client.close(1000).await;
    world.until_status(&user, "offline").await;
    let _again = world.connect(&user).await;
    world.until_status(&user, "dnd").await;
}

#[tokio::test]
async fn heartbeats_are_answered_and_keep_the_user_online() {
    let world = World::with(&[("HEARTBEAT_INTERVAL", "0.3"), ("HEARTBEAT_TIMEOUT", "2")], Limits::default()).await;
    let user = User::new();
    let (mut client, _) = world.connect(&user).await;
    world.until_status(&user, "online").await;
    let start = Instant::now();
    let version = world.presence(&user).await.version;
    while start.elapsed() < Duration::from_secs(4) {
        client.beat().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let presence = world.presence(&user).await;
        assert_eq!((presence.status, presence.version), (Status::Online, version), "after {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_client_without_a_heartbeat_is_closed_and_its_user_is_gone() {
    let world = World::with(&[("HEARTBEAT_INTERVAL", "0.5"), ("HEARTBEAT_TIMEOUT", "1")], Limits::default()).await;
    let user = User::new();
    // The gateway counts from a moment between these two.
    let before = Instant::now();
    let (mut client, _) = world.connect(&user).await;
    let after = Instant::now();
    assert_eq!(client.ended().await, Ended::Closed(4009));
    assert!(before.elapsed() > Duration::from_millis(950), "{:?}", before.elapsed());
    assert!(after.elapsed() < Duration::from_secs(2), "{:?}", after.elapsed());
    world.until_status(&user, "offline").await;
}

#[tokio::test]
async fn a_heartbeat_before_identifying_is_answered_and_wins_no_time() {
    let limits = Limits { identify_time: Duration::from_millis(600), ..Limits::default() };
    let world = World::with(&[], limits).await;
    let mut client = Client::connect(world.port).await;
    client.frame().await;
    let start = Instant::now();
    client.beat().await;
    assert_eq!(client.ended().await, Ended::Closed(4003));
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn a_token_that_proves_nothing_is_refused() {
    let world = World::start().await;
    let user = User::new();
    let mut parts: Vec<&str> = user.token().split('.').collect();
    let signature: String = parts[2].chars().rev().collect();
    parts[2] = &signature;
    let forged = parts.join(".");
    for token in ["", "x", "Bearer x", &forged, &"x".repeat(9000), "a b", "é"] {
        let mut client = Client::connect(world.port).await;
        client.frame().await;
        client.send(&json!({ "op": 2, "d": { "token": token } })).await;
        assert_eq!(client.ended().await, Ended::Closed(4004), "{token}");
    }
    assert_eq!(world.presence(&user).await.last_seen, None);
}

#[tokio::test]
async fn only_those_who_identified_may_subscribe() {
    let world = World::start().await;
    let mut client = Client::connect(world.port).await;
    client.frame().await;
    client.subscribe(&[&User::new()]).await;
    assert_eq!(client.ended().await, Ended::Closed(4003));
}

#[tokio::test]
async fn nobody_identifies_twice() {
    let world = World::start().await;
    let user = User::new();
    let (mut client, _) = world.connect(&user).await;
    client.send(&json!({ "op": 2, "d": { "token": user.token() } })).await;
    assert_eq!(client.ended().await, Ended::Closed(4002));
}

#[tokio::test]
async fn a_connection_that_breaks_lingers_and_one_that_comes_back_in_time_was_never_gone() {
    let world = World::with(&[("RESUME_GRACE", "1.5")], Limits::default()).await;
    let (stays, leaves) = (User::new(), User::new());
    let (watcher, _) = world.connect(&User::new()).await;
    let mut watcher = watcher;
    let ((staying, _), (leaving, _)) = (world.connect(&stays).await, world.connect(&leaves).await);
    let version = world.until_status(&stays, "online").await.version;
    world.until_status(&leaves, "online").await;
    watcher.subscribe(&[&stays, &leaves]).await;
    assert_eq!([watcher.update().await["status"].clone(), watcher.update().await["status"].clone()], ["online"; 2]);

    staying.vanish();
    leaving.vanish();
    world.until_connections(1).await;
    let _again = world.connect(&stays).await;
    let update = watcher.update().await;
    assert_eq!((update["user_id"].as_str(), update["status"].as_str()), (Some(leaves.id()), Some("offline")));
    let presence = world.presence(&stays).await;
    assert_eq!((presence.status, presence.version), (Status::Online, version), "nobody saw the refresh");
}

#[tokio::test]
async fn a_request_that_is_no_websocket_is_told_so() {
    let world = World::start().await;
    let api = presence_tests::Api::at(world.port);
    let answer = api.get_openly("/gateway").await;
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("websocket")));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}
