//! A real Redis or Valkey.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::access::documented_acl;
use crate::binaries::{tool, variable};
use crate::clock::clock_off_by;
use crate::port::free_port;
use crate::process::Process;
use crate::{Cluster, Connection, eventually, seen};

/// How long the server may take over an answer to the test itself, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one attempt may take to reach a server that comes up.
const ATTEMPT: Duration = Duration::from_secs(2);

/// As whom services come.
const USER: &str = "presence";

/// Which of the two stores that must both work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Redis 7.0, the oldest that is supported.
    Redis,
    /// Valkey, current.
    Valkey,
}

/// A server, or a cluster of three, with its own ports, data and password. Every write is on disk before it is answered,
/// so that a kill loses nothing unless the test wants it to. What happens to a cluster happens to all of its nodes.
pub struct Store {
    kind: StoreKind,
    port: u16,
    cluster_port: Option<u16>,
    tls: Option<Tls>,
    /// The port at which it reaches its primary, if it is a replica.
    primary: Option<u16>,
    clock_off_by: Option<i64>,
    password: String,
    dir: TempDir,
    process: Option<Process>,
    /// Of a cluster, the nodes but for this one.
    others: Vec<Store>,
}

/// A second port, on which the server speaks TLS.
#[derive(Debug, Clone)]
struct Tls {
    port: u16,
    certificate: PathBuf,
    key: PathBuf,
}

impl StoreKind {
    /// The store of this run: `PRESENCE_TEST_STORE`, by which `scripts/test` runs the tests on one store and then on
    /// the other. Valkey if nobody says.
    pub fn of_this_run() -> Self {
        kind_and_form_of_this_run().0
    }
}

/// Which store, and whether three nodes of it are to be a cluster.
fn kind_and_form_of_this_run() -> (StoreKind, bool) {
    let name = variable("PRESENCE_TEST_STORE").unwrap_or_else(|| "valkey".into());
    match name.to_str() {
        Some("valkey") => (StoreKind::Valkey, false),
        Some("redis") => (StoreKind::Redis, false),
        Some("valkey-cluster") => (StoreKind::Valkey, true),
        Some("redis-cluster") => (StoreKind::Redis, true),
        _ => panic!("PRESENCE_TEST_STORE is redis or valkey, and may end in -cluster; not {}", name.display()),
    }
}

impl Store {
    /// Starts the store of this run: one server, or a cluster if the run is on one.
    pub async fn start() -> Self {
        if kind_and_form_of_this_run().1 { Cluster::start().await.into_store() } else { Self::start_single().await }
    }

    /// Starts one server of the store of this run, also if the run is on a cluster: for what is about the way to a server,
    /// its replicas, or its own counts and permissions.
    pub async fn start_single() -> Self {
        Self::start_kind(StoreKind::of_this_run()).await
    }

    /// Makes one store of the nodes of a cluster.
    pub(crate) fn of_nodes(nodes: impl IntoIterator<Item = Self>) -> Self {
        let mut nodes = nodes.into_iter();
        let mut first = nodes.next().expect("a cluster has nodes");
        first.others = nodes.collect();
        first
    }

    /// Whether it is a cluster of several nodes.
    pub fn is_cluster(&self) -> bool {
        !self.others.is_empty()
    }

    /// The nodes of a cluster, or the one server.
    pub fn nodes(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// Starts it in cluster mode, for what needs no other node: one node that has all slots, and refuses what touches two of them or names no key, as
    /// any cluster does.
    pub async fn start_cluster() -> Self {
        let mut store = Self::stopped(StoreKind::of_this_run());
        store.cluster_port = Some(free_port());
        store.restart().await;
        let mut connection = store.connect_node().await;
        redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16383).exec_async(&mut connection).await.unwrap();
        eventually("the cluster to have all slots", Duration::from_secs(10), async || {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection.clone()).await.unwrap();
            seen(info.contains("cluster_state:ok"), info)
        })
        .await;
        store
    }

    /// Starts one node of a cluster, which knows no other yet.
    pub(crate) async fn start_node(kind: StoreKind, password: &str) -> Self {
        let mut node = Self::stopped(kind);
        node.cluster_port = Some(free_port());
        node.password = password.to_owned();
        node.restart().await;
        node
    }

    /// The port by which nodes of a cluster speak to each other.
    pub(crate) fn cluster_port(&self) -> u16 {
        self.cluster_port.expect("a node of a cluster")
    }

    /// Starts Redis with a port for TLS beside the other; the Valkey of the tests has no TLS.
    pub async fn start_tls(certificate: &Path, key: &Path) -> Self {
        let mut store = Self::stopped(StoreKind::Redis);
        store.tls = Some(Tls { port: free_port(), certificate: certificate.to_owned(), key: key.to_owned() });
        store.restart().await;
        store
    }

    /// Starts a Valkey on a host whose wall clock is off by so many seconds. Redis 7.0 does not come up under libfaketime.
    pub async fn start_off_by(seconds: i64) -> Self {
        let mut store = Self::stopped(StoreKind::Valkey);
        store.clock_off_by = Some(seconds);
        store.restart().await;
        store
    }

    /// Starts the one or the other.
    pub async fn start_kind(kind: StoreKind) -> Self {
        let mut store = Self::stopped(kind);
        store.restart().await;
        store
    }

    /// A store that is away: its port is known and nobody listens there, until [`restart`](Self::restart).
    pub fn stopped(kind: StoreKind) -> Self {
        let dir = tempfile::Builder::new().prefix("store.").tempdir().unwrap();
        let password = format!("password-{}", uuid::Uuid::new_v4().simple());
        Self {
            kind,
            port: free_port(),
            cluster_port: None,
            tls: None,
            primary: None,
            clock_off_by: None,
            password,
            dir,
            process: None,
            others: Vec::new(),
        }
    }

    /// Starts it again on its port with its data. A cluster serves all slots then.
    pub async fn restart(&mut self) {
        let (others, restart) = (std::mem::take(&mut self.others), async |mut node: Self| {
            node.restart_node().await;
            node
        });
        let ((), others) = futures::join!(self.restart_node(), join_all(others.into_iter().map(restart)));
        self.others = others;
        if self.is_cluster() {
            Cluster::until_serving(self.nodes()).await;
        }
    }

    async fn restart_node(&mut self) {
        let binary = match self.kind {
            StoreKind::Redis => tool("REDIS_SERVER_BIN"),
            StoreKind::Valkey => tool("VALKEY_SERVER_BIN"),
        };
        let mut command = Command::new(binary);
        command.envs(self.clock_off_by.into_iter().flat_map(clock_off_by));
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--requirepass", &self.password, "--dir"])
            .arg(self.dir.path())
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        command.arg("--user").arg(USER).args(documented_acl(USER, &self.password));
        if let Some(port) = self.cluster_port {
            command.args(["+cluster|slots", "+asking"]);
            command.args(["--cluster-enabled", "yes", "--cluster-port", &port.to_string()]);
        }
        if let Some(port) = self.primary {
            command.args(["--replicaof", &format!("127.0.0.1 {port}"), "--masterauth", &self.password]);
        }
        if let Some(tls) = &self.tls {
            command.args(["--tls-port", &tls.port.to_string(), "--tls-auth-clients", "no", "--tls-cert-file"]);
            command.arg(&tls.certificate).arg("--tls-key-file").arg(&tls.key);
            command.arg("--tls-ca-cert-file").arg(&tls.certificate);
        }
        let mut process = Process::start("the store", &mut command, self.dir.path());
        process.wait_until_up(self.port, async || self.try_connect_node(ATTEMPT).await.is_some()).await;
        self.process = Some(process);
    }

    /// Starts a replica that reaches its primary by way of a port, such as a proxy's, and has caught up with it. It has the
    /// primary's password, so that it can take its place.
    pub async fn start_replica(&self, port: u16) -> Self {
        let mut replica = Self::stopped(self.kind);
        replica.password.clone_from(&self.password);
        replica.primary = Some(port);
        replica.restart().await;
        let mut connection = replica.connect_node().await;
        eventually("the replica to catch up", Duration::from_secs(20), async || {
            let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await.unwrap();
            seen(info.contains("master_link_status:up"), info)
        })
        .await;
        replica
    }

    /// Makes a replica a primary, with what it has.
    pub async fn promote(&mut self) {
        self.primary = None;
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut self.connect_node().await).await.unwrap();
    }

    /// Throws its data away; to be called while it is down.
    pub fn forget(&self) {
        assert!(self.process.is_none(), "a running store forgets nothing");
        for node in self.nodes() {
            let _ = std::fs::remove_dir_all(node.dir.path().join("appendonlydir"));
        }
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
        self.others.iter_mut().for_each(Self::kill);
    }

    /// Stops it without closing its connections.
    pub fn freeze(&self) {
        self.nodes().for_each(|node| node.process.as_ref().unwrap().freeze());
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.nodes().for_each(|node| node.process.as_ref().unwrap().thaw());
    }

    /// The URL that a service is configured with: a user with the documented permissions and no others.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// Lets services do more than the documented user may, until the next start: what some configurations need.
    pub async fn allow(&self, permissions: &[&str]) {
        for node in self.nodes() {
            let mut connection = node.connect_node().await;
            redis::cmd("ACL").arg("SETUSER").arg(USER).arg(permissions).exec_async(&mut connection).await.unwrap();
        }
    }

    /// The URL of someone who may do everything, in the form of the documentation.
    pub fn admin_url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// The URL of its port for TLS; the name is the one in the certificate.
    pub fn tls_url(&self) -> String {
        let tls = self.tls.as_ref().expect("a store that was started with TLS");
        format!("rediss://:{}@localhost:{}", self.password, tls.port)
    }

    /// The same by way of another port, such as a proxy's. Not of a cluster, whose nodes name their own ports.
    pub fn url_through(&self, port: u16) -> String {
        assert!(!self.is_cluster(), "a proxy leads to one server: Store::start_single");
        self.url_at(port)
    }

    fn url_at(&self, port: u16) -> String {
        format!("redis://{USER}:{}@127.0.0.1:{port}", self.password)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What must never be seen in a log.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// A connection to look inside, in a cluster at whatever node has what is asked for.
    pub async fn connect(&self) -> Connection {
        if self.is_cluster() {
            Connection::Cluster(Cluster::connect_to(self.nodes()).await)
        } else {
            Connection::Single(self.connect_node().await)
        }
    }

    /// A connection to one server, by itself.
    pub async fn connect_node(&self) -> MultiplexedConnection {
        self.try_connect_node(PATIENCE).await.expect("a connection to the store")
    }

    async fn try_connect_node(&self, within: Duration) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(self.admin_url()).unwrap();
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(within));
        let config = config.set_response_timeout(Some(PATIENCE));
        let connect = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = timeout(within, connect).await.ok()?.ok()?;
        redis::cmd("PING").exec_async(&mut connection).await.ok()?;
        Some(connection)
    }
}
