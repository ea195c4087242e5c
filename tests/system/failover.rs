//! A replica that lags takes its primary's place: what the primary had acknowledged lately is lost. Lost opens are healed
//! by the next heartbeat, lost closes by the deadline, and no version is used for two things. A lost choice stays lost.

use std::collections::HashMap;
use std::time::Duration;

use presence_tests::{Fault, JetStream, Nats, Proxy, Service, Store, User, eventually, seen};
use serde_json::{Value, json};

use crate::world::World;

/// Longer than anything may take until a promotion is over.
const PROMOTION: Duration = Duration::from_secs(30);

/// What a version stands for.
fn look(presence: &Value) -> String {
    ["status", "custom_status", "client_status", "activities"].map(|field| presence[field].to_string()).join(" ")
}

#[tokio::test]
async fn a_promotion_that_loses_writes_is_healed_and_uses_no_version_twice() {
    let (primary, nats) = (Store::start_single().await, Nats::start(JetStream::On).await);
    let (way, link) = (Proxy::to(primary.port()).await, Proxy::to(primary.port()).await);
    let mut replica = primary.start_replica(link.port()).await;
    let service = Service::builder().heartbeat_timeout(6).env("REDIS_URL", primary.url_through(way.port())).nats(&nats);
    let mut world = World::around(service.start().await, nats, primary);
    let (closing, choosing, opening) = (world.online_user().await, world.online_user().await, User::new());
    let mut looks: HashMap<(String, u64), String> = HashMap::new();
    let mut note = |user: &User, presence: &Value| {
        let key = (user.id().to_owned(), presence["version"].as_u64().unwrap());
        let before = looks.entry(key).or_insert_with(|| look(presence));
        assert_eq!(*before, look(presence), "one version, one look");
    };

    // The replica hears nothing any more, and the primary acknowledges all the same.
    link.set(Fault::BlackHole);
    world.closed(&closing, "first").await;
    note(&closing, &world.until_status(&closing, "offline").await);
    note(&choosing, &world.service.update(&choosing, &json!({ "status": "dnd" })).await);
    world.opened(&opening, "first").await;
    let opened = world.until_status(&opening, "online").await;
    note(&opening, &opened);

    world.store.kill();
    link.set(Fault::Cut);
    replica.promote().await;
    way.lead_to(replica.port());
    eventually("the service to be ready", PROMOTION, async || {
        let status = world.service.get_openly("/ready").await.status;
        seen(status == 200, status)
    })
    .await;
    for user in [&closing, &choosing, &opening] {
        note(user, &world.service.presence(user).await);
    }
    assert_eq!(world.service.presence(&opening).await["status"], "offline", "the open is lost");

    world.heartbeat(&opening, "first").await;
    let healed = world.until_status(&opening, "online").await;
    assert!(healed["version"].as_u64() > opened["version"].as_u64(), "{healed}");
    note(&opening, &healed);
    note(&closing, &world.until_status(&closing, "offline").await);
    let own = world.service.get(&choosing, &format!("/presence/{}", choosing.id())).await.ok();
    assert_eq!(own["own"]["intent"], "online", "a lost choice stays lost");
    note(&choosing, &world.service.update(&choosing, &json!({ "status": "dnd" })).await);
    for event in world.nats.stream("PRESENCE_EVENTS").await {
        for user in [&closing, &choosing, &opening] {
            if event.data()["user_id"] == user.id() {
                note(user, &event.data());
            }
        }
    }
}
