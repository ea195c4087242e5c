//! What is counted. Labels are names of functions and words of our own.

/// Messages by function and what became of them: `done`, `again` (they come again after a pause), `dead_letter`,
/// `discarded`, `returned` (to the stream, at a shutdown).
pub(crate) const MESSAGES: &str = "presence_bridge_messages_total";
/// Invocations by function and outcome.
pub(crate) const INVOCATIONS: &str = "presence_bridge_invocations_total";
/// How long invocations took, in seconds, by function.
pub(crate) const DURATION: &str = "presence_bridge_invocation_seconds";
/// How long ago the oldest message of a batch was published, in seconds, by function.
pub(crate) const AGE: &str = "presence_bridge_batch_age_seconds";
/// Messages that wait in this process, by function.
pub(crate) const WAITING: &str = "presence_bridge_waiting_messages";
/// Invocations that may be under way at once, by function; 0 during a pause.
pub(crate) const LIMIT: &str = "presence_bridge_concurrency_limit";
/// What is added to the times of messages, in seconds.
pub(crate) const CORRECTION: &str = "presence_bridge_clock_correction_seconds";

/// Tells whoever reads the metrics what they are.
pub(crate) fn describe() {
    use metrics::Unit::Seconds;
    metrics::describe_counter!(MESSAGES, "Messages by function and what became of them.");
    metrics::describe_counter!(INVOCATIONS, "Invocations by function and outcome.");
    metrics::describe_histogram!(DURATION, Seconds, "Time of an invocation by function.");
    metrics::describe_histogram!(AGE, Seconds, "Age of the oldest message of a batch by function.");
    metrics::describe_gauge!(WAITING, "Messages that wait in this process by function.");
    metrics::describe_gauge!(LIMIT, "Invocations that may be under way at once by function.");
    metrics::describe_gauge!(CORRECTION, Seconds, "What is added to the times of messages.");
}
