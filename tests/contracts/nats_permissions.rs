//! The permissions of NATS in `SECURITY.md`: with exactly those everything works, and each of them is missed when it is
//! taken away.

use std::sync::Arc;

use futures::StreamExt;
use presence::config::Config;
use presence::domain::UserId;
use presence::events::batch::{Batch, Record};
use presence::{Host, connect};
use presence_functions::event::{EventHandler, SUBSCRIPTIONS};
use presence_tests::{Access, JetStream, Nats, Service, ServiceBuilder, User, eventually, now_ms, seen};
use serde_json::json;
use uuid::Uuid;

use crate::SOON;
use crate::document::text;

const PASSWORD: &str = "0a1b2c3d4e5f";

/// How many servers and services run at once.
const AT_ONCE: usize = 4;

/// The documented configuration, and the test as a user who may do everything.
fn documented() -> String {
    let security = text("SECURITY.md");
    let (_, rest) = security.split_once("```nats\n").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    let test = "users = [\n    { user: \"test\", password: \"test\" }\n";
    config.replace("PASSWORD", PASSWORD).replacen("users = [\n", test, 1)
}

/// The permissions of a user, each as it stands on a line of its own.
fn permissions(user: &str) -> Vec<String> {
    let config = documented();
    let (_, rest) = config.split_once(&format!("user: \"{user}\"")).unwrap();
    let own = rest.split("user: ").next().unwrap();
    let lines = own.lines().map(str::trim).filter(|line| line.starts_with('"'));
    lines.map(|line| line.trim_matches('"').to_owned()).collect()
}

/// The documented configuration, in which a user lacks one permission.
fn without(user: &str, permission: &str) -> String {
    let config = documented();
    let (before, rest) = config.split_once(&format!("user: \"{user}\"")).unwrap();
    let (less, line) = (format!("\"{permission}\"\n"), "\n".to_owned());
    assert!(rest.contains(&less));
    format!("{before}user: \"{user}\"{}", rest.replacen(&less, &line, 1))
}

/// A list that is empty allows everything: what takes the last permission away must forbid.
fn forbid_where_nothing_is_left(config: &str) -> String {
    let empty = |name: &str| format!("{name} = [\n          \n        ]");
    let forbidden = |name: &str| format!("{name} = {{ deny: \">\" }}");
    config.replace(&empty("subscribe"), &forbidden("subscribe")).replace(&empty("publish"), &forbidden("publish"))
}

async fn nats(config: &str) -> Nats {
    let config = forbid_where_nothing_is_left(config);
    Nats::start_with(JetStream::On, Access { config, login: "test:test@".to_owned(), authorities: None }).await
}

fn login(user: &str) -> String {
    format!("{user}:{PASSWORD}@")
}

/// A service without a gateway, which is another kind of process.
fn service(nats: &Nats) -> ServiceBuilder {
    Service::builder().env("GATEWAY", "off").env("NATS_URL", nats.url_as(&login("presence-service")))
}

/// Everything that makes the service use NATS.
async fn use_all(service: &Service, nats: &Nats) {
    let user = User::new();
    for body in [
        json!({ "status": "online" }),
        json!({ "activity": { "type": "playing", "name": "Chess" } }),
        json!({ "status": "dnd" }),
    ] {
        service.post(&user, "/presence/status", &body).await;
    }
    let channel = json!({ "channel_id": Uuid::new_v4().to_string() });
    service.post(&user, "/presence/typing", &channel).await;
    for subscription in SUBSCRIPTIONS {
        nats.tell(subscription.subject, json!({ "user_id": User::new().id(), "session_id": "a" })).await;
    }
    nats.tell_raw("gateway.heartbeat.received", "not JSON").await;
}

#[tokio::test]
async fn with_the_permissions_of_the_service_everything_works() {
    let nats = nats(&documented()).await;
    let service = service(&nats).start().await;
    let mut events = nats.subscribe("presence.status.changed").await;
    use_all(&service, &nats).await;
    let user = User::new();
    nats.tell("gateway.connection.opened", json!({ "user_id": user.id(), "session_id": "a" })).await;
    assert_eq!(events.next_of(&user).await.data()["status"], "online");
    eventually("the dead letter", SOON, async || {
        let letters = nats.stream("PRESENCE_DLQ").await.len();
        seen(letters == 1, letters)
    })
    .await;
    let log = service.log();
    assert!(!log.to_lowercase().contains("permissions violation"), "{log}");
}

#[tokio::test]
async fn the_service_misses_each_permission_that_is_taken_away() {
    let own = permissions("presence-service");
    assert!(own.len() > 10, "{own:?}");
    let missed = futures::stream::iter(own).map(|permission| async move {
        let nats = nats(&without("presence-service", &permission)).await;
        let service = service(&nats).start_unready().await;
        let stem = permission.trim_end_matches(['*', '>']);
        eventually(&format!("{permission} to be missed"), SOON, async || {
            use_all(&service, &nats).await;
            let log = service.log();
            let refused =
                log.lines().any(|line| line.to_lowercase().contains("permissions violation") && line.contains(stem));
            seen(refused, log)
        })
        .await;
    });
    missed.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn with_the_permissions_of_functions_they_tell_and_keep_dead_letters() {
    let nats = nats(&documented()).await;
    // The streams are there: a service or a bridge makes them.
    let _service = service(&nats).start().await;
    let variables = [("NATS_URL", nats.url_as(&login("presence-functions")))];
    let lookup = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.clone());
    let connected = connect(&Config::from_lookup(lookup).unwrap(), Host::Function).await.unwrap();
    let handler = EventHandler::new(Arc::clone(&connected.service), connected.carrier.dead_letters());
    let user = UserId::new(Uuid::new_v4());
    let record = |number: u64, data: String| Record {
        message_id: format!("PRESENCE:{number}"),
        subject: "gateway.connection.opened".to_owned(),
        data: data.into(),
        headers: Default::default(),
        num_delivered: 1,
        timestamp: Some(presence::domain::Timestamp::from_millis(now_ms())),
    };
    let records = vec![record(1, json!({ "user_id": user.to_string() }).to_string()), record(2, "not JSON".to_owned())];
    let batch = Batch { event_source: "nats:jetstream".to_owned(), records };
    let answer = handler.handle(SUBSCRIPTIONS[0], &batch).await.unwrap();
    assert!(answer.batch_item_failures.is_empty(), "{answer:?}");
    assert_eq!(nats.stream("PRESENCE_DLQ").await.len(), 1);
    let told = nats.stream("PRESENCE_EVENTS").await;
    assert!(told.iter().any(|event| event.data()["user_id"] == user.to_string()), "{told:?}");
}
