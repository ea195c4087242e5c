//! The way to Redis, single or cluster: many commands at once, each with its answer.

use redis::io::tcp::TcpSettings;
use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError,
    RedisResult, ServerErrorKind, TlsCertificates, Value,
};
use std::time::Duration;

use super::RedisConfig;
use super::cluster::Cluster;
use super::node::Node;
use super::replica::Replica;
use super::scripts::Script;
use crate::store::StoreError;

/// How many commands are sent together. A server works them off in a small part of the time that it has for them.
const PIPELINE: usize = 1000;

/// Who may answer what only reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The primary alone.
    Primary,
    /// A replica that has everything, if there is one.
    Replica,
}

/// Where commands go.
pub(super) enum Connection {
    /// To the one server; some reads to its replica.
    Single(Box<Node>, Option<Box<Replica>>),
    /// To whichever node has their key.
    Cluster(Box<Cluster>),
}

impl Connection {
    /// Prepares the connection. Nothing is sent before the first command, so that Redis may be away at the start. With
    /// TLS the authorities (PEM) are trusted, or the public ones.
    pub(super) fn new(config: &RedisConfig, authorities: Option<&[u8]>) -> Result<Self, StoreError> {
        let unusable = |name: &'static str| {
            move |error: RedisError| StoreError::Unavailable(format!("{name} can't be used: {}", error.category()))
        };
        let node = |url: &str| way_to(url, authorities).and_then(|(info, certificates)| Node::new(info, certificates));
        if config.cluster {
            let cluster = way_to(&config.url, authorities);
            let cluster = cluster.and_then(|(info, certificates)| Cluster::new(info, certificates));
            return Ok(Self::Cluster(Box::new(cluster.map_err(unusable("REDIS_URL"))?)));
        }
        let replica = config.replica_url.as_deref().map(node).transpose().map_err(unusable("REDIS_REPLICA_URL"))?;
        let node = node(&config.url).map_err(unusable("REDIS_URL"))?;
        Ok(Self::Single(Box::new(node), replica.map(|node| Box::new(Replica::new(node)))))
    }

    /// Runs commands, at most [`PIPELINE`] at a time, so that each part ends in time however many there are. One answer
    /// for each, in its place. A single server runs them in their order; in a cluster none may depend on another. If
    /// they call a script it is loaded where it is not known. What is run must bear repetition.
    pub(super) async fn run_all(&self, commands: Vec<Cmd>, script: Option<&Script>) -> Vec<Result<Value, StoreError>> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let part = commands.by_ref().take(PIPELINE);
            match self {
                Connection::Single(node, _) => answers.extend(run_on(node, part, script).await),
                Connection::Cluster(cluster) => answers.extend(cluster.run(part.collect(), script).await),
            }
        }
        answers.into_iter().map(|answer| answer.map_err(classify)).collect()
    }

    /// Runs commands that only read. Where a replica may answer and does not, the primary is asked for that and for all
    /// that follows, so that nothing is read of an earlier moment than what stands before it.
    pub(super) async fn read_all(&self, source: Source, commands: Vec<Cmd>) -> Vec<Result<Value, StoreError>> {
        let (Source::Replica, Connection::Single(node, Some(replica))) = (source, self) else {
            return self.run_all(commands, None).await;
        };
        let mut answers = Vec::with_capacity(commands.len());
        for part in commands.chunks(PIPELINE) {
            let answered = replica.read(node, part).await;
            let is_whole = answered.len() == part.len();
            answers.extend(answered.into_iter().map(Ok));
            if !is_whole {
                break;
            }
        }
        let rest = commands.into_iter().skip(answers.len()).collect();
        answers.extend(self.run_all(rest, None).await);
        answers
    }

    /// Whether keys of different slots can't be touched by one command.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Connection::Cluster(_))
    }
}

/// Where a URL leads, and whose certificates are trusted there.
fn way_to(url: &str, authorities: Option<&[u8]>) -> RedisResult<(ConnectionInfo, Option<TlsCertificates>)> {
    let info = url.into_connection_info()?;
    let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let authorities = authorities.filter(|_| is_tls);
    let certificates = authorities.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem.to_owned()) });
    let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(Duration::from_secs(5));
    // The library would introduce itself by a command that Redis 7.0 does not know and no permission names.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    Ok((info.set_redis_settings(settings).set_tcp_settings(tcp), certificates))
}

async fn run_on(node: &Node, commands: impl Iterator<Item = Cmd>, script: Option<&Script>) -> Vec<RedisResult<Value>> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    let answered = async {
        let values = node.send(&pipeline).await?;
        match script {
            Some(script) if values.iter().any(is_unknown_script) => {
                script.load(node).await?;
                node.send(&pipeline).await
            }
            _ => Ok(values),
        }
    };
    match answered.await {
        Ok(values) => values.into_iter().map(Value::extract_error).collect(),
        Err(error) => (0..pipeline.len()).map(|_| Err(error.clone())).collect(),
    }
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// What Redis refuses for a time, as while it loads its data or fails over, is as good as being away.
fn classify(error: RedisError) -> StoreError {
    let told = match error.code() {
        Some(code) => code,
        None if error.is_timeout() => "no answer in time",
        None => error.category(),
    };
    let told = told.to_owned();
    match error.kind() {
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => StoreError::Corrupt(told),
        _ if error.code() == Some("WRONGTYPE") => StoreError::Corrupt(told),
        _ => StoreError::Unavailable(told),
    }
}
