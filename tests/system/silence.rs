//! What silence does: truth at read time to the millisecond, and the offline event soon after.

use std::time::Duration;

use presence_tests::{JetStream, User, eventually, now_ms, seen};
use serde_json::json;

use crate::world::{CLOCK_ERROR, SOON, World, is_between, millis, of};

/// The promise: a tick of one second, and a quarter for the work.
const AFTER_THE_DEADLINE: i64 = 1250;

#[tokio::test]
async fn no_read_says_online_after_the_deadline_and_the_event_follows() {
    for jetstream in [JetStream::On, JetStream::Off] {
        let world = World::on(jetstream, |service| service.heartbeat_timeout(2)).await;
        let mut events = world.nats.events().await;
        let (user, opened_at) = (User::new(), now_ms());
        let deadline = opened_at + 2000;
        world.tell("gateway.connection.opened", &user, "first", json!({ "timestamp": opened_at })).await;
        let version = events.next_of(&user).await.data()["version"].as_i64();

        // Reads all the way through, each with the time before and after it.
        let offline = eventually("a read that says offline", SOON, async || {
            let before = now_ms();
            let presence = world.service.presence(&user).await;
            let status = presence["status"].as_str().unwrap().to_owned();
            assert!(before < deadline || status == "offline", "online, {} ms too late", before - deadline);
            let early = deadline - now_ms();
            assert!(early < CLOCK_ERROR || status == "online", "offline, {early} ms too early");
            seen(status == "offline", presence)
        })
        .await;

        let event = events.next_of(&user).await;
        let late = now_ms() - deadline;
        assert_eq!((event.subject.as_str(), &event.data()["status"]), ("presence.status.changed", &json!("offline")));
        assert!((0..=AFTER_THE_DEADLINE).contains(&late), "the event came {late} ms after the deadline");
        assert_eq!(event.data()["version"], offline["version"], "a read before the sweep tells the sweep's version");
        assert_eq!(event.data()["version"].as_i64(), version.map(|version| deadline.max(version + 1)));
        assert_eq!(millis(&event.data()["last_seen"]), opened_at, "the last sign of life");
    }
}

#[tokio::test]
async fn a_read_tells_the_truth_also_without_nats() {
    let mut world = World::with(|service| service.heartbeat_timeout(2)).await;
    let user = world.online_user().await;
    let deadline = millis(&world.service.presence(&user).await["last_seen"]) + 2000;
    world.nats.kill();
    eventually("a read that says offline", SOON, async || {
        let before = now_ms();
        let status = world.service.presence(&user).await["status"].clone();
        assert!(before < deadline || status == "offline", "online, {} ms too late", before - deadline);
        seen(status == "offline", status)
    })
    .await;
}

#[tokio::test]
async fn sessions_and_silence_are_the_same_on_a_cluster() {
    let world = World::on_cluster(|service| service.heartbeat_timeout(2)).await;
    let mut events = world.nats.events().await;
    let (closed, silent) = (world.online_user().await, world.online_user().await);
    world.closed(&closed, "first").await;
    for user in [&closed, &silent] {
        eventually("the offline event", SOON, async || {
            let status = events.next_of(user).await.data()["status"].clone();
            seen(status == "offline", status)
        })
        .await;
    }
    let both = world.service.presences(&[&closed, &silent]).await;
    assert_eq!((&both[0]["status"], &both[1]["status"]), (&json!("offline"), &json!("offline")));
}

#[tokio::test]
async fn heartbeats_keep_a_user_online() {
    let world = World::with(|service| service.heartbeat_timeout(2)).await;
    let mut events = world.nats.events().await;
    let user = world.online_user().await;
    let end = now_ms() + 4500;
    eventually("two timeouts to pass", SOON, async || {
        world.heartbeat(&user, "first").await;
        let status = world.service.presence(&user).await["status"].clone();
        assert_eq!(status, "online");
        seen(now_ms() > end, status)
    })
    .await;
    let all = events.so_far().await;
    assert_eq!(of(&user, &all).len(), 1, "one event, when it came online: {all:?}");
}

#[tokio::test]
async fn a_status_set_without_a_connection_holds_for_one_timeout() {
    let world = World::with(|service| service.heartbeat_timeout(2)).await;
    let (user, before) = (User::new(), now_ms());
    let set = world.service.update(&user, &json!({ "status": "dnd" })).await;
    let after = now_ms();
    assert_eq!((&set["status"], &set["client_status"]), (&json!("dnd"), &json!({ "web": "dnd" })));
    let offline = world.until_status(&user, "offline").await;
    let version = offline["version"].as_i64().unwrap();
    assert!(is_between(before + 2000, version, after + 2000), "the deadline: {offline}");
}

#[tokio::test]
async fn a_connection_takes_the_place_of_a_lease() {
    let world = World::start().await;
    let user = User::new();
    world.service.update(&user, &json!({ "status": "online" })).await;
    world.later().await;
    world.opened(&user, "first").await;
    world.settle().await;
    world.closed(&user, "first").await;
    world.until_status(&user, "offline").await;
}

#[tokio::test]
async fn a_message_from_before_the_last_timeout_proves_nothing() {
    let mut world = World::with(|service| service.heartbeat_timeout(2)).await;
    world.service.terminate().await;
    let (late, told_at) = (User::new(), now_ms());
    world.opened(&late, "first").await;
    eventually("the timeout to pass", SOON, async || seen(now_ms() > told_at + 2500, ())).await;
    world.service.crash_and_restart().await;
    world.settle().await;
    let presence = world.service.presence(&late).await;
    assert_eq!(presence["status"], "offline", "it was kept, and came too late");
}

#[tokio::test]
async fn what_is_told_while_the_service_is_away_is_not_lost() {
    let mut world = World::start().await;
    world.service.process().kill();
    let user = User::new();
    world.opened(&user, "first").await;
    world.service.crash_and_restart().await;
    world.until_status(&user, "online").await;
}

#[tokio::test]
async fn a_user_whose_time_ended_while_the_service_was_away_is_told_offline() {
    let mut world = World::with(|service| service.heartbeat_timeout(2)).await;
    let user = world.online_user().await;
    let since = now_ms();
    world.service.process().kill();
    eventually("the timeout to pass", SOON, async || seen(now_ms() > since + 2500, ())).await;
    world.service.crash_and_restart().await;
    eventually("the offline event", SOON, async || {
        let told = world.nats.stream("PRESENCE_EVENTS").await;
        let last = of(&user, &told).last().map(|event| event.data()["status"].clone());
        seen(last == Some(json!("offline")), last)
    })
    .await;
}

#[tokio::test]
async fn an_activity_ends_with_the_last_session() {
    let world = World::with(|service| service.heartbeat_timeout(2)).await;
    let mut events = world.nats.events().await;
    let user = world.online_user().await;
    world.service.update(&user, &json!({ "activity": { "type": "playing", "name": "Chess" } })).await;
    let told = eventually("the offline event", SOON, async || {
        let data = events.next_of(&user).await.data();
        seen(data["status"] == "offline", data)
    })
    .await;
    assert_eq!((&told["activity"], &told["activities"]), (&json!(null), &json!([])));
    world.opened(&user, "second").await;
    let back = world.until_status(&user, "online").await;
    assert_eq!(back["activity"], json!(null), "it does not come back by itself");
}

#[tokio::test]
async fn many_users_who_vanish_at_once_are_all_told() {
    let world = World::with(|service| service.heartbeat_timeout(2)).await;
    let users: Vec<User> = (0..500).map(|_| User::new()).collect();
    let opened_at = now_ms();
    let sessions: Vec<_> = users
        .iter()
        .map(|user| json!({ "user_id": user.id(), "session_id": "first", "timestamp": opened_at }))
        .collect();
    world.nats.tell("gateway.connection.opened", json!(sessions)).await;
    let all: Vec<&User> = users.iter().collect();
    eventually("all to come online", Duration::from_millis(1900), async || {
        let online = world.service.presences(&all).await.iter().filter(|one| one["status"] == "online").count();
        seen(online == users.len(), online)
    })
    .await;
    // How soon that is, is measured by presence-bench; a busy machine with a cluster on it takes its time.
    eventually("all to be told offline", Duration::from_secs(20), async || {
        let told = world.nats.stream("PRESENCE_EVENTS").await;
        let offline = told.iter().filter(|event| event.data()["status"] == "offline").count();
        seen(offline == users.len(), offline)
    })
    .await;
}
