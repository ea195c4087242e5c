//! A replica that lags takes its primary's place: what the primary had acknowledged lately is lost. Lost opens are healed
//! by the next heartbeat, lost closes by the deadline, and no version is used for two things. A lost choice stays lost.
//! In a cluster the other nodes see to it, and the client finds out by itself.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use presence_tests::{Cluster, Fault, JetStream, Nats, Proxy, Service, Store, User, eventually, seen};
use serde_json::{Value, json};

use crate::arrivals::{Crowd, until_online};
use crate::world::World;

/// Longer than anything may take until a promotion is over.
const PROMOTION: Duration = Duration::from_secs(30);
/// How soon after it clients are served again, on a busy machine.
const FOUND: Duration = Duration::from_secs(5);
/// How many users choose together, each of 150 in turn: a user may five times in twenty seconds.
const AT_ONCE: usize = 25;

/// What a version stands for.
fn look(presence: &Value) -> String {
    ["status", "custom_status", "client_status", "activities"].map(|field| presence[field].to_string()).join(" ")
}

/// What was seen of each version of each user.
#[derive(Default)]
struct Looks(HashMap<(String, u64), String>);

impl Looks {
    fn note(&mut self, presence: &Value) {
        let key = (presence["user_id"].as_str().unwrap().to_owned(), presence["version"].as_u64().unwrap());
        let before = self.0.entry(key).or_insert_with(|| look(presence));
        assert_eq!(*before, look(presence), "one version, one look");
    }
}

#[tokio::test]
async fn a_promotion_that_loses_writes_is_healed_and_uses_no_version_twice() {
    let (primary, nats) = (Store::start_single().await, Nats::start(JetStream::On).await);
    let (way, link) = (Proxy::to(primary.port()).await, Proxy::to(primary.port()).await);
    let mut replica = primary.start_replica(link.port()).await;
    let service = Service::builder().heartbeat_timeout(6).env("REDIS_URL", primary.url_through(way.port())).nats(&nats);
    let mut world = World::around(service.start().await, nats, primary);
    let (closing, choosing, opening) = (world.online_user().await, world.online_user().await, User::new());
    let mut looks = Looks::default();

    // The replica hears nothing any more, and the primary acknowledges all the same.
    link.set(Fault::BlackHole);
    world.closed(&closing, "first").await;
    looks.note(&world.until_status(&closing, "offline").await);
    looks.note(&world.service.update(&choosing, &json!({ "status": "dnd" })).await);
    world.opened(&opening, "first").await;
    let opened = world.until_status(&opening, "online").await;
    looks.note(&opened);

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
        looks.note(&world.service.presence(user).await);
    }
    assert_eq!(world.service.presence(&opening).await["status"], "offline", "the open is lost");

    world.heartbeat(&opening, "first").await;
    let healed = world.until_status(&opening, "online").await;
    assert!(healed["version"].as_u64() > opened["version"].as_u64(), "{healed}");
    looks.note(&healed);
    looks.note(&world.until_status(&closing, "offline").await);
    let own = world.service.get(&choosing, &format!("/presence/{}", choosing.id())).await.ok();
    assert_eq!(own["own"]["intent"], "online", "a lost choice stays lost");
    looks.note(&world.service.update(&choosing, &json!({ "status": "dnd" })).await);
    for event in world.nats.stream("PRESENCE_EVENTS").await {
        for user in [&closing, &choosing, &opening] {
            if event.data()["user_id"] == user.id() {
                looks.note(&event.data());
            }
        }
    }
}

/// How far a server is in what is replicated.
async fn offset(server: &Store, name: &str) -> u64 {
    let mut connection = server.connect_node().await;
    let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
    line.unwrap_or_else(|| panic!("no {name} in {info}"))
}

#[tokio::test]
async fn a_node_of_a_cluster_that_dies_under_load_is_replaced_by_its_replica_and_turns_nobody_offline() {
    let (mut cluster, nats) = (Cluster::start().await, Nats::start(JetStream::On).await);
    let replica = cluster.start_replica(0).await;
    let service = Service::builder().env("REDIS_URL", cluster.url()).env("REDIS_CLUSTER", "on").nats(&nats);
    let service = service.env("HEARTBEAT_INTERVAL", 5).env("HEARTBEAT_TIMEOUT", 20).start().await;
    let crowd = Crowd::begin(&nats, 150).await;
    until_online(&service, &crowd.users).await;

    // Some users choose at a time, as often as they may. A third of them has its data on the node that dies, which is
    // also the only one that the service is told of.
    let mut looks = Looks::default();
    let mut rounds = 0..;
    let mut choose = async || {
        let round = rounds.next().unwrap();
        let some = crowd.users.iter().cycle().skip(round * AT_ONCE).take(AT_ONCE);
        let choice = json!({ "status": "online", "custom_status": format!("Round {round}") });
        let answers = join_all(some.map(|user| service.post(user, "/presence/status", &choice))).await;
        let mut accepted = 0;
        for answer in answers {
            assert!([200, 503].contains(&answer.status), "{}: {}", answer.status, answer.text);
            if answer.status == 200 {
                looks.note(&answer.json());
                accepted += 1;
            }
        }
        accepted
    };
    assert_eq!(choose().await, AT_ONCE);
    // Whom the replica does not know yet would be lost.
    let written = offset(&cluster.nodes()[0], "master_repl_offset").await;
    eventually("the replica to have everyone", PROMOTION, async || {
        let had = offset(&replica, "slave_repl_offset").await;
        seen(had >= written, had)
    })
    .await;
    cluster.kill(0);
    let mut refused = 0;
    eventually("the replica to take over", PROMOTION, async || {
        refused += AT_ONCE - choose().await;
        let mut connection = replica.connect_node().await;
        let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await.unwrap();
        seen(info.contains("role:master"), info)
    })
    .await;
    assert!(refused > 0, "users of the node that died are refused until then");
    eventually("everyone to be served", FOUND, async || {
        let accepted = choose().await;
        seen(accepted == AT_ONCE, accepted)
    })
    .await;

    until_online(&service, &crowd.users).await;
    for presence in service.presences(&crowd.users.iter().collect::<Vec<_>>()).await {
        looks.note(&presence);
    }
    for event in nats.stream("PRESENCE_EVENTS").await {
        let told = event.data();
        assert_ne!(told["status"], "offline", "their heartbeats go on: {told} {}", service.log());
        looks.note(&told);
    }
    crowd.end();
}
