//! What one user may do how often, and what a configuration may say.

use presence_tests::{Service, User};
use serde_json::json;

use crate::world::{World, assert_problem, retry_after};

#[tokio::test]
async fn a_sixth_update_within_twenty_seconds_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let (user, other) = (User::new(), User::new());
    for _ in 0..10 {
        assert_problem(&world.service.post(&user, "/presence/status", &json!({ "status": "no" })).await, 422);
    }
    for number in 0..5 {
        world.service.update(&user, &json!({ "custom_status": format!("Number {number}") })).await;
    }
    let before = world.service.presence(&user).await;
    let mut waits = Vec::new();
    for _ in 0..10 {
        let refused = world.service.post(&user, "/presence/status", &json!({ "status": "dnd" })).await;
        assert_problem(&refused, 429);
        waits.push(retry_after(&refused));
    }
    assert!(waits.iter().all(|wait| *wait <= 20), "{waits:?}");
    assert!(waits.is_sorted_by(|a, b| a >= b), "a refused request does not make it longer: {waits:?}");
    assert_eq!(world.service.presence(&user).await, before);
    world.service.update(&other, &json!({ "status": "dnd" })).await;
}

#[tokio::test]
async fn the_limit_holds_over_all_processes() {
    let world = World::start().await;
    let second = Service::start(&world.store, &world.nats).await;
    let user = User::new();
    let body = json!({ "status": "online" });
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(world.service.post(&user, "/presence/status", &body).await.status);
        statuses.push(second.post(&user, "/presence/status", &body).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_whole_by_name_and_without_secrets() {
    let (status, said) = Service::builder()
        .env("REDIS_URL", "http://:topsecret@127.0.0.1")
        .env("HEARTBEAT_INTERVAL", 60)
        .env("TYPING_TIMEOUT", "soon")
        .fail()
        .await;
    assert!(!status.success());
    for name in ["REDIS_URL", "HEARTBEAT_INTERVAL", "TYPING_TIMEOUT"] {
        assert!(said.contains(name), "{name} is not named: {said}");
    }
    assert!(!said.contains("topsecret"), "{said}");
}

#[tokio::test]
async fn a_service_for_everyone_needs_a_key_of_its_own() {
    let (status, said) = Service::builder().env("HOST", "0.0.0.0").fail().await;
    assert!(!status.success());
    assert!(said.contains("JWT_"), "it says what is missing: {said}");
}
