//! Functions behind the Invoke API of AWS Lambda: in the cloud, or in the local emulator, which differs in how it tells
//! of a function that failed.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::error::{DisplayErrorContext, SdkError};
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use presence::events::batch::{Batch, BatchResponse, UNAVAILABLE};
use serde::Deserialize;

use crate::target::{Target, TargetError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections that are idle for longer are not used again: gateways in between forget them without a word.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of what a function says of its failure is told on, in characters.
const MESSAGE_LIMIT: usize = 300;

/// Invokes functions and waits for their answers.
#[derive(Debug, Clone)]
pub struct Lambda {
    client: Client,
    names: Names,
}

/// How functions are called where they are deployed.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Before the name, for example that of a stack: `presence-`.
    pub prefix: String,
    /// After it, for example an alias: `:live`.
    pub suffix: String,
}

impl Lambda {
    /// By the credentials, the region and the endpoint that the environment names in AWS's own ways, for example
    /// `AWS_REGION` and `AWS_ENDPOINT_URL_LAMBDA`. `invocation_timeout` is how long a function may take at most.
    pub async fn from_env(names: Names, invocation_timeout: Duration) -> Self {
        Self { client: Client::new(&loader(invocation_timeout).load().await), names }
    }
}

fn loader(invocation_timeout: Duration) -> ConfigLoader {
    let http = aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // When this is over the connection is given up, too: it may be dead, and others would wait on it.
        .read_timeout(invocation_timeout)
        .operation_timeout(invocation_timeout + CONNECT_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        // What is offered again, and when, is decided by the bridge.
        .retry_config(RetryConfig::disabled())
}

#[async_trait]
impl Target for Lambda {
    async fn invoke(&self, function: &str, batch: Batch) -> Result<BatchResponse, TargetError> {
        let payload = serde_json::to_vec(&batch).map_err(|error| TargetError::Refused(error.to_string()))?;
        let Names { prefix, suffix } = &self.names;
        let name = format!("{prefix}{function}{suffix}");
        match self.client.invoke().function_name(name).payload(Blob::new(payload)).send().await {
            Ok(output) => answer(&output),
            Err(error) => Err(failure(error)),
        }
    }
}

fn answer(output: &InvokeOutput) -> Result<BatchResponse, TargetError> {
    let payload = output.payload().map(Blob::as_ref).unwrap_or_default();
    if output.function_error().is_some() {
        return Err(function_error(payload));
    }
    // Nothing, or null, means that nothing failed.
    if payload.is_empty() || payload == b"null" {
        return Ok(BatchResponse::default());
    }
    let unreadable = |error| TargetError::Failed(format!("its answer can't be read: {error}"));
    serde_json::from_slice(payload).map_err(unreadable)
}

/// What a function's host says of its failure.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionError {
    error_type: Option<String>,
    error_message: Option<String>,
}

fn function_error(payload: &[u8]) -> TargetError {
    let Ok(FunctionError { error_type, error_message }) = serde_json::from_slice(payload) else {
        return TargetError::Failed("the function failed and does not say why".to_owned());
    };
    let message: String = error_message.unwrap_or_default().chars().take(MESSAGE_LIMIT).collect();
    match error_type {
        Some(kind) if kind == UNAVAILABLE => TargetError::Unavailable(message),
        Some(kind) => TargetError::Failed(format!("{kind}: {message}")),
        None => TargetError::Failed(message),
    }
}

fn failure(error: SdkError<InvokeError>) -> TargetError {
    match error {
        SdkError::TimeoutError(_) => TargetError::TimedOut,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            let cause = failure.as_connector_error().map(|error| DisplayErrorContext(error).to_string());
            match cause {
                // The function can't have been asked.
                Some(cause) if cause.contains("HTTP connect") => TargetError::Unavailable(told(&cause)),
                _ => TargetError::TimedOut,
            }
        }
        SdkError::ServiceError(refusal) => {
            let (raw, error) = (refusal.raw(), refusal.err());
            let status = raw.status().as_u16();
            // The emulator tells so that a function failed; from AWS itself it would say of what kind it is.
            if status == 500 && raw.headers().get("x-amzn-errortype").is_none() {
                return function_error(raw.body().bytes().unwrap_or_default());
            }
            refused(status, error, || DisplayErrorContext(error).to_string())
        }
        // No connection, no credentials, half an answer: nothing is known against any record.
        other => TargetError::Unavailable(told(&DisplayErrorContext(&other).to_string())),
    }
}

fn refused(status: u16, error: &InvokeError, text: impl Fn() -> String) -> TargetError {
    match error {
        InvokeError::TooManyRequestsException(throttle) => {
            let seconds = throttle.retry_after_seconds().and_then(|seconds| seconds.parse().ok());
            TargetError::Throttled { retry_after: seconds.map(Duration::from_secs) }
        }
        InvokeError::Ec2ThrottledException(_) => TargetError::Throttled { retry_after: None },
        InvokeError::RequestTooLargeException(_) | InvokeError::InvalidRequestContentException(_) => {
            TargetError::Refused(told(&text()))
        }
        _ if status == 429 => TargetError::Throttled { retry_after: None },
        _ if status == 413 => TargetError::Refused(told(&text())),
        // Everything else is the deployment's: a function that is missing, a permission, a key, Lambda itself.
        _ => TargetError::Unavailable(told(&text())),
    }
}

fn told(text: &str) -> String {
    text.chars().take(MESSAGE_LIMIT).collect()
}

#[cfg(test)]
mod tests;
