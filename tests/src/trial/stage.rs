//! The servers and the services of a trial, with a proxy on each way between them, and how they break.

use std::time::Duration;

use redis::AsyncCommands;
use tokio::time::{Instant, sleep};

use super::plan::{Kind, Trouble};
use crate::{Connection, Fault, JetStream, Nats, Proxy, Service, Store};

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
    /// The store.
    pub store: Store,
    /// The NATS.
    pub nats: Nats,
    /// `HEARTBEAT_TIMEOUT` of the services, in seconds.
    pub heartbeat_timeout: u32,
    store_ways: Vec<Proxy>,
    nats_ways: Vec<Proxy>,
}

impl Stage {
    /// Starts so many services.
    pub async fn start(services: usize, heartbeat_timeout: u32) -> Self {
        let (store, nats) = (Store::start_single().await, Nats::start(JetStream::On).await);
        let mut stage = Self {
            services: Vec::new(),
            store,
            nats,
            heartbeat_timeout,
            store_ways: Vec::new(),
            nats_ways: Vec::new(),
        };
        for _ in 0..services {
            let store_way = Proxy::to(stage.store.port()).await;
            let nats_way = Proxy::to(stage.nats.port()).await;
            let service = Service::builder()
                .heartbeat_timeout(heartbeat_timeout)
                .env("REDIS_URL", stage.store.url_through(store_way.port()))
                .env("NATS_URL", stage.nats.url_through("presence", nats_way.port()));
            stage.services.push(service.start().await);
            stage.store_ways.push(store_way);
            stage.nats_ways.push(nats_way);
        }
        stage
    }

    /// Breaks something and mends it. Returns when everything is ready again; true if a process ended itself.
    pub(super) async fn suffer(&mut self, trouble: &Trouble) -> bool {
        let Trouble { kind, service, length, fault, failpoints } = trouble;
        let (store_way, nats_way) = (&self.store_ways[*service], &self.nats_ways[*service]);
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
                self.store.kill();
                sleep(*length).await;
                self.store.restart().await;
            }
            Kind::FreezeStore => {
                self.store.freeze();
                sleep(*length).await;
                self.store.thaw();
            }
            Kind::FlushScripts => {
                redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut self.store.connect_node().await).await.unwrap();
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
                store_way.set(*fault);
                sleep(*length).await;
                store_way.set(Fault::None);
            }
            Kind::NatsLink => {
                nats_way.set(*fault);
                sleep(*length).await;
                nats_way.set(Fault::None);
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
        let mut redis = self.store.connect_node().await;
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
        Used { memory_kib: memory.unwrap_or_default(), descriptors, connections: clients.lines().count() }
    }

    /// What the store still holds once everyone is gone and should not: users in an index, and keys without an expiry
    /// that are no lasting choice of one of `lasting` users.
    pub async fn left_over(&self, lasting: usize) -> Vec<String> {
        let mut redis = self.store.connect().await;
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
