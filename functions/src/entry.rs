//! How a function starts. Plain functions that are not generic, so that a `main` is a few lines and compiles in no time.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use presence::config::Config;
use presence::events::Traceparent;
use presence::events::batch::{Batch, UNAVAILABLE};
use presence::{Connected, ErrorKind, Host, Sweeper, telemetry};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::emf::FunctionMetrics;
use crate::event::{EventHandler, Invocation, Subscription, sweep_timeouts};
use crate::start::{self, StartError};
use crate::{App, http};

/// Serves the routes as a function behind an API gateway, until the host ends the process. What keeps it from starting
/// is told in words, before anything else happens.
pub fn http(routes: fn() -> Router<App>) -> ExitCode {
    start::exit(runtime().and_then(|runtime| {
        let config = start::configure(&function_name())?;
        runtime.block_on(serve_http(&config, routes))
    }))
}

/// The same for routes that only read: they have nothing to tell, so the function connects to no NATS, which it would wait
/// for at its start.
pub fn http_reads(routes: fn() -> Router<App>) -> ExitCode {
    start::exit(runtime().and_then(|runtime| {
        let config = start::configure_reader(&function_name())?;
        runtime.block_on(serve_http(&config, routes))
    }))
}

/// Processes the batches of one subscription as a function: a batch of messages in, the records that have to come again
/// out. A batch that fails as a whole, and an event that is no batch, is a function error.
pub fn batch(subscription: Subscription) -> ExitCode {
    start::exit(runtime().and_then(|runtime| {
        let config = start::configure_without_tokens(&function_name())?;
        runtime.block_on(serve_batches(&config, subscription))
    }))
}

/// Sweeps as a function, whenever a schedule says so.
pub fn sweep() -> ExitCode {
    start::exit(runtime().and_then(|runtime| {
        let config = start::configure_without_tokens(&function_name())?;
        runtime.block_on(serve_sweeps(&config))
    }))
}

async fn serve_http(config: &Config, routes: fn() -> Router<App>) -> Result<(), StartError> {
    let metrics = FunctionMetrics::install(config);
    let (app, carrier) = start::connect(config, Host::Function).await?;
    start::open(app.service(), &carrier).await;
    let app = http::app(routes(), app);
    let serve = |request: lambda_http::Request| {
        let app = app.clone();
        async move {
            let response = app.answer(request.map(Body::new)).await;
            tell(metrics).await;
            Ok::<_, Infallible>(response)
        }
    };
    lambda_http::run(service_fn(serve)).await.map_err(StartError::Host)
}

async fn serve_batches(config: &Config, subscription: Subscription) -> Result<(), StartError> {
    let metrics = FunctionMetrics::install(config);
    let Connected { service, carrier } = presence::connect(config, Host::Function).await?;
    start::open(&service, &carrier).await;
    let handler = EventHandler::new(service, carrier.dead_letters());
    let serve = |event: LambdaEvent<Batch>| {
        let handler = handler.clone();
        async move {
            let context = &event.context;
            let trace = context.xray_trace_id.as_deref().and_then(Traceparent::from_xray);
            let invocation = Invocation { request_id: Some(&context.request_id), trace };
            let answer = handler.handle_within(subscription, &event.payload, invocation).await.map_err(diagnostic);
            tell(metrics).await;
            answer
        }
    };
    lambda_runtime::run(service_fn(serve)).await.map_err(StartError::Host)
}

async fn serve_sweeps(config: &Config) -> Result<(), StartError> {
    let metrics = FunctionMetrics::install(config);
    let Connected { service, carrier } = presence::connect(config, Host::Function).await?;
    start::open(&service, &carrier).await;
    // It lives as long as the process, and with it what it knows of outages.
    let sweeper = Arc::new(Sweeper::new(service));
    let serve = |event: LambdaEvent<Value>| {
        let sweeper = sweeper.clone();
        async move {
            let time_left = time_left(event.context.deadline());
            let answer = sweep_timeouts::handle(&sweeper, &event.payload, time_left).await.map_err(diagnostic);
            tell(metrics).await;
            answer
        }
    };
    lambda_runtime::run(service_fn(serve)).await.map_err(StartError::Host)
}

/// Tells what an invocation did before its answer goes out: after that the host may freeze the process.
async fn tell(metrics: Option<FunctionMetrics>) {
    if let Some(metrics) = metrics {
        metrics.write();
    }
    telemetry::flush().await;
}

/// One invocation at a time: one thread is enough, and starts faster than many.
fn runtime() -> Result<Runtime, StartError> {
    if !has_host() {
        return Err(StartError::NoHost);
    }
    Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)
}

/// What the host calls this function.
#[expect(clippy::disallowed_methods, reason = "the host's own variable, which is no configuration of ours")]
fn function_name() -> String {
    std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| "presence-function".to_owned())
}

/// The runtime library panics without its host; whoever starts a function by hand is better told how to.
#[expect(clippy::disallowed_methods, reason = "the host's own variable, which is no configuration of ours")]
fn has_host() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

/// How long the host lets this invocation run; none if it does not say, as the local emulator, whose deadlines are in
/// 1970.
#[expect(clippy::disallowed_methods, reason = "the host tells its deadline by its own clock")]
fn time_left(deadline: SystemTime) -> Option<Duration> {
    deadline.duration_since(SystemTime::now()).ok()
}

/// What the invoker of a function is told of a failure.
fn diagnostic(error: presence::Error) -> Diagnostic {
    let error_type = match error.kind() {
        ErrorKind::Unavailable => UNAVAILABLE,
        ErrorKind::Internal | ErrorKind::RateLimited { .. } => "Internal",
    };
    Diagnostic { error_type: error_type.to_owned(), error_message: error.to_string() }
}
