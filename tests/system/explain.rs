//! Why is this user online? What an operator is told, where, and what nobody else is.

use presence_tests::{Answer, Api, JetStream, Nats, Service, Store, User, eventually, free_port, seen};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::SOON;

struct World {
    // Dropped in this order.
    service: Service,
    admin: Api,
    nats: Nats,
    _store: Store,
}

impl World {
    async fn start() -> Self {
        let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
        store.allow(&["+lpush", "+ltrim", "+lrange"]).await;
        let port = free_port();
        let service = Service::builder()
            .store(&store)
            .nats(&nats)
            .env("ADMIN_ADDR", format!("127.0.0.1:{port}"))
            .env("NOTES_TTL", 600)
            .start()
            .await;
        Self { service, admin: Api::at(port), nats, _store: store }
    }

    async fn explain(&self, user: &User) -> Value {
        explain(&self.admin, user).await.ok()
    }
}

async fn until_status(service: &Service, user: &User, status: &str) {
    eventually(&format!("{status} to be read"), SOON, async || {
        let presence = service.presence(user).await;
        seen(presence["status"] == status, presence)
    })
    .await;
}

async fn explain(api: &Api, user: &User) -> Answer {
    api.get_openly(&format!("/admin/presence/{}/explain", user.id())).await
}

#[tokio::test]
async fn an_operator_is_told_the_sessions_and_the_last_changes_with_their_reasons() {
    let world = World::start().await;
    let user = User::new();
    let message = |session: &str| json!({ "user_id": user.id(), "session_id": session, "platform": "desktop" });
    world.nats.tell("gateway.connection.opened", message("desk")).await;
    until_status(&world.service, &user, "online").await;
    world.service.update(&user, &json!({ "status": "dnd" })).await;
    world.nats.tell("gateway.connection.closed", message("desk")).await;
    until_status(&world.service, &user, "offline").await;
    world.nats.tell("gateway.connection.opened", message("again")).await;
    until_status(&world.service, &user, "dnd").await;

    let told = world.explain(&user).await;
    let why = told["why"].as_str().unwrap();
    assert!(why.starts_with("dnd because session again is live until "), "{why}");
    assert_eq!((&told["intent"], &told["visible"]["status"]), (&json!("dnd"), &json!("dnd")));
    let sessions: Vec<(&Value, &Value)> = told["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| (&session["session_id"], &session["state"]))
        .collect();
    assert_eq!(sessions, [(&json!("again"), &json!("live")), (&json!("desk"), &json!("closed"))]);
    let steps: Vec<Value> = told["transitions"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|step| json!([step["from"], step["to"], step["cause"]]))
        .collect();
    let expected = json!([
        ["offline", "online", "opened"],
        ["online", "dnd", "status_update"],
        ["dnd", "offline", "closed"],
        ["offline", "dnd", "opened"],
    ]);
    assert_eq!(json!(steps), expected);
    assert!(!told.to_string().contains(user.token()), "a token is told");
}

#[tokio::test]
async fn only_the_address_for_administration_explains_and_only_what_can_be_read() {
    let world = World::start().await;
    let user = User::new();
    assert_eq!(explain(&world.service, &user).await.status, 404, "not on the port of the world");
    let nobody = world.explain(&user).await;
    assert_eq!(nobody["why"], "offline because nothing is known of them");
    let wrong = world.admin.get_openly("/admin/presence/ada/explain").await;
    assert!((400..500).contains(&wrong.status), "{}", wrong.text);
    let elsewhere = world.admin.get_openly(&format!("/admin/presence/{}", Uuid::new_v4())).await;
    assert_eq!(elsewhere.status, 404);
}

#[tokio::test]
async fn beyond_loopback_it_explains_only_where_that_is_configured() {
    for (explains, switch, expected) in [(true, "on", 200), (false, "", 404)] {
        let port = free_port();
        let service = Service::builder().env("ADMIN_ADDR", format!("0.0.0.0:{port}")).env("ADMIN_EXPLAIN", switch);
        let _service = service.start().await;
        let answer = explain(&Api::at(port), &User::new()).await;
        assert_eq!(answer.status, expected, "{explains}: {}", answer.text);
    }
    let port = free_port();
    let service = Service::builder().env("ADMIN_ADDR", format!("127.0.0.1:{port}")).env("ADMIN_EXPLAIN", "off");
    let _service = service.start().await;
    assert_eq!(explain(&Api::at(port), &User::new()).await.status, 404);
}
