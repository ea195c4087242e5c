//! The connection to one server, which is shared by everyone in the process and heals by itself.
//!
//! The client reconnects when a connection ends, but keeps one that is dead without having ended, which is what a
//! thawed function meets. So a command that runs into its timeout replaces the connection, for everyone, once.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult, TlsCertificates, Value};

/// How long one command may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a command may take with its one repetition on a fresh connection.
pub(super) const OVERALL_TIMEOUT: Duration = Duration::from_millis(1500);

/// One server.
pub(super) struct Node {
    client: Client,
    current: RwLock<(u64, ConnectionManager)>,
}

impl Node {
    /// Prepares the connection. Nothing is sent before the first command, so that the server may be away at the start.
    pub(super) fn new(info: ConnectionInfo, certificates: Option<TlsCertificates>) -> RedisResult<Self> {
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(info, certificates)?,
            None => Client::open(info)?,
        };
        let first = connect(&client)?;
        Ok(Self { client, current: RwLock::new((0, first)) })
    }

    /// Sends commands together. Each has its answer in its place, which may be an error; fails as a whole if the server
    /// can't be reached. They are sent once more on a fresh connection if the connection turns out to be dead, so they
    /// must bear repetition.
    pub(super) async fn send(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let send =
            async |mut connection: ConnectionManager| connection.req_packed_commands(commands, 0, commands.len()).await;
        let repeated = async {
            let (generation, connection) = self.current();
            match send(connection).await {
                Err(error) if error.is_timeout() || error.is_connection_dropped() => {
                    let fresh = self.replace(generation)?;
                    if error.is_connection_refusal() { Err(error) } else { send(fresh).await }
                }
                result => result,
            }
        };
        match tokio::time::timeout(OVERALL_TIMEOUT, repeated).await {
            Ok(result) => result,
            Err(_) => {
                let (generation, _) = self.current();
                self.replace(generation)?;
                Err(no_answer())
            }
        }
    }

    fn current(&self) -> (u64, ConnectionManager) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the connection that failed, unless somebody already did.
    fn replace(&self, failed: u64) -> RedisResult<ConnectionManager> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 == failed {
            *current = (failed + 1, connect(&self.client)?);
        }
        Ok(current.1.clone())
    }
}

/// That nothing was heard in time.
pub(super) fn no_answer() -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer in time"))
}

fn connect(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(20));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}
