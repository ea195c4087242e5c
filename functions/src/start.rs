//! From the environment to an [`App`]: the same for every host that serves HTTP.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use presence::auth::Authenticator;
use presence::config::{Config, ConfigErrors};
use presence::telemetry::SpansError;
use presence::{Carrier, ConnectError, Host, PresenceService, telemetry};
use tokio::time::timeout;

use crate::App;

/// What keeps a process from starting, or ended it. Fit for a terminal: no secret is in it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A function was started by hand.
    #[error("this is a Lambda function and needs its host: try `cargo lambda watch`, or run `presence-service`")]
    NoHost,
    /// The configuration is wrong; each variable is named.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What the configuration names can never be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Nobody's token could be checked.
    #[error("tokens cannot be checked: {0}")]
    Tokens(#[source] presence::Error),
    /// Spans can't be sent where the configuration says.
    #[error(transparent)]
    Spans(#[from] SpansError),
    /// The process could not get its threads.
    #[error("the runtime cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// The function's host ended it.
    #[error("the function's host failed: {0}")]
    Host(#[source] lambda_http::Error),
}

/// How long a function waits for its connections before it takes its first event.
const OPENING: Duration = Duration::from_secs(1);

/// Reads the configuration and sends the logs where it says, and spans as those of `process`. Comes before everything
/// else.
pub fn configure(process: &str) -> Result<Config, StartError> {
    configured(Config::from_env(), process)
}

/// The same for a function that only reads.
pub fn configure_reader(process: &str) -> Result<Config, StartError> {
    configured(Config::from_env_of_reader(), process)
}

/// The same for a process that takes no tokens, and needs no key to check them with.
pub fn configure_without_tokens(process: &str) -> Result<Config, StartError> {
    configured(Config::from_env_without_tokens(), process)
}

fn configured(config: Result<Config, ConfigErrors>, process: &str) -> Result<Config, StartError> {
    let config = config?;
    telemetry::init(config.log_format, &config.log_filter, config.otlp.as_ref(), process)?;
    Ok(config)
}

/// The app over what the configuration names, and how it talks to the rest. Waits for nobody: what is away at the start
/// may come later.
pub async fn connect(config: &Config, host: Host) -> Result<(App, Carrier), StartError> {
    let connected = presence::connect(config, host).await?;
    let authenticator = Authenticator::new(&config.auth).map_err(StartError::Tokens)?;
    let app = App::new(connected.service, Arc::new(authenticator));
    Ok((app.with_cors_origins(config.cors_origins.iter().map(String::as_str)), connected.carrier))
}

/// Opens the connections, both at once, before the first event comes: a host lets a function that starts run faster
/// than it does later. What is away may come later.
pub async fn open(service: &PresenceService, carrier: &Carrier) {
    let store = async { service.now().await.is_ok() };
    let events = async {
        match carrier {
            Carrier::Embedded(_) => true,
            Carrier::Nats(link) => link.has_jetstream().await,
        }
    };
    let opened = async { futures::join!(store, events) };
    match timeout(OPENING, opened).await {
        Ok((true, _)) => {}
        _ => tracing::warn!("not everything can be reached yet; it is tried again when it is needed"),
    }
}

/// How a process ends: what went wrong goes to the standard error in words, since there may be no log yet.
pub fn exit(result: Result<(), impl Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nowhere left to say it, the exit code has to do.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
