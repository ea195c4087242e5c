//! The configuration: every variable of the service, read once, checked together.

mod read;
mod tokens;
mod values;
mod variables;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use read::{ConfigError, ConfigErrors};
pub use values::redacted;
pub use variables::{VARIABLES, Variable};

use crate::auth::AuthConfig;
use crate::telemetry::{LogFilter, LogFormat, OtlpConfig};
use read::{NotUnicode, Reader};

/// Everything that can be configured. Holds secrets: its `Debug` shows none of them.
#[derive(Clone)]
pub struct Config {
    /// `HOST`, default 127.0.0.1.
    pub host: IpAddr,
    /// `PORT`, default 8087; 0 picks a free one.
    pub port: u16,
    /// `ADMIN_ADDR`, default none.
    pub admin_addr: Option<SocketAddr>,
    /// `ADMIN_EXPLAIN`: whether `admin_addr` tells why a user looks as they do. Default while it is loopback.
    pub admin_explain: bool,
    /// `REDIS_URL`; none means the embedded in-memory store. May hold a password.
    pub redis_url: Option<String>,
    /// `REDIS_CLUSTER`, default false.
    pub redis_cluster: bool,
    /// `REDIS_WAIT_REPLICAS`, default 0: how many replicas must have the choice of invisible before it is confirmed.
    pub redis_wait_replicas: u32,
    /// `REDIS_REPLICA_URL`: a replica to read many users from; none reads the primary. May hold a password.
    pub redis_replica_url: Option<String>,
    /// `NATS_URL`, one or more separated by commas; none means the embedded bus. May hold a password.
    pub nats_url: Option<String>,
    /// `TLS_CA_FILE`: a PEM file of the certificate authorities of Redis and NATS; none means the public ones.
    pub tls_ca_file: Option<PathBuf>,
    /// `HEARTBEAT_INTERVAL` in seconds, default 30.
    pub heartbeat_interval: Duration,
    /// `HEARTBEAT_TIMEOUT` in seconds, default 45; more than the interval and less than 300.
    pub heartbeat_timeout: Duration,
    /// `TYPING_TIMEOUT` in seconds, default 10.
    pub typing_timeout: Duration,
    /// `LAST_SEEN_TTL` in seconds, default 30 days.
    pub last_seen_ttl: Duration,
    /// `NOTES_TTL` in seconds, default 0: how long a user's last changes are noted.
    pub notes_ttl: Duration,
    /// `RESUME_GRACE` in seconds, default 15.
    pub resume_grace: Duration,
    /// `JWT_*`: what tokens are checked against.
    pub auth: AuthConfig,
    /// `GATEWAY`, `on` (default) or `off`.
    pub gateway: bool,
    /// `MAX_CONNECTIONS`, default 10,000.
    pub max_connections: usize,
    /// `MAX_IN_FLIGHT`, default 256 requests; a bulk read counts as 16.
    pub max_in_flight: usize,
    /// `MAX_QUEUE_TIME` in seconds, default 0.25; at most 1.
    pub max_queue_time: Duration,
    /// `CORS_ORIGINS`, comma separated, default none. Each as a browser sends it; never `*`.
    pub cors_origins: Vec<String>,
    /// `LOG_FORMAT`, default by whether logs go to a terminal.
    pub log_format: LogFormat,
    /// `OTEL_*`: where spans go, default nowhere.
    pub otlp: Option<OtlpConfig>,
    /// `METRICS_NAMESPACE`: where CloudWatch files the metrics of functions, default nowhere.
    pub metrics_namespace: Option<String>,
    /// `RUST_LOG`, default `info`.
    pub log_filter: LogFilter,
}

/// What a process can't do without.
#[derive(Clone, Copy)]
struct Needs {
    /// A key of tokens.
    tokens: bool,
    /// In a function: a bus that others hear.
    bus: bool,
}

impl Config {
    /// From the environment of this process.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Self::read(&environment, Needs { tokens: true, bus: true })
    }

    /// For a process that takes no tokens (event functions, the bridge): the same, but a key of tokens may be missing.
    /// If it is, every token is refused. So such a process need not be trusted with the key.
    pub fn from_env_without_tokens() -> Result<Self, ConfigErrors> {
        Self::read(&environment, Needs { tokens: false, bus: true })
    }

    /// For a function that only reads: it has nothing to tell, and connects to no NATS, whether there is one or not.
    pub fn from_env_of_reader() -> Result<Self, ConfigErrors> {
        let config = Self::read(&environment, Needs { tokens: true, bus: false })?;
        Ok(Self { nats_url: None, ..config })
    }

    /// From any source of variables by name. The result depends on nothing else.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        Self::read(&|name| Ok(lookup(name)), Needs { tokens: true, bus: true })
    }

    fn read(lookup: &dyn Fn(&str) -> Result<Option<String>, NotUnicode>, needs: Needs) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(lookup);
        let r = &mut reader;

        let host = r.parse("HOST", "an IP address or localhost", values::ip);
        let port = r.parse("PORT", "a whole number from 0 to 65535", |text| text.parse().ok());
        let admin_addr = r.parse("ADMIN_ADDR", "an address and a port, as 127.0.0.1:9090", values::socket_addr);
        let admin_explain = r.parse("ADMIN_EXPLAIN", "`on` or `off`", values::switch);
        if admin_explain == Some(true) && !r.is_set("ADMIN_ADDR") {
            r.reject("ADMIN_EXPLAIN", "is on without ADMIN_ADDR, where it would be told");
        }
        if let (Some(host), Some(port), Some(admin)) = (host, port, admin_addr)
            && port != 0
            && admin == SocketAddr::new(host, port)
        {
            r.reject("ADMIN_ADDR", "is the address of HOST and PORT; allowed is another one");
        }

        let form = "redis://[user:password@]host[:port][/database], or rediss:// for TLS, special characters \
                    percent-encoded";
        let redis_url = r.parse("REDIS_URL", form, values::redis_url);
        let redis_replica_url = r.parse("REDIS_REPLICA_URL", form, values::redis_url);
        let redis_cluster = r.parse("REDIS_CLUSTER", "`on` or `off`", values::switch);
        let redis_wait_replicas = r.parse("REDIS_WAIT_REPLICAS", "a whole number from 0 to 16", |text| {
            text.parse().ok().filter(|replicas| *replicas <= 16)
        });
        let nats_url = r.parse(
            "NATS_URL",
            "nats://[user:password@]host[:port], or tls:// for TLS, several separated by commas",
            values::nats_urls,
        );
        let tls_ca_file = r.text("TLS_CA_FILE").map(PathBuf::from);
        if !r.is_set("REDIS_URL") {
            for (name, set) in [
                ("REDIS_CLUSTER", redis_cluster == Some(true)),
                ("REDIS_WAIT_REPLICAS", redis_wait_replicas.is_some_and(|replicas| replicas > 0)),
                ("REDIS_REPLICA_URL", redis_replica_url.is_some()),
            ] {
                if set {
                    r.reject(name, "is set without REDIS_URL; the store in memory has neither nodes nor replicas");
                }
            }
        }
        if redis_cluster == Some(true) && redis_wait_replicas.is_some_and(|replicas| replicas > 0) {
            r.reject("REDIS_WAIT_REPLICAS", "is set with REDIS_CLUSTER; a cluster can't be waited for");
        }
        if redis_cluster == Some(true) && redis_replica_url.is_some() {
            r.reject("REDIS_REPLICA_URL", "is set with REDIS_CLUSTER; the reads of a cluster go to its primaries");
        }
        if r.is_set("AWS_LAMBDA_FUNCTION_NAME") {
            for (name, is_needed) in [("REDIS_URL", true), ("NATS_URL", needs.bus)] {
                if is_needed && !r.is_set(name) {
                    r.reject(name, "is not set; a function keeps nothing and needs it");
                }
            }
        }

        let heartbeat_timeout = below_five_minutes(r, "HEARTBEAT_TIMEOUT", false);
        let heartbeat_interval = below_five_minutes(r, "HEARTBEAT_INTERVAL", false);
        let typing_timeout = below_five_minutes(r, "TYPING_TIMEOUT", false);
        let resume_grace = below_five_minutes(r, "RESUME_GRACE", true);
        let last_seen_ttl = r.parse("LAST_SEEN_TTL", "seconds up to 315360000, which is ten years", |text| {
            values::seconds(text).filter(|ttl| *ttl <= Duration::from_secs(315_360_000))
        });
        let notes_ttl = r.parse("NOTES_TTL", "seconds from 0 to 86400, which is a day", |text| {
            values::seconds(text).filter(|ttl| *ttl <= Duration::from_secs(86_400))
        });
        if let (Some(interval), Some(timeout)) = (heartbeat_interval, heartbeat_timeout)
            && interval >= timeout
        {
            let (interval, timeout) = (interval.as_secs_f64(), timeout.as_secs_f64());
            r.reject(
                "HEARTBEAT_INTERVAL",
                format!("is {interval} s; allowed is less than HEARTBEAT_TIMEOUT, which is {timeout} s"),
            );
        }
        if let (Some(ttl), Some(timeout)) = (last_seen_ttl, heartbeat_timeout)
            && ttl < timeout
        {
            let (ttl, timeout) = (ttl.as_secs_f64(), timeout.as_secs_f64());
            r.reject(
                "LAST_SEEN_TTL",
                format!("is {ttl} s; allowed is at least HEARTBEAT_TIMEOUT, which is {timeout} s"),
            );
        }

        let auth = tokens::read(r, host, needs.tokens);
        let gateway = r.parse("GATEWAY", "`on` or `off`", values::switch);
        let max_connections = between(r, "MAX_CONNECTIONS", 1, 1_000_000);
        let max_in_flight = between(r, "MAX_IN_FLIGHT", 1, 65_536);
        let max_queue_time = r.parse("MAX_QUEUE_TIME", "seconds from 0 to 1", |text| {
            values::seconds(text).filter(|time| *time <= Duration::from_secs(1))
        });
        let cors_origins = r.parse(
            "CORS_ORIGINS",
            "origins as https://app.example.com, several separated by commas; `*` is not one",
            values::origins,
        );
        let log_format = r.parse("LOG_FORMAT", "`json`, `text` or `auto`", LogFormat::parse);
        let otlp = otlp(r);
        let metrics_namespace =
            r.parse("METRICS_NAMESPACE", "1 to 255 letters, digits and ._-/#:", values::metrics_namespace);
        let log_filter = r.parse(
            "RUST_LOG",
            "a level (error, warn, info, debug, trace) or target=level, comma separated",
            LogFilter::parse,
        );

        let config = (|| {
            Some(Config {
                host: host?,
                port: port?,
                admin_addr,
                admin_explain: admin_addr
                    .is_some_and(|admin| admin_explain.unwrap_or_else(|| values::is_loopback(admin.ip()))),
                redis_url,
                redis_cluster: redis_cluster?,
                redis_wait_replicas: redis_wait_replicas?,
                redis_replica_url,
                nats_url,
                tls_ca_file,
                heartbeat_interval: heartbeat_interval?,
                heartbeat_timeout: heartbeat_timeout?,
                typing_timeout: typing_timeout?,
                last_seen_ttl: last_seen_ttl?,
                notes_ttl: notes_ttl?,
                resume_grace: resume_grace?,
                auth: auth?,
                gateway: gateway?,
                max_connections: max_connections?,
                max_in_flight: max_in_flight?,
                max_queue_time: max_queue_time?,
                cors_origins: cors_origins.unwrap_or_default(),
                log_format: log_format?,
                otlp: otlp?,
                metrics_namespace,
                log_filter: log_filter?,
            })
        })();
        reader.finish(config)
    }

    /// For a process that works on what others do, and would be alone with an embedded store and bus.
    pub fn require_shared(&self) -> Result<(), ConfigErrors> {
        let missing = [("REDIS_URL", self.redis_url.is_none()), ("NATS_URL", self.nats_url.is_none())];
        let missing = missing.into_iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| name);
        ConfigErrors::of(missing, "is not set; this process needs the same one as the service")
    }

    /// What this process will run on, in one line for the start-up log.
    pub fn describe(&self) -> String {
        let store = match &self.redis_url {
            None => "in memory (nothing is kept)".to_owned(),
            Some(url) if self.redis_cluster => format!("Redis cluster at {}", redacted(url)),
            Some(url) => match &self.redis_replica_url {
                None => format!("Redis at {}", redacted(url)),
                Some(replica) => format!("Redis at {}, bulk reads at {}", redacted(url), redacted(replica)),
            },
        };
        let events = match &self.nats_url {
            None => "inside this process".to_owned(),
            Some(urls) => format!("NATS at {}", redacted(urls)),
        };
        format!(
            "store: {store}; events: {events}; tokens: {}; heartbeat every {} s, offline after {} s",
            self.auth.keys.describe(),
            self.heartbeat_interval.as_secs_f64(),
            self.heartbeat_timeout.as_secs_f64(),
        )
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn environment(name: &str) -> Result<Option<String>, NotUnicode> {
    std::env::var_os(name).map(|value| value.into_string().map_err(|_| NotUnicode)).transpose()
}

/// None if something is wrong; no collector if none is named.
fn otlp(reader: &mut Reader<'_>) -> Option<Option<OtlpConfig>> {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let endpoint = reader.parse(ENDPOINT, "an http:// or https:// URL without a user or a query", values::collector);
    let headers = reader.parse(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "name=value, several separated by commas, percent-encoded",
        values::headers,
    );
    let ratio = reader.parse("OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1", |text| {
        text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
    });
    if !reader.is_set(ENDPOINT) {
        return Some(None);
    }
    Some(Some(OtlpConfig { endpoint: endpoint?, headers: headers.unwrap_or_default(), ratio: ratio? }))
}

/// Seconds that must fit well into the five minutes that the user's hash lives.
fn below_five_minutes(reader: &mut Reader<'_>, name: &'static str, zero: bool) -> Option<Duration> {
    let allowed = if zero { "seconds from 0 to less than 300" } else { "seconds, more than 0 and less than 300" };
    reader.parse(name, allowed, |text| {
        values::seconds(text).filter(|time| *time < Duration::from_secs(300) && (zero || !time.is_zero()))
    })
}

fn between(reader: &mut Reader<'_>, name: &'static str, least: usize, most: usize) -> Option<usize> {
    let allowed = format!("a whole number from {least} to {most}");
    reader.parse(name, &allowed, |text| text.parse().ok().filter(|number| (least..=most).contains(number)))
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("admin_addr", &self.admin_addr)
            .field("admin_explain", &self.admin_explain)
            .field("redis_url", &self.redis_url.as_deref().map(redacted))
            .field("redis_cluster", &self.redis_cluster)
            .field("redis_wait_replicas", &self.redis_wait_replicas)
            .field("redis_replica_url", &self.redis_replica_url.as_deref().map(redacted))
            .field("nats_url", &self.nats_url.as_deref().map(redacted))
            .field("tls_ca_file", &self.tls_ca_file)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("heartbeat_timeout", &self.heartbeat_timeout)
            .field("typing_timeout", &self.typing_timeout)
            .field("last_seen_ttl", &self.last_seen_ttl)
            .field("notes_ttl", &self.notes_ttl)
            .field("resume_grace", &self.resume_grace)
            .field("auth", &self.auth)
            .field("gateway", &self.gateway)
            .field("max_connections", &self.max_connections)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_queue_time", &self.max_queue_time)
            .field("cors_origins", &self.cors_origins)
            .field("log_format", &self.log_format)
            .field("otlp", &self.otlp)
            .field("metrics_namespace", &self.metrics_namespace)
            .field("log_filter", &self.log_filter)
            .finish()
    }
}
