//! The gateway, inside the service and by itself.

use std::process::ExitCode;

use axum::Router;
use presence::config::Config;
use presence::{Carrier, Host, telemetry};
use presence_functions::App;
use presence_functions::http::{self, health, metrics, ready};
use presence_functions::start::{self, StartError};
use presence_gateway::{Gateway, Limits, Upkeep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::run::{Failure, address_of, administration, announce, limits, listeners, on_signal, runtime};
use crate::server::Server;

/// The gateway of a process, which becomes part of its readiness: its route, and the work behind it, which is to run
/// until the shutdown.
pub(crate) fn mount(
    app: App,
    carrier: &Carrier,
    connections: usize,
    shutdown: CancellationToken,
) -> (App, Router<App>, Upkeep) {
    let limits = Limits { connections, ..Limits::default() };
    let (gateway, upkeep) = Gateway::new(app.service().clone(), app.authenticator().clone(), carrier, limits, shutdown);
    let routes = presence_gateway::router(gateway.clone()).with_state(());
    (app.with_probe("gateway", move || gateway.is_ready()), routes, upkeep)
}

/// The page, which needs the HTTP interface beside the gateway.
pub(crate) fn page(config: &Config, app: &App) -> Router<App> {
    presence_gateway::page(&config.auth, app.service().rules()).with_state(())
}

/// Runs the gateway by itself until SIGTERM or Ctrl-C.
pub fn main() -> ExitCode {
    start::exit(run())
}

fn run() -> Result<(), Failure> {
    let config = start::configure("presence-gateway")?;
    config.require_shared().map_err(StartError::Config)?;
    runtime()?.block_on(serve(&config))
}

async fn serve(config: &Config) -> Result<(), Failure> {
    let shutdown = on_signal().map_err(Failure::Runtime)?;
    let limits = limits(config.max_connections);
    let (listener, admin_listener) = listeners(config).await?;
    let probes = health::routes().merge(ready::routes()).merge(metrics::routes(metrics::install()?));
    let (app, carrier) = start::connect(config, Host::Process).await?;
    let (app, routes, upkeep) = mount(app, &carrier, limits.connections, shutdown.clone());

    let tasks = TaskTracker::new();
    tasks.spawn(upkeep.run());
    let served = CancellationToken::new();
    tasks.spawn(telemetry::flush_until(served.clone().cancelled_owned()));
    if let Some(admin_listener) = admin_listener {
        tracing::info!("probes also on http://{}", address_of(&admin_listener));
        let app = http::app(administration(config, probes.clone()), app.clone());
        tasks.spawn(Server { app, limits }.serve(admin_listener, shutdown.clone()));
    }
    announce(config, &listener);
    let server = Server { app: http::app(routes.merge(probes), app), limits };
    server.serve(listener, shutdown).await;
    served.cancel();
    tasks.close();
    tasks.wait().await;
    tracing::info!("ended");
    Ok(())
}
