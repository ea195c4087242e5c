//! Several services on one store and one NATS, as they run in production.

use presence_tests::{Service, User, eventually, seen};
use serde_json::json;

use crate::world::{SOON, World, of};

#[tokio::test]
async fn three_services_tell_each_change_in_order_and_something_new_each_time() {
    let world = World::with(|service| service.heartbeat_timeout(2)).await;
    let start = async || Service::builder().store(&world.store).nats(&world.nats).heartbeat_timeout(2).start().await;
    let others = [start().await, start().await];
    let users: Vec<User> = (0..20).map(|_| User::new()).collect();

    // Every user is told of by all services at the same time: choices, connections, and then silence.
    let rounds = users.iter().map(async |user| {
        for round in 0..2 {
            let session = format!("session-{round}");
            world.opened(user, &session).await;
            let custom_status = json!({ "custom_status": format!("Round {round}") });
            let idle = json!({ "status": if round % 2 == 0 { "idle" } else { "online" } });
            futures::join!(others[0].update(user, &custom_status), others[1].post(user, "/presence/status", &idle));
            world.closed(user, &session).await;
        }
    });
    futures::future::join_all(rounds).await;

    let all: Vec<&User> = users.iter().collect();
    eventually("silence", SOON, async || {
        let offline = world.service.presences(&all).await.iter().filter(|one| one["status"] == "offline").count();
        seen(offline == users.len(), offline)
    })
    .await;
    let events = eventually("every user to be told offline at last", SOON, async || {
        let events = world.nats.stream("PRESENCE_EVENTS").await;
        let last = |user: &&User| of(user, &events).last().is_some_and(|event| event.data()["status"] == "offline");
        let missing = users.iter().filter(|user| !last(user)).count();
        if missing == 0 { Ok(events) } else { Err(missing) }
    })
    .await;

    for user in &users {
        let mut version = 0;
        let mut told = None;
        for data in of(user, &events).iter().map(|event| (event.subject.as_str(), event.data())) {
            let (subject, data) = data;
            let next = data["version"].as_u64().unwrap();
            assert!(next > version || (next == version && subject != "presence.status.changed"), "{data}");
            version = next;
            if subject == "presence.status.changed" {
                let tells = (data["status"].clone(), data["custom_status"].clone(), data["client_status"].clone());
                assert_ne!(told.as_ref(), Some(&tells), "told twice in a row");
                told = Some(tells);
            }
        }
        assert_eq!(
            world.service.presence(user).await["version"].as_u64(),
            Some(version),
            "the last event is the truth"
        );
    }
}
