//! The life of the process: configure, listen, connect, serve, and end when told to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use axum::Router;
use presence::auth::KeySource;
use presence::config::Config;
use presence::{Host, Sweeper, telemetry};
use presence_functions::App;
use presence_functions::http::admission::Admission;
use presence_functions::http::metrics::MetricsError;
use presence_functions::http::{self, explain, health, metrics, presence_routes, ready};
use presence_functions::start::{self, StartError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::{Limits, Server};
use crate::{gateway, inputs};

/// Files and sockets that are no client's: listeners, connections to the store and to the bus, logs.
const OWN_FILES: u64 = 256;

/// What ends the process with a failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("port {port} of {host} is taken by another process; {variable} chooses another one", host = .address.ip(),
        port = .address.port())]
    Taken { address: SocketAddr, variable: &'static str },
    #[error("cannot listen on {address}, which {variable} names: {error}")]
    Listen { address: SocketAddr, variable: &'static str, error: io::Error },
    #[error("the runtime cannot start: {0}")]
    Runtime(io::Error),
    #[error("metrics cannot be recorded: {0}")]
    Metrics(#[from] MetricsError),
}

/// Runs the service until SIGTERM or Ctrl-C. What keeps it from starting is told in words, before anything else happens.
pub fn main() -> ExitCode {
    start::exit(run())
}

fn run() -> Result<(), Failure> {
    let config = start::configure("presence-service")?;
    runtime()?.block_on(serve(&config))
}

pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)
}

async fn serve(config: &Config) -> Result<(), Failure> {
    let shutdown = on_signal().map_err(Failure::Runtime)?;
    let admission = Admission { in_flight: config.max_in_flight, queue_time: config.max_queue_time };
    let limits = limits(config.max_connections);
    let (listener, admin_listener) = listeners(config).await?;
    let probes = health::routes().merge(ready::routes()).merge(metrics::routes(metrics::install()?));
    let (mut app, carrier) = start::connect(config, Host::Process).await?;
    let inputs = inputs::start(&carrier, app.service().clone(), shutdown.clone());
    if let Some(inputs) = &inputs {
        let readiness = inputs.readiness();
        app = app.with_probe("subscriptions", move || readiness.is_ready());
    }

    // The listener of the probes, if there is one, lives as long as the other needs to finish.
    let served = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (sweeper, told_to_end) = (Sweeper::new(app.service().clone()), shutdown.clone().cancelled_owned());
    tasks.spawn(async move { sweeper.tick_until(told_to_end).await });
    tasks.spawn(telemetry::flush_until(served.clone().cancelled_owned()));
    let mut routes = presence_routes().merge(probes.clone());
    if config.gateway {
        let (ready_app, gateway, upkeep) = gateway::mount(app, &carrier, limits.connections, shutdown.clone());
        tasks.spawn(upkeep.run());
        routes = routes.merge(gateway).merge(gateway::page(config, &ready_app));
        app = ready_app;
    }
    if let Some(admin_listener) = admin_listener {
        tracing::info!("probes also on http://{}", address_of(&admin_listener));
        let app = http::app(administration(config, probes), app.clone());
        tasks.spawn(Server { app, limits }.serve(admin_listener, served.clone()));
    }
    announce(config, &listener);
    let server = Server { app: http::app(routes, app).behind(admission), limits };
    server.serve(listener, shutdown).await;
    if let Some(inputs) = inputs {
        inputs.ended().await;
    }

    served.cancel();
    tasks.close();
    tasks.wait().await;
    tracing::info!("ended");
    Ok(())
}

/// The routes of the other address: the probes, and where it is allowed why a user looks as they do.
pub(crate) fn administration(config: &Config, probes: Router<App>) -> Router<App> {
    if config.admin_explain { probes.merge(explain::routes()) } else { probes }
}

/// A token that SIGTERM or Ctrl-C cancels.
pub(crate) fn on_signal() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("told to end: finishing what is in flight");
        token.cancel();
    });
    Ok(shutdown)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The main listener, and that of the probes alone, if there is to be one.
pub(crate) async fn listeners(config: &Config) -> Result<(TcpListener, Option<TcpListener>), Failure> {
    let listener = listen(SocketAddr::new(config.host, config.port), "PORT").await?;
    let admin_listener = match config.admin_addr {
        Some(address) => Some(listen(address, "ADMIN_ADDR").await?),
        None => None,
    };
    Ok((listener, admin_listener))
}

async fn listen(address: SocketAddr, variable: &'static str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::Taken { address, variable },
        _ => Failure::Listen { address, variable, error },
    })
}

/// The default limits but for the connections, as far as the process may have so many sockets. It asks for as many as
/// it needs.
pub(crate) fn limits(connections: usize) -> Limits {
    let defaults = Limits { connections, ..Limits::default() };
    let wanted = (defaults.connections + defaults.refusals) as u64 + OWN_FILES;
    let allowed = getrlimit(Resource::Nofile);
    // None is no limit.
    let most = allowed.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if allowed.current.is_some_and(|current| current < most) {
        let raised = Rlimit { current: Some(most), maximum: allowed.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    let sockets = files.saturating_sub(OWN_FILES + defaults.refusals as u64).max(1);
    let connections = defaults.connections.min(usize::try_from(sockets).unwrap_or(usize::MAX));
    if connections < defaults.connections {
        tracing::warn!(connections, "the limit of open files leaves fewer connections than MAX_CONNECTIONS");
    }
    Limits { connections, ..defaults }
}

/// Says what the process runs on and how to speak to it.
pub(crate) fn announce(config: &Config, listener: &TcpListener) {
    tracing::info!("{}", config.describe());
    if matches!(config.auth.keys, KeySource::Development) {
        tracing::info!("`scripts/token` makes a token");
    }
    tracing::info!("listening on http://{}", address_of(listener));
}

/// Where the listener really is, which matters when it was to take any free port.
pub(crate) fn address_of(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap_or(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0))
}
