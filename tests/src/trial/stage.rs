//! The servers and the services of a trial, with a proxy on each way between them that may have one, and how they break.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use redis::AsyncCommands;
use tokio::time::{Instant, sleep};

use super::ground::Ground;
use super::plan::{Kind, Trouble};
use crate::{Cluster, Connection, Fault, JetStream, Nats, Proxy, Service};

/// How long a process that is to end itself at a failpoint may take to come there.
const ABORT: Duration = Duration::from_secs(5);
/// How long the last deadlines may take to pass and be swept.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// What the first service uses.
#[derive(Debug, Clone)]
pub struct Used {
    /// Resident memory.
    pub memory_kib: u64,
    /// Open files and sockets.
    pub descriptors: usize,
    /// Connections to the store, of all services.
    pub connections: usize,
}

/// A store, a NATS and some services on them.
pub struct Stage {
    /// The services. Their processes end before what they are connected to.
    pub services: Vec<Service>,
    /// The NATS.
    pub nats: Nats,
    /// `HEARTBEAT_TIMEOUT` of the services, in seconds.
    pub heartbeat_timeout: u32,
    ground: Ground,
    nats_ways: Vec<Proxy>,
}

impl Stage {
    /// Starts so many services on one server.
    pub async fn start(services: usize, heartbeat_timeout: u32) -> Self {
        Self::start_on(Ground::single(services).await, services, heartbeat_timeout).await
    }

    /// The same on a cluster. Of what can break it suffers [`ON_A_CLUSTER`](super::ON_A_CLUSTER).
    pub async fn start_on_cluster(services: usize, heartbeat_timeout: u32) -> Self {
        Self::start_on(Ground::cluster().await, services, heartbeat_timeout).await
    }

    async fn start_on(ground: Ground, services: usize, heartbeat_timeout: u32) -> Self {
        let nats = Nats::start(JetStream::On).await;
        let mut stage = Self { services: Vec::new(), nats, heartbeat_timeout, ground, nats_ways: Vec::new() };
        for place in 0..services {
            let nats_way = Proxy::to(stage.nats.port()).await;
            let service = Service::builder()
                .heartbeat_timeout(heartbeat_timeout)
                .env("NATS_URL", stage.nats.url_through("presence", nats_way.port()));
            stage.services.push(stage.ground.lead(service, place).start().await);
            stage.nats_ways.push(nats_way);
        }
        stage
    }

    /// The cluster, if it is on one.
    pub(super) fn cluster(&self) -> Option<Arc<Cluster>> {
        match &self.ground {
            Ground::Single(..) => None,
            Ground::Cluster(cluster) => Some(cluster.clone()),
        }
    }

    /// Breaks something and mends it. Returns when everything is ready again; true if a process ended itself.
    pub(super) async fn suffer(&mut self, trouble: &Trouble) -> bool {
        let Trouble { kind, service, length, fault, failpoints } = trouble;
        let place = *service;
        let restarts = matches!(kind, Kind::KillService | Kind::Abort | Kind::Failpoint);
        // The first process lives from the beginning to the end, so that what it leaks adds up.
        let which =
            if restarts && self.services.len() > 1 { 1 + service % (self.services.len() - 1) } else { *service };
        let service = &mut self.services[which];
        let mut aborted = false;
        match kind {
            Kind::KillService => {
                service.process().kill();
                sleep(*length).await;
                service.restart_with(&[]);
            }
            Kind::FreezeService => {
                service.process().freeze();
                sleep(*length).await;
                service.process().thaw();
            }
            Kind::Abort => {
                service.restart_with(&[("FAILPOINTS", failpoints)]);
                let deadline = Instant::now() + ABORT;
                while service.process().is_alive() && Instant::now() < deadline {
                    sleep(Duration::from_millis(5)).await;
                }
                aborted = !service.process().is_alive();
                service.restart_with(&[]);
            }
            Kind::Failpoint => {
                service.restart_with(&[("FAILPOINTS", failpoints)]);
                sleep(*length + Duration::from_secs(1)).await;
                service.restart_with(&[]);
            }
            Kind::KillStore => {
                let (store, _) = self.ground.one_server();
                store.kill();
                sleep(*length).await;
                store.restart().await;
            }
            Kind::FreezeStore => {
                let nodes = self.ground.nodes();
                let node = &nodes[place % nodes.len()];
                node.freeze();
                sleep(*length).await;
                node.thaw();
            }
            Kind::FlushScripts => {
                for node in self.ground.nodes() {
                    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut node.connect_node().await).await.unwrap();
                }
            }
            Kind::KillNats => {
                self.nats.kill();
                sleep(*length).await;
                self.nats.restart().await;
            }
            Kind::FreezeNats => {
                self.nats.freeze();
                sleep(*length).await;
                self.nats.thaw();
            }
            Kind::StoreLink => {
                let (_, ways) = self.ground.one_server();
                ways[place].set(*fault);
                sleep(*length).await;
                ways[place].set(Fault::None);
            }
            Kind::NatsLink => {
                self.nats_ways[place].set(*fault);
                sleep(*length).await;
                self.nats_ways[place].set(Fault::None);
            }
        }
        for service in &mut self.services {
            service.until_ready().await;
        }
        aborted
    }

    /// What is in use now.
    pub async fn used(&mut self) -> Used {
        let id = self.services[0].process().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let descriptors = std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        let connections = self.ground.nodes().iter().map(async |node| {
            let mut redis = node.connect_node().await;
            let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
            clients.lines().count()
        });
        let connections = join_all(connections).await.into_iter().sum();
        Used { memory_kib: memory.unwrap_or_default(), descriptors, connections }
    }

    /// What the store still holds once everyone is gone and should not: users in an index, and keys without an expiry
    /// that are no lasting choice of one of `lasting` users.
    pub async fn left_over(&self, lasting: usize) -> Vec<String> {
        let mut redis = self.ground.connect().await;
        let deadline = Instant::now() + AFTERWARDS;
        loop {
            let left = left_over(&mut redis, lasting).await;
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// What is never to be seen in a log or among the dead letters.
    pub(super) async fn unexpected(&self) -> Vec<String> {
        let logs: Vec<String> = self.services.iter().map(Service::log).collect();
        let panics = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("panicked"));
        let mut unexpected: Vec<String> = panics.map(str::to_owned).collect();
        let letters = self.nats.stream("PRESENCE_DLQ").await;
        unexpected.extend(letters.iter().map(|letter| format!("a dead letter: {letter:?}")));
        unexpected
    }
}

async fn left_over(redis: &mut Connection, lasting: usize) -> Vec<String> {
    let mut left = Vec::new();
    let mut choices = 0;
    let keys: Vec<String> = redis.keys("*").await.unwrap();
    for key in keys {
        let expires_in: i64 = redis.ttl(&key).await.unwrap();
        // Gone meanwhile, or to go by itself.
        if expires_in != -1 {
            continue;
        }
        if key.starts_with("presence:deadlines:") || key.starts_with("presence:reminders:") {
            let users: Vec<String> = redis.zrange(&key, 0, -1).await.unwrap();
            left.extend(users.iter().map(|user| format!("{user} in {key}")));
        } else if key.ends_with(":profile") {
            choices += 1;
        } else {
            left.push(key);
        }
    }
    if choices > lasting {
        left.push(format!("{choices} profiles without expiry for {lasting} users who made a lasting choice"));
    }
    left
}
