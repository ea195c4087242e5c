//! One connection to Redis, single or cluster, that is shared by everyone in the process and heals by itself.
//!
//! The client reconnects when a connection ends, but keeps one that is dead without having ended, which is what a
//! thawed function meets. So a command that runs into its timeout replaces the connection, for everyone, once.

use std::future::Future;
use std::sync::RwLock;
use std::time::Duration;

use futures::future::join_all;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError,
    RedisFuture, RedisResult, Script, ServerErrorKind, TlsCertificates, Value,
};

use crate::store::StoreError;

/// How long one command may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a command may take with its one repetition on a fresh connection.
const OVERALL_TIMEOUT: Duration = Duration::from_millis(1500);

/// How many commands are sent together. A server works them off in a small part of the time that it has for them.
const PIPELINE: usize = 1000;
/// What a server says that does not know a script.
const UNKNOWN_SCRIPT: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);

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

    /// Runs commands of which none depends on another, at most [`PIPELINE`] at a time, so that each part ends in time
    /// however many there are. One answer for each, in its place. If they call a script it is loaded where it is not
    /// known.
    pub(super) async fn run_all(&self, commands: Vec<Cmd>, script: Option<&Script>) -> Vec<Result<Value, StoreError>> {
        if self.is_cluster() {
            return join_all(commands.iter().map(|command| self.run_one(command, script))).await;
        }
        let mut answers = Vec::with_capacity(commands.len());
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let mut pipeline = Pipeline::new();
            for command in commands.by_ref().take(PIPELINE) {
                pipeline.add_command(command);
            }
            match self.run_pipeline(&pipeline, script).await {
                Ok(values) => answers.extend(values.into_iter().map(told)),
                Err(error) => answers.extend((0..pipeline.len()).map(|_| Err(error.clone()))),
            }
        }
        answers
    }

    async fn run_pipeline(&self, pipeline: &Pipeline, script: Option<&Script>) -> Result<Vec<Value>, StoreError> {
        let send = |mut handle: Handle| async move { handle.req_packed_commands(pipeline, 0, pipeline.len()).await };
        let values = self.run(send).await?;
        match script {
            Some(script) if values.iter().any(is_unknown_script) => {
                self.load(script).await?;
                self.run(send).await
            }
            _ => Ok(values),
        }
    }

    async fn run_one(&self, command: &Cmd, script: Option<&Script>) -> Result<Value, StoreError> {
        let send = |mut handle: Handle| async move {
            match handle.req_packed_command(command).await.and_then(Value::extract_error) {
                Err(error) if error.kind() == UNKNOWN_SCRIPT => Ok(None),
                answer => answer.map(Some),
            }
        };
        let mut value = self.run(send).await?;
        if let (None, Some(script)) = (&value, script) {
            self.load(script).await?;
            value = self.run(send).await?;
        }
        value.ok_or_else(|| StoreError::Unavailable("NOSCRIPT".to_owned()))
    }

    async fn load(&self, script: &Script) -> Result<(), StoreError> {
        let load = |mut handle: Handle| async move { script.prepare_invoke().load_async(&mut handle).await };
        self.run(load).await.map(drop)
    }

    /// Whether keys of different slots can't be touched by one command.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(_))
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

/// What a server says of one command among others.
fn told(value: Value) -> Result<Value, StoreError> {
    value.extract_error().map_err(classify)
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
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
