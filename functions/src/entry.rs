//! How a function starts. Plain functions that are not generic, so that a `main` is a few lines and compiles in no time.

use std::process::ExitCode;

use axum::Router;
use presence::Host;

use crate::start::{self, StartError};
use crate::{App, http};

/// Serves the routes as a function behind an API gateway, until the host ends the process. What keeps it from starting
/// is told in words, before anything else happens.
pub fn http(routes: fn() -> Router<App>) -> ExitCode {
    start::exit(run(routes))
}

fn run(routes: fn() -> Router<App>) -> Result<(), StartError> {
    if !has_host() {
        return Err(StartError::NoHost);
    }
    let config = start::configure()?;
    // One invocation at a time: one thread is enough, and starts faster than many.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    runtime.block_on(async {
        let (app, _carrier) = start::connect(&config, Host::Function).await?;
        lambda_http::run(http::app(routes(), app)).await.map_err(StartError::Host)
    })
}

/// The runtime library panics without its host; whoever starts a function by hand is better told how to.
#[expect(clippy::disallowed_methods, reason = "the host's own variable, which is no configuration of ours")]
fn has_host() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}
