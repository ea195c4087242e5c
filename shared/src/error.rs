//! What can go wrong in a use case, classified once. Hosts project [`ErrorKind`] to an HTTP problem or to what becomes
//! of a batch record; nobody projects the source, which is for the log alone.

use std::time::Duration;

/// A failed use case.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    kind: ErrorKind,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Everything a caller can do something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The user changed their status too often; the request changed nothing.
    #[error("too many status updates")]
    RateLimited {
        /// When the next update can succeed.
        retry_after: Duration,
    },
    /// The store could not be reached in time. Whether a write arrived is not known; inputs may be repeated.
    #[error("the store is unavailable")]
    Unavailable,
    /// A defect, or a record that can't be read. Repeating does not help.
    #[error("internal error")]
    Internal,
}

impl Error {
    /// An error with a cause for the log.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}
