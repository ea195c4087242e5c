//! A real cluster: three nodes that share the slots, and slots that move from one to another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::Cmd;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;

use crate::{Store, StoreKind, eventually, seen};

const SLOTS: u16 = 16384;
const NODES: usize = 3;
/// How long the nodes may take to know each other on a busy machine.
const JOIN: Duration = Duration::from_secs(30);

/// How many keys a node hands over together. A tool takes more, but a real slot has more users than fit: that some keys of a
/// user are there already and others are not is to be met.
const KEYS_AT_ONCE: usize = 1;

/// After so long without an answer nodes take another for dead, where it has a replica.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);

/// For how long a slot stays half moved that others overtake: longer than anything waits for it.
const HALF_MOVED: Duration = Duration::from_secs(2);

/// What moves, each slot told by a key of it.
#[derive(Debug, Default)]
pub struct Moving {
    /// Slots that are given away as soon as their keys are handed over.
    pub keys: Vec<String>,
    /// Slots of which one at a time stays half moved for two seconds, in which others move: its keys are handed over, and
    /// it is not given away yet. What needs several keys at once, of which some have never been, can't be done there.
    pub halves: Vec<String>,
    /// How many slots moved.
    pub moved: AtomicUsize,
}

/// Three nodes, each with a third of the slots at first.
pub struct Cluster {
    nodes: [Store; NODES],
    names: Vec<String>,
    /// Which slots are not where they began.
    moved: Mutex<HashMap<u16, usize>>,
}

impl Cluster {
    /// Starts the store of this run as a cluster.
    pub async fn start() -> Self {
        let password = format!("password-{}", uuid::Uuid::new_v4().simple());
        let node = || Store::start_node(StoreKind::of_this_run(), &password);
        let nodes: [Store; NODES] = futures::join!(node(), node(), node()).into();
        let mut names = Vec::new();
        for (place, node) in nodes.iter().enumerate() {
            let mut node = node.connect_node().await;
            let (first, next) = (first_slot(place), first_slot(place + 1));
            cluster("ADDSLOTSRANGE").arg(first).arg(next - 1).exec_async(&mut node).await.unwrap();
            cluster("SET-CONFIG-EPOCH").arg(place + 1).exec_async(&mut node).await.unwrap();
            names.push(cluster("MYID").query_async(&mut node).await.unwrap());
            for other in &nodes[..place] {
                let mut meet = cluster("MEET");
                meet.arg("127.0.0.1").arg(other.port()).arg(other.cluster_port());
                meet.exec_async(&mut node).await.unwrap();
            }
        }
        Self::until_serving(nodes.iter()).await;
        Self { nodes, names, moved: Mutex::default() }
    }

    /// Gives a node a replica, which takes its place some seconds after it died.
    pub async fn start_replica(&self, place: usize) -> Store {
        let replica = Store::start_node(StoreKind::of_this_run(), self.nodes[0].password()).await;
        let all = || self.nodes.iter().chain([&replica]);
        let mut connections = join_all(all().map(Store::connect_node)).await;
        for connection in &mut connections {
            let mut settings = redis::cmd("CONFIG");
            settings.arg("SET").arg("cluster-node-timeout").arg(NODE_TIMEOUT.as_millis() as u64);
            settings.arg("masterauth").arg(replica.password()).exec_async(connection).await.unwrap();
        }
        let mut connection = replica.connect_node().await;
        for node in &self.nodes {
            let mut meet = cluster("MEET");
            meet.arg("127.0.0.1").arg(node.port()).arg(node.cluster_port()).exec_async(&mut connection).await.unwrap();
        }
        let mut replicate = cluster("REPLICATE");
        replicate.arg(&self.names[place]);
        eventually("the replica to know its primary", JOIN, async || {
            replicate.exec_async(&mut connection.clone()).await.map_err(|error| error.to_string())
        })
        .await;
        eventually("the replica to catch up", JOIN, async || {
            let info: String =
                redis::cmd("INFO").arg("replication").query_async(&mut connection.clone()).await.unwrap();
            seen(info.contains("master_link_status:up"), info)
        })
        .await;
        let name: String = cluster("MYID").query_async(&mut connection).await.unwrap();
        for connection in &connections {
            eventually("the nodes to know the replica", JOIN, async || {
                let nodes: String = cluster("NODES").query_async(&mut connection.clone()).await.unwrap();
                let known = nodes.lines().any(|line| line.starts_with(&name) && line.contains(&self.names[place]));
                seen(known, nodes)
            })
            .await;
        }
        replica
    }

    /// Ends one node as a crash does.
    pub fn kill(&mut self, place: usize) {
        self.nodes[place].kill();
    }

    /// The same as a store, where slots stay where they are.
    pub fn into_store(self) -> Store {
        Store::of_nodes(self.nodes)
    }

    /// Waits until the nodes serve all slots, and know each other.
    pub(crate) async fn until_serving(nodes: impl Iterator<Item = &Store>) {
        let connections = join_all(nodes.map(Store::connect_node)).await;
        for connection in &connections {
            eventually("the cluster to serve all slots", JOIN, async || {
                let info: String = cluster("INFO").query_async(&mut connection.clone()).await.unwrap();
                seen(info.contains("cluster_state:ok"), info)
            })
            .await;
        }
        until_agreed(&connections).await;
    }

    pub(crate) async fn connect_to(nodes: impl Iterator<Item = &Store>) -> ClusterConnection {
        ClusterClient::new(nodes.map(Store::admin_url)).unwrap().get_async_connection().await.unwrap()
    }

    /// The URL that a service is configured with: one of the nodes, by which it finds the others.
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    /// A connection to look inside, at whatever node has what is asked for.
    pub async fn connect(&self) -> ClusterConnection {
        Self::connect_to(self.nodes.iter()).await
    }

    /// Throws all data away.
    pub async fn flush(&self) {
        for node in &self.nodes {
            redis::cmd("FLUSHALL").exec_async(&mut node.connect_node().await).await.unwrap();
        }
    }

    /// The nodes, each to be asked by itself.
    pub fn nodes(&self) -> &[Store] {
        &self.nodes
    }

    /// Begins to move the slot of a key to another node, and goes no further: whatever key of the slot is not there is
    /// to be asked of that node.
    pub async fn begin_move(&self, key: &str) {
        let connections = join_all(self.nodes.iter().map(Store::connect_node)).await;
        self.begin(slot_of(key, &connections).await, &connections).await;
    }

    /// How many keys each node has.
    pub async fn keys(&self) -> Vec<usize> {
        let size = async |node: &Store| redis::cmd("DBSIZE").query_async(&mut node.connect_node().await).await.unwrap();
        join_all(self.nodes.iter().map(size)).await
    }

    /// Lets something happen while slots move from node to node with all that is in them, one after the other and over
    /// again, as an operator's tool would move them.
    pub async fn while_slots_move<T>(&self, moving: &Moving, does: impl Future<Output = T>) -> T {
        let mut connections = join_all(self.nodes.iter().map(Store::connect_node)).await;
        // To hand keys over may take a busy machine longer than other commands.
        connections.iter_mut().for_each(|connection| connection.set_response_timeout(JOIN));
        let is_done = AtomicBool::new(false);
        let moves = async {
            let mut halves = moving.halves.iter().cycle();
            let mut half: Option<(Instant, u16)> = None;
            for key in moving.keys.iter().cycle() {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                if half.is_none()
                    && let Some(key) = halves.next()
                {
                    let slot = slot_of(key, &connections).await;
                    self.hand_over(slot, &connections).await;
                    half = Some((Instant::now(), slot));
                }
                let slot = slot_of(key, &connections).await;
                if half.is_none_or(|(_, half)| half != slot) {
                    self.hand_over(slot, &connections).await;
                    self.give(slot, &connections).await;
                    moving.moved.fetch_add(1, Ordering::Relaxed);
                }
                if let Some((_, slot)) = half.take_if(|(since, _)| since.elapsed() > HALF_MOVED) {
                    self.give(slot, &connections).await;
                    moving.moved.fetch_add(1, Ordering::Relaxed);
                }
            }
            if let Some((_, slot)) = half {
                self.give(slot, &connections).await;
            }
        };
        let doing = async {
            let done = does.await;
            is_done.store(true, Ordering::Relaxed);
            done
        };
        futures::join!(doing, moves).0
    }

    async fn begin(&self, slot: u16, connections: &[MultiplexedConnection]) {
        let (from, to) = self.way(slot);
        ask(to, self.set_slot(slot, "IMPORTING", from), connections).await;
        ask(from, self.set_slot(slot, "MIGRATING", to), connections).await;
    }

    /// Hands over all keys of a slot. Until it is [given](Self::give) away the one node is asked for them and says that the
    /// other one has them.
    async fn hand_over(&self, slot: u16, connections: &[MultiplexedConnection]) {
        self.begin(slot, connections).await;
        let (from, to) = self.way(slot);
        loop {
            let mut command = cluster("GETKEYSINSLOT");
            command.arg(slot).arg(KEYS_AT_ONCE);
            let keys: Vec<String> = redis::from_redis_value(ask(from, command, connections).await).unwrap();
            if keys.is_empty() {
                break;
            }
            let mut command = redis::cmd("MIGRATE");
            command.arg("127.0.0.1").arg(self.nodes[to].port()).arg("").arg(0);
            command.arg(JOIN.as_millis() as u64);
            command.arg("AUTH").arg(self.nodes[to].password()).arg("KEYS").arg(keys);
            ask(from, command, connections).await;
        }
    }

    async fn give(&self, slot: u16, connections: &[MultiplexedConnection]) {
        let (from, to) = self.way(slot);
        let other = (to + 1) % self.nodes.len();
        for node in [to, from, other] {
            ask(node, self.set_slot(slot, "NODE", to), connections).await;
        }
        self.moved.lock().unwrap().insert(slot, to);
        // A node that gives a slot away while an older claim of it is under way can take it back by mistake.
        until_agreed(connections).await;
    }

    fn set_slot(&self, slot: u16, state: &str, node: usize) -> Cmd {
        let mut command = cluster("SETSLOT");
        command.arg(slot).arg(state).arg(&self.names[node]);
        command
    }

    /// Which node has a slot, and to which it moves next.
    fn way(&self, slot: u16) -> (usize, usize) {
        let from = self.owner(slot);
        (from, (from + 1) % self.nodes.len())
    }

    fn owner(&self, slot: u16) -> usize {
        let began = (0..self.nodes.len()).rfind(|place| first_slot(*place) <= slot).unwrap_or_default();
        self.moved.lock().unwrap().get(&slot).copied().unwrap_or(began)
    }
}

async fn slot_of(key: &str, connections: &[MultiplexedConnection]) -> u16 {
    redis::from_redis_value(ask(0, cluster("KEYSLOT").arg(key).clone(), connections).await).unwrap()
}

async fn ask(node: usize, command: Cmd, connections: &[MultiplexedConnection]) -> redis::Value {
    command.query_async(&mut connections[node].clone()).await.unwrap()
}

/// Waits until every node knows all of them, and says the same of who has which slots.
async fn until_agreed(connections: &[MultiplexedConnection]) {
    eventually("the nodes to agree", JOIN, async || {
        let views = connections.iter().map(async |connection| {
            let nodes: String = cluster("NODES").query_async(&mut connection.clone()).await.unwrap();
            nodes.lines().map(owned_slots).collect::<BTreeMap<_, _>>()
        });
        let views = join_all(views).await;
        let agreed = views.iter().all(|view| view.len() == NODES && *view == views[0]);
        seen(agreed, views)
    })
    .await;
}

/// The name of a node, its epoch and slots, of a line that reads: name, address, flags, its primary, two times, epoch,
/// state, slots, and those under way in brackets.
fn owned_slots(line: &str) -> (String, Vec<String>) {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let slots = words.iter().skip(8).filter(|word| !word.starts_with('['));
    (words[0].clone(), words.iter().skip(6).take(1).chain(slots).cloned().collect())
}

/// Where the slots of a node begin; one after the last is the end of all.
fn first_slot(node: usize) -> u16 {
    if node == NODES { SLOTS } else { u16::try_from(usize::from(SLOTS) / NODES * node).unwrap() }
}

fn cluster(what: &str) -> Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg(what);
    command
}
