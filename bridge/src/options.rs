//! What can be chosen for a subscription, under the names that AWS gives to the same options of an event source
//! mapping.

use std::time::Duration;

/// Whose messages go to which function, and how.
#[derive(Debug, Clone)]
pub struct EventSourceMapping {
    /// The subject of the messages.
    pub subject: String,
    /// The function that takes them. The durable consumer has the same name, so that every process that maps the
    /// subject to this function takes its share.
    pub function: String,
    /// The choices.
    pub options: Options,
}

/// The choices for one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// `BatchSize`: how many messages a function gets at most at once.
    pub batch_size: usize,
    /// How many bytes of messages it gets at most at once, as long as it is more than one message. AWS has a fixed
    /// limit here, 6 MB of JSON; base64 makes four bytes of three.
    pub batch_bytes: usize,
    /// `MaximumBatchingWindowInSeconds`: how long to wait for a batch to fill up. With none a batch is what is there
    /// when the function is free, so batches grow with the load by themselves.
    pub maximum_batching_window: Duration,
    /// `MaximumConcurrency`: how many batches are offered at once. Fewer while the function throttles.
    pub maximum_concurrency: usize,
    /// `BisectBatchOnFunctionError`: whether a batch that fails as a whole is halved until the record is found that is
    /// the reason. Halving counts as no attempt.
    pub bisect_batch_on_function_error: bool,
    /// `MaximumRetryAttempts`: how often a record is offered again after it failed, before it counts as hopeless. None
    /// is AWS's -1: for ever. Throttles and absences are no attempts.
    pub maximum_retry_attempts: Option<u32>,
    /// `MaximumRecordAgeInSeconds`: older records are not offered any more. None is AWS's -1: any age. Not for messages
    /// whose effect does not wear off, such as the end of a session.
    pub maximum_record_age: Option<Duration>,
    /// `OnFailure`: what becomes of records that are hopeless or too old.
    pub on_failure: OnFailure,
    /// How long the function may take over a batch. Longer than its own time limit, so that it can say itself that it
    /// was too slow.
    pub invocation_timeout: Duration,
}

/// Where hopeless records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// To the dead letters, whole and with the reason.
    DeadLetter,
    /// Nowhere: they are counted and gone. For messages that are worth nothing later.
    Discard,
}

impl Default for Options {
    /// For a function on the other side of a wire. The attempts with their pauses span a quarter of an hour, which a
    /// store that is away in part does not outlast.
    fn default() -> Self {
        Self {
            batch_size: 100,
            batch_bytes: 4 * 1024 * 1024,
            maximum_batching_window: Duration::ZERO,
            maximum_concurrency: 5,
            bisect_batch_on_function_error: true,
            maximum_retry_attempts: Some(20),
            maximum_record_age: None,
            on_failure: OnFailure::DeadLetter,
            invocation_timeout: Duration::from_secs(35),
        }
    }
}

impl Options {
    /// For a function in this process: an invocation has no price, so batches are as large as the store takes them in
    /// one go, and of no more bytes than some thousand heartbeats in arrays, which take much more memory once read.
    pub fn in_process() -> Self {
        Self { batch_size: 1000, batch_bytes: 512 * 1024, maximum_concurrency: 4, ..Self::default() }
    }
}
