//! Bulk reads over HTTP from a replica of the store.

use std::time::Duration;

use presence_tests::{JetStream, Nats, Service, Store, User, eventually, seen};
use serde_json::json;

use crate::world::World;

/// How long a replica may take to be asked again, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn bulk_reads_come_from_the_replica_and_the_caller_finds_their_own_choice_in_them() {
    let (primary, nats) = (Store::start_single().await, Nats::start(JetStream::On).await);
    let replica = primary.start_replica(primary.port()).await;
    for server in [&primary, &replica] {
        server.allow(&["+info|replication"]).await;
    }
    let service = Service::builder().env("REDIS_URL", primary.url()).env("REDIS_REPLICA_URL", replica.url());
    let world = World::around(service.nats(&nats).start().await, nats, primary);
    let caller = world.online_user().await;
    let others: Vec<User> = (0..40).map(|_| User::new()).collect();
    let all: Vec<&User> = std::iter::once(&caller).chain(&others).collect();
    let mut rounds = 0..;
    eventually("the replica to answer", PATIENCE, async || {
        // Five choices are allowed in twenty seconds.
        let choice = json!({ "custom_status": format!("Round {}", rounds.next().unwrap()) });
        let chosen = world.service.post(&caller, "/presence/status", &choice).await;
        let read = world.service.presences(&all).await;
        if chosen.status == 200 {
            let chosen = chosen.json();
            assert_eq!(
                (&read[0]["version"], &read[0]["custom_status"]),
                (&chosen["version"], &choice["custom_status"])
            );
        }
        assert_eq!(read.len(), all.len());
        assert!(read[1..].iter().all(|other| other["status"] == "offline"), "{read:?}");
        let metrics = world.service.get_openly("/metrics").await.text;
        let answered =
            metrics.lines().any(|line| line.starts_with("presence_replica_reads_total{outcome=\"answered\"}"));
        seen(answered, metrics)
    })
    .await;
}
