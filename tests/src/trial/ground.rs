//! What the services of a trial keep their records in.

use std::collections::HashSet;
use std::sync::Arc;

use fastrand::Rng;
use redis::cluster_routing::Slot;

use crate::{Cluster, Connection, Moving, Proxy, ServiceBuilder, Store};

/// How many shards an index has.
const SHARDS: u8 = 32;

/// Where the records are.
pub(super) enum Ground {
    /// On one server, with a proxy on the way of each service.
    Single(Box<Store>, Vec<Proxy>),
    /// On three nodes, whose slots move for as long as a trial lasts. They name their own addresses, so there is no proxy
    /// on the way.
    Cluster(Arc<Cluster>),
}

impl Ground {
    /// One server, for so many services.
    pub(super) async fn single(services: usize) -> Self {
        let store = Store::start_single().await;
        let mut ways = Vec::new();
        for _ in 0..services {
            ways.push(Proxy::to(store.port()).await);
        }
        Self::Single(Box::new(store), ways)
    }

    pub(super) async fn cluster() -> Self {
        Self::Cluster(Arc::new(Cluster::start().await))
    }

    /// Tells a service of it.
    pub(super) fn lead(&self, service: ServiceBuilder, place: usize) -> ServiceBuilder {
        match self {
            Self::Single(store, ways) => service.env("REDIS_URL", store.url_through(ways[place].port())),
            Self::Cluster(cluster) => service.env("REDIS_URL", cluster.url()).env("REDIS_CLUSTER", "on"),
        }
    }

    pub(super) fn nodes(&self) -> &[Store] {
        match self {
            Self::Single(store, _) => std::slice::from_ref(store),
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// The one server and the ways to it, for what a cluster does not suffer here.
    pub(super) fn one_server(&mut self) -> (&mut Store, &[Proxy]) {
        match self {
            Self::Single(store, ways) => (store, ways),
            Self::Cluster(_) => panic!("that is no trouble for a cluster: trial::ON_A_CLUSTER"),
        }
    }

    pub(super) async fn connect(&self) -> Connection {
        match self {
            Self::Single(store, _) => store.connect().await,
            Self::Cluster(cluster) => Connection::Cluster(cluster.connect().await),
        }
    }
}

/// The slots that services use for these users, in any order: of the users' records; of each shard of the indexes and of its
/// sweeper's lease; of the moment until which expiries are held, of the sign of who ticks, and of no key, by which the node
/// is chosen that tells the time. What is asked of all but the records needs one key, so those may be half moved for long.
pub(super) fn slots(users: &[String], rng: &mut Rng) -> Moving {
    let shards = (0..SHARDS)
        .flat_map(|shard| ["deadlines", "reminders", "sweeper"].map(|name| format!("presence:{name}:{shard}")));
    let others = ["presence:hold", "presence:ticker", ""].map(str::to_owned);
    let mut halves: Vec<String> = shards.chain(others).collect();
    let mut keys: Vec<String> = users.iter().map(|user| format!("presence:user:{user}")).collect();
    let records: HashSet<Slot> = keys.iter().map(Slot::for_key).collect();
    keys.extend(halves.iter().cloned());
    halves.retain(|key| !records.contains(&Slot::for_key(key)));
    rng.shuffle(&mut keys);
    rng.shuffle(&mut halves);
    Moving { keys, halves, ..Moving::default() }
}
