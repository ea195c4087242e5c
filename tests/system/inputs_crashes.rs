//! Inputs under load while something dies: the service, NATS, the store. No message is lost, and nothing is told that
//! did not happen.

use std::time::Duration;

use presence_tests::{Service, eventually, now_ms, seen};

use crate::arrivals::{
    Arrivals, Crowd, LONG, assert_told_online_once, patient, random_moments, until_all_told, until_online,
};
use crate::world::{World, let_last};

const USERS: usize = 1500;

#[tokio::test]
async fn a_service_that_is_killed_under_load_loses_nothing() {
    let mut world = World::with(patient).await;
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    for told in random_moments(3, USERS) {
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
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    for told in random_moments(2, USERS) {
        arrivals.until_told(told).await;
        world.nats.kill();
        world.nats.restart().await;
    }
    let users = arrivals.until_online(&world.service).await;
    assert_told_online_once(&world.nats, &users).await;
    assert!(world.service.process().is_alive());
}

#[tokio::test]
async fn a_store_that_restarts_under_load_loses_nothing() {
    let mut world = World::with(patient).await;
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    for told in random_moments(2, USERS) {
        arrivals.until_told(told).await;
        world.store.kill();
        arrivals.until_told(told + USERS / 8).await;
        world.store.restart().await;
    }
    let users = arrivals.until_online(&world.service).await;
    assert_told_online_once(&world.nats, &users).await;
    assert!(world.nats.stream("PRESENCE_DLQ").await.is_empty(), "an absence is no failure of a message");
    assert!(world.service.process().is_alive());
}

#[tokio::test]
async fn outages_of_nats_and_of_the_store_turn_nobody_offline_whose_heartbeats_go_on() {
    let mut world = World::with(|service| service.env("HEARTBEAT_INTERVAL", 3).env("HEARTBEAT_TIMEOUT", 5)).await;
    let crowd = Crowd::begin(&world.nats, 500).await;
    until_online(&world.service, &crowd.users).await;
    world.nats.kill();
    world.nats.restart().await;
    until_online(&world.service, &crowd.users).await;
    assert_eq!(told_offline(&world, &crowd).await, 0, "after the restart of NATS");
    world.store.kill();
    // Every deadline passes.
    let_last(Duration::from_millis(5500)).await;
    world.store.restart().await;
    until_online(&world.service, &crowd.users).await;
    // Longer than expiries are held.
    let back = now_ms();
    eventually("the sweeper to go on", LONG, async || seen(now_ms() > back + 4500, ())).await;
    let offline = told_offline(&world, &crowd).await;
    assert_eq!(offline, 0, "told offline, of {}: {}", crowd.users.len(), world.service.log());

    let users = crowd.users.clone();
    crowd.end();
    eventually("their silence to be told", LONG, async || {
        let events = until_all_told(&world.nats, &users).await;
        let offline = events.iter().filter(|event| event.data()["status"] == "offline").count();
        seen(offline == users.len(), offline)
    })
    .await;
}

async fn told_offline(world: &World, crowd: &Crowd) -> usize {
    let events = until_all_told(&world.nats, &crowd.users).await;
    events.iter().filter(|event| event.data()["status"] == "offline").count()
}

#[tokio::test]
async fn a_service_that_is_asked_to_end_under_load_hands_its_messages_to_another() {
    let mut world = World::with(patient).await;
    let other = patient(Service::builder().store(&world.store).nats(&world.nats)).start().await;
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    arrivals.until_told(500).await;
    let status = world.service.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", world.service.log());
    let users = arrivals.until_online(&other).await;
    assert_told_online_once(&world.nats, &users).await;
}

#[tokio::test]
async fn a_service_that_comes_takes_a_share_of_the_load_and_all_of_it_when_the_other_is_killed() {
    let mut world = World::with(patient).await;
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    arrivals.until_told(300).await;
    let other = patient(Service::builder().store(&world.store).nats(&world.nats)).start().await;
    let before = done_by(&world.service).await;
    for (service, before) in [(&world.service, before), (&other, 0)] {
        eventually("a share of the messages", LONG, async || {
            let done = done_by(service).await;
            seen(done > before + 50, done)
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
