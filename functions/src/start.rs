//! From the environment to an [`App`]: the same for every host.

use std::io::{self, Write};
use std::process::ExitCode;

use presence::config::Config;

use crate::App;

/// What keeps a process from starting, or ended it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A function was started by hand.
    #[error("this is a Lambda function and needs its host: try `cargo lambda watch`, or run `presence-service`")]
    NoHost,
    /// The process could not get its threads.
    #[error("the runtime cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// The function's host ended it.
    #[error("the function's host failed: {0}")]
    Host(#[source] lambda_http::Error),
}

/// Reads the configuration, sets up logs and connects to what it names.
pub async fn start() -> Result<(Config, App), StartError> {
    Err(StartError::NoHost)
}

/// How a process ends: what went wrong goes to the standard error in words, since there may be no log yet.
pub fn exit(result: Result<(), impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nowhere left to say it, the exit code has to do.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
