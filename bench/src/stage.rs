//! What a measurement is given: servers, numbers, and a place for what it starts.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use redis::aio::MultiplexedConnection;

/// The servers of a run. They are its own: the store is emptied, streams are filled.
#[derive(Clone, clap::Args)]
pub(crate) struct Servers {
    /// The Redis or Valkey to measure on. It is emptied.
    #[arg(long, env = "REDIS_URL", default_value = "redis://127.0.0.1:6379", global = true)]
    pub(crate) redis_url: String,
    /// The NATS with JetStream to measure on.
    #[arg(long, env = "NATS_URL", default_value = "nats://127.0.0.1:4222", global = true)]
    pub(crate) nats_url: String,
    /// The same store over TLS, for the start of functions.
    #[arg(long, global = true)]
    pub(crate) redis_tls_url: Option<String>,
    /// The certificate authorities of that.
    #[arg(long, global = true)]
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// The process of NATS, for its share of the processors.
    #[arg(long, global = true)]
    pub(crate) nats_pid: Option<u32>,
}

/// What a measurement is given.
pub(crate) struct Stage {
    pub(crate) servers: Servers,
    pub(crate) users: usize,
    pub(crate) rounds: usize,
    pub(crate) short: bool,
    /// Where the results of other measurements lie.
    pub(crate) results: Option<PathBuf>,
}

/// Whether the store writes what it is told to its disk. Without, the costs are those of the commands alone; with, they
/// are those of the settings that docs/REDIS.md asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    InMemory,
    OnDisk,
}

impl Stage {
    /// The one or the other, for a run that is only a look.
    pub(crate) fn pick<T>(&self, whole: T, short: T) -> T {
        if self.short { short } else { whole }
    }

    /// The numbers of users online at which costs are compared.
    pub(crate) fn sizes(&self) -> &'static [usize] {
        self.pick(&[10_000, 100_000, 1_000_000], &[10_000, 50_000])
    }

    pub(crate) async fn redis(&self) -> MultiplexedConnection {
        let client = redis::Client::open(&*self.servers.redis_url).unwrap();
        // A thousand commands of a million users take longer than the client waits by itself.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
        client.get_multiplexed_async_connection_with_config(&config).await.expect("the store within reach")
    }

    /// An empty store. Its file is begun anew as well, so that it never holds more than one measurement.
    pub(crate) async fn empty(&self, kept: Kept) -> MultiplexedConnection {
        let redis = self.redis().await;
        let set = async |name: &str, value: &str| {
            redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(&mut redis.clone()).await.unwrap();
        };
        set("appendonly", "no").await;
        redis::cmd("FLUSHALL").exec_async(&mut redis.clone()).await.unwrap();
        if kept == Kept::OnDisk {
            // A rewrite would fall into some round or other.
            set("auto-aof-rewrite-percentage", "0").await;
            set("appendfsync", "everysec").await;
            set("appendonly", "yes").await;
            set("hz", "100").await;
        }
        redis
    }

    /// NATS and the others, for whoever counts processor time.
    pub(crate) fn with_nats(&self, processes: &[u32]) -> Vec<u32> {
        self.servers.nats_pid.iter().chain(processes).copied().collect()
    }

    pub(crate) async fn nats(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::new().subscription_capacity(1 << 20);
        options.connect(&*self.servers.nats_url).await.expect("NATS within reach")
    }
}

/// A bar on the terminal, for as long as something takes.
pub(crate) fn progress(what: &str, steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:32} {wide_bar} {pos}/{len} {elapsed}").unwrap();
    let bar = ProgressBar::new(steps as u64).with_style(style).with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
