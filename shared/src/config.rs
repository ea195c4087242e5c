//! The configuration: every variable of the service, read once, checked together.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Everything that can be configured. Holds secrets: its `Debug` shows none of them.
#[derive(Clone)]
pub struct Config {
    /// `HOST`, default 127.0.0.1.
    pub host: IpAddr,
    /// `PORT`, default 8087.
    pub port: u16,
    /// `REDIS_URL`; none means the embedded in-memory store.
    pub redis_url: Option<String>,
    /// `REDIS_CLUSTER`, default false.
    pub redis_cluster: bool,
    /// `NATS_URL`; none means the embedded bus.
    pub nats_url: Option<String>,
    /// `HEARTBEAT_INTERVAL` in seconds, default 30.
    pub heartbeat_interval: Duration,
    /// `HEARTBEAT_TIMEOUT` in seconds, default 45.
    pub heartbeat_timeout: Duration,
    /// `TYPING_TIMEOUT` in seconds, default 10.
    pub typing_timeout: Duration,
    /// `LAST_SEEN_TTL` in seconds, default 30 days.
    pub last_seen_ttl: Duration,
    /// `RESUME_GRACE` in seconds, default 15.
    pub resume_grace: Duration,
    /// `CORS_ORIGINS`, comma separated, default none.
    pub cors_origins: Vec<String>,
    /// `GATEWAY`, `on` (default) or `off`.
    pub gateway: bool,
    /// `ADMIN_ADDR`, default none.
    pub admin_addr: Option<SocketAddr>,
}
