//! Who processes the messages: a function on the other side of a wire, or one in this process.

use std::time::Duration;

use async_trait::async_trait;
use presence::events::batch::{Batch, BatchResponse};

/// Runs functions over batches of messages.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// Has a function process a batch, and says which records have to come again. A batch may be offered again, whole
    /// or in part, whatever became of it. The caller sets a time limit and drops the future when it is over.
    async fn invoke(&self, function: &str, batch: Batch) -> Result<BatchResponse, TargetError>;
}

/// Why a batch as a whole was not processed. What it says about its records is what the kinds are for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The function, or something that it needs, is away. Nothing is known against any record: they wait and are
    /// offered again, and no attempt is counted.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The function takes no more at the moment. As [`Unavailable`](Self::Unavailable), and fewer batches are offered at
    /// once.
    #[error("throttled")]
    Throttled {
        /// When the next batch may be taken, if the function said so.
        retry_after: Option<Duration>,
    },
    /// The function ran and failed. One of the records may be the reason.
    #[error("failed: {0}")]
    Failed(String),
    /// There was no answer in time. Whether the function ran is not known. One of the records may be the reason.
    #[error("no answer in time")]
    TimedOut,
    /// The function was not run and never will be for this batch, for instance because it is too large.
    #[error("refused: {0}")]
    Refused(String),
}

impl TargetError {
    /// A word for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            TargetError::Unavailable(_) => "unavailable",
            TargetError::Throttled { .. } => "throttled",
            TargetError::Failed(_) => "failed",
            TargetError::TimedOut => "timed_out",
            TargetError::Refused(_) => "refused",
        }
    }
}
