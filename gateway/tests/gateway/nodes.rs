//! The gateway as it is deployed: inside the service, and by itself.

use presence_tests::{JetStream, Nats, Service, ServiceBuilder, Store, User};

use crate::client::{Client, Ended};

#[tokio::test]
async fn the_gateway_and_the_page_are_part_of_the_service_unless_they_are_off() {
    let service = Service::builder().start().await;
    let page = service.get_openly("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(service.get_openly("/gateway").await.status, 426);
    for part in page.text.split('"').filter(|part| part.starts_with("/page/")) {
        assert_eq!(service.get_openly(part).await.status, 200, "{part}");
    }

    let service = Service::builder().env("GATEWAY", "off").start().await;
    for path in ["/", "/gateway", "/page/page.js"] {
        assert_eq!(service.get_openly(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_gateway_by_itself_says_what_it_needs_and_does_not_start_without() {
    let (status, said) = Service::gateway_alone().fail().await;
    assert!(!status.success());
    assert!(said.contains("REDIS_URL is not set") && said.contains("NATS_URL is not set"), "{said}");
}

/// A service without a gateway of its own, and two gateways beside it.
struct Nodes {
    // Dropped in this order, so that each can end in peace.
    first: Service,
    second: Service,
    _service: Service,
    _nats: Nats,
    _store: Store,
}

impl Nodes {
    async fn start() -> Self {
        let (nats, store) = (Nats::start(JetStream::On).await, Store::start().await);
        let on =
            |builder: ServiceBuilder| builder.store(&store).nats(&nats).heartbeat_timeout(3).env("RESUME_GRACE", 2);
        let service = on(Service::builder().env("GATEWAY", "off")).start().await;
        let node = || on(Service::gateway_alone()).start();
        let (first, second) = futures::join!(node(), node());
        Self { first, second, _service: service, _nats: nats, _store: store }
    }
}

#[tokio::test]
async fn what_happens_on_one_node_is_seen_on_the_others() {
    let nodes = Nodes::start().await;
    let (ada, ben) = (User::new(), User::new());
    let (mut watcher, _) = Client::identified(nodes.first.port(), &ada).await;
    watcher.subscribe(&[&ben]).await;
    assert_eq!(watcher.update().await["status"], "offline");
    let (watched, _) = Client::identified(nodes.second.port(), &ben).await;
    assert_eq!(watcher.update().await["status"], "online");
    watched.close(1000).await;
    assert_eq!(watcher.update().await["status"], "offline");
}

#[tokio::test]
async fn nobody_notices_that_a_node_is_taken_away_from_those_who_come_back_at_once() {
    let mut nodes = Nodes::start().await;
    let (stays, leaves) = (User::new(), User::new());
    let (mut watcher, _) = Client::identified(nodes.first.port(), &User::new()).await;
    watcher.subscribe(&[&stays, &leaves]).await;
    watcher.update().await;
    watcher.update().await;
    let (mut staying, _) = Client::identified(nodes.second.port(), &stays).await;
    assert_eq!(watcher.update().await["status"], "online");
    let (mut leaving, _) = Client::identified(nodes.second.port(), &leaves).await;
    assert_eq!(watcher.update().await["status"], "online");

    let port = nodes.first.port();
    let comes_back = async {
        assert_eq!(staying.ended().await, Ended::Closed(1001));
        drop(staying);
        Client::identified(port, &stays).await
    };
    let goes = async {
        assert_eq!(leaving.ended().await, Ended::Closed(1001));
        drop(leaving);
    };
    let (status, (mut back, _), ()) = futures::join!(nodes.second.terminate(), comes_back, goes);
    assert!(status.success(), "{status}");
    back.beat().await;
    let next = watcher.update_in_good_health().await;
    assert_eq!((next["user_id"].as_str(), next["status"].as_str()), (Some(leaves.id()), Some("offline")));
}

#[tokio::test]
async fn those_whose_node_crashed_are_gone_after_the_timeout() {
    let mut nodes = Nodes::start().await;
    let ben = User::new();
    let (mut watcher, _) = Client::identified(nodes.first.port(), &User::new()).await;
    watcher.subscribe(&[&ben]).await;
    watcher.update().await;
    let (mut watched, _) = Client::identified(nodes.second.port(), &ben).await;
    assert_eq!(watcher.update().await["status"], "online");
    nodes.second.process().kill();
    assert_eq!(watched.ended().await, Ended::Broken);
    assert_eq!(watcher.update_in_good_health().await["status"], "offline");
}
