//! The bridge as a process of its own: messages of NATS to functions behind the Lambda API, and the sweep each second.

mod config;
mod probes;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use presence::config::Config;
use presence::telemetry::SpansError;
use presence::{Carrier, ConnectError, Connected, Host, Sweeper, telemetry};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::config::BridgeConfig;
use self::probes::Probes;
use crate::lambda::Lambda;
use crate::{Bridge, Consumers, Parts};

pub use config::VARIABLES;

/// How much longer than an invocation may take a shutdown waits for those that are under way.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// The longest that a shutdown waits: platforms give a process a minute at most, and what it had comes again.
const LONGEST_DRAIN: Duration = Duration::from_secs(50);

/// The upper bounds of the latency buckets, in seconds.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// What ends the process with a failure. Fit for a terminal.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] config::Wrong),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("cannot listen on {address}, which {variable} names: {error}")]
    Listen { address: SocketAddr, variable: &'static str, error: io::Error },
    #[error(transparent)]
    Spans(#[from] SpansError),
    #[error("the runtime cannot start: {0}")]
    Runtime(io::Error),
    #[error("metrics cannot be recorded: {0}")]
    Metrics(String),
    #[error("NATS_URL is not set")]
    NoNats,
}

/// Runs the bridge until SIGTERM or Ctrl-C. What keeps it from starting is told in words, before anything else happens.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nowhere left to say it, the exit code has to do.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let config = BridgeConfig::from_env()?;
    let Config { log_format, log_filter, otlp, .. } = &config.shared;
    telemetry::init(*log_format, log_filter, otlp.as_ref(), "presence-bridge")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(serve(config))
}

async fn serve(config: BridgeConfig) -> Result<(), Failure> {
    let shutdown = on_signal().map_err(Failure::Runtime)?;
    let listener = listen(&config).await?;
    let metrics = record_metrics().map_err(|error| Failure::Metrics(error.to_string()))?;
    let host = if config.consumers == Consumers::Ensure { Host::Process } else { Host::Provisioned };
    let Connected { service, carrier } = presence::connect(&config.shared, host).await?;
    let Carrier::Nats(link) = &carrier else { return Err(Failure::NoNats) };
    let target = Arc::new(Lambda::from_env(config.names.clone(), config.invocation_timeout).await);
    let parts = Parts {
        link: link.clone(),
        service: service.clone(),
        dead_letters: carrier.dead_letters(),
        target,
        consumers: config.consumers,
        drain_time: (config.invocation_timeout + DRAIN_MARGIN).min(LONGEST_DRAIN),
    };
    let bridge = Bridge::start(parts, config.mappings.clone(), shutdown.clone());
    let sweeper = Sweeper::new(service.clone());
    let sweeping = {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { sweeper.tick_until(shutdown.cancelled_owned()).await })
    };
    // Probes are answered to the end, and spans sent.
    let ended = CancellationToken::new();
    let telling = tokio::spawn(telemetry::flush_until(ended.clone().cancelled_owned()));
    let probes = Probes { service, subscriptions: bridge.readiness(), metrics };
    announce(&config, &listener);
    let serving = tokio::spawn(probes.serve(listener, ended.clone()));

    shutdown.cancelled().await;
    bridge.ended().await;
    // Only a panic ends it otherwise, which was told where it happened.
    let _ = sweeping.await;
    ended.cancel();
    let _ = futures::join!(serving, telling);
    tracing::info!("ended");
    Ok(())
}

/// A token that SIGTERM or Ctrl-C cancels.
fn on_signal() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end: finishing what is under way");
        token.cancel();
    });
    Ok(shutdown)
}

/// The address of the probes: `ADMIN_ADDR` if it is set, else `HOST` and `PORT`.
async fn listen(config: &BridgeConfig) -> Result<TcpListener, Failure> {
    let shared = &config.shared;
    let (address, variable) = match shared.admin_addr {
        Some(address) => (address, "ADMIN_ADDR"),
        None => (SocketAddr::new(shared.host, shared.port), "PORT"),
    };
    TcpListener::bind(address).await.map_err(|error| Failure::Listen { address, variable, error })
}

fn record_metrics() -> Result<PrometheusHandle, BuildError> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS)?.install_recorder()
}

/// Says what the process runs on and whom it invokes.
fn announce(config: &BridgeConfig, listener: &TcpListener) {
    tracing::info!("{}", config.shared.describe());
    for mapping in &config.mappings {
        let (subject, function) = (&mapping.subject, &mapping.function);
        let name = format!("{}{function}{}", config.names.prefix, config.names.suffix);
        tracing::info!(subject, function = name, options = ?mapping.options, "mapping");
    }
    if let Ok(address) = listener.local_addr() {
        tracing::info!("probes on http://{address}");
    }
}
