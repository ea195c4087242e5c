//! One connection to Redis, single or cluster, that is shared by everyone in the process and heals by itself.
//!
//! The client reconnects when a connection ends, but keeps one that is dead without having ended, which is what a
//! thawed function meets. So a command that runs into its timeout replaces the connection, for everyone, once.

use std::future::Future;
use std::sync::RwLock;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError,
    RedisFuture, RedisResult, TlsCertificates, Value,
};

use crate::store::StoreError;

/// How long one command may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a command may take with its one repetition on a fresh connection.
const OVERALL_TIMEOUT: Duration = Duration::from_millis(1500);

/// The shared connection.
pub(super) struct Connection {
    target: Target,
    current: RwLock<(u64, Handle)>,
}

enum Target {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// What commands are sent through: clones of it pipeline by themselves.
#[derive(Clone)]
pub(super) enum Handle {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Prepares the connection. Nothing is sent before the first command, so that Redis may be away at the start. With
    /// TLS the authorities (PEM) are trusted, or the public ones.
    pub(super) fn new(url: &str, cluster: bool, authorities: Option<&[u8]>) -> RedisResult<Self> {
        let info = url.into_connection_info()?;
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let authorities = authorities.filter(|_| is_tls);
        let certificates = authorities.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem.to_owned()) });
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(Duration::from_secs(5));
        let target = if cluster {
            let mut client = ClusterClient::builder([info])
                .use_protocol(ProtocolVersion::RESP3)
                .connection_timeout(CONNECT_TIMEOUT)
                .response_timeout(RESPONSE_TIMEOUT)
                .overall_response_timeout(Some(OVERALL_TIMEOUT))
                .retries(3)
                .tcp_settings(tcp);
            if let Some(certificates) = certificates {
                client = client.certs(certificates);
            }
            Target::Cluster(Box::new(client.build()?))
        } else {
            // The library would introduce itself by a command that Redis 7.0 does not know and no permission names.
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
            let info: ConnectionInfo = info.set_redis_settings(settings).set_tcp_settings(tcp);
            Target::Single(Box::new(match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates)?,
                None => Client::open(info)?,
            }))
        };
        let first = target.connect()?;
        Ok(Self { target, current: RwLock::new((0, first)) })
    }

    /// Runs a command, or several, on the connection; once more on a fresh one if the connection turns out to be dead.
    /// So what is run must bear repetition.
    pub(super) async fn run<T, F, R>(&self, command: F) -> Result<T, StoreError>
    where
        F: Fn(Handle) -> R,
        R: Future<Output = RedisResult<T>>,
    {
        let repeated = async {
            let (generation, handle) = self.current();
            match command(handle).await {
                Err(error) if error.is_timeout() || error.is_connection_dropped() => {
                    let fresh = self.replace(generation)?;
                    if error.is_connection_refusal() { Err(error) } else { command(fresh).await }
                }
                result => result,
            }
        };
        match tokio::time::timeout(OVERALL_TIMEOUT, repeated).await {
            Ok(result) => result.map_err(classify),
            Err(_) => {
                let (generation, _) = self.current();
                self.replace(generation).map_err(classify)?;
                Err(StoreError::Unavailable("no answer in time".to_owned()))
            }
        }
    }

    fn current(&self) -> (u64, Handle) {
        let current = self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        current.clone()
    }

    /// Replaces the connection that failed, unless somebody already did.
    fn replace(&self, failed: u64) -> RedisResult<Handle> {
        let mut current = self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.0 == failed {
            *current = (failed + 1, self.target.connect()?);
        }
        Ok(current.1.clone())
    }
}

impl Target {
    fn connect(&self) -> RedisResult<Handle> {
        match self {
            Target::Single(client) => {
                let config = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(RESPONSE_TIMEOUT))
                    .set_number_of_retries(1)
                    .set_min_delay(Duration::from_millis(20));
                ConnectionManager::new_lazy_with_config(Client::clone(client), config).map(Handle::Single)
            }
            Target::Cluster(client) => {
                let config =
                    ClusterConfig::new().set_connection_timeout(CONNECT_TIMEOUT).set_response_timeout(RESPONSE_TIMEOUT);
                Ok(Handle::Cluster(client.get_pending_async_connection_with_config(config)))
            }
        }
    }
}

/// What Redis refuses for a time, as while it loads its data or fails over, is as good as being away.
fn classify(error: RedisError) -> StoreError {
    let told = error.code().map_or_else(|| error.category().to_owned(), str::to_owned);
    match error.kind() {
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => StoreError::Corrupt(told),
        _ if error.code() == Some("WRONGTYPE") => StoreError::Corrupt(told),
        _ => StoreError::Unavailable(told),
    }
}

impl ConnectionLike for Handle {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Handle::Single(connection) => connection.req_packed_command(cmd),
            Handle::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipe: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Handle::Single(connection) => connection.req_packed_commands(pipe, offset, count),
            Handle::Cluster(connection) => connection.req_packed_commands(pipe, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Handle::Single(connection) => connection.get_db(),
            Handle::Cluster(connection) => connection.get_db(),
        }
    }
}
