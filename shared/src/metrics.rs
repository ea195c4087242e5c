//! The names of everything that is counted: the one place for them, which the documentation and the dashboard are held
//! to. Labels are words of our own, never of a caller, so that nobody can make series without end.

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, which ends in its unit or, for a counter, in `_total`.
    pub name: &'static str,
    /// How its value is to be read.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub meaning: &'static str,
}

/// How the value of a metric is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It rises.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Many values, of which the distribution counts.
    Histogram,
}

/// Requests.
pub const HTTP_REQUESTS: &str = "presence_http_requests_total";
/// How long requests took.
pub const HTTP_SECONDS: &str = "presence_http_request_duration_seconds";
/// Requests that were turned away.
pub const HTTP_REFUSED: &str = "presence_http_refused_total";
/// Messages that a function processed.
pub const BATCH_RECORDS: &str = "presence_batch_records_total";
/// Changes that others saw.
pub const TRANSITIONS: &str = "presence_transitions_total";
/// Changes that others were spared.
pub const FLAPS_SUPPRESSED: &str = "presence_flaps_suppressed_total";
/// By how much deadlines were missed.
pub const SWEEP_LAG: &str = "presence_sweep_lag_seconds";
/// Users that a sweeper looked at.
pub const SWEPT_USERS: &str = "presence_swept_users_total";
/// Passes of a sweeper.
pub const SWEEP_PASSES: &str = "presence_sweep_passes_total";
/// Users whom others see online.
pub const VISIBLE_USERS: &str = "presence_visible_users";
/// Users with changes that may not be published.
pub const PENDING_USERS: &str = "presence_pending_users";
/// How long the store took.
pub const STORE_SECONDS: &str = "presence_store_seconds";
/// What the store did not do.
pub const STORE_ERRORS: &str = "presence_store_errors_total";
/// Reads that a replica may answer.
pub const REPLICA_READS: &str = "presence_replica_reads_total";
/// Events that NATS has.
pub const EVENTS_PUBLISHED: &str = "presence_events_published_total";
/// Events that it may not have.
pub const EVENTS_FAILED: &str = "presence_events_failed_total";
/// How long NATS took.
pub const EVENTS_SECONDS: &str = "presence_events_publish_seconds";
/// Messages that nobody can process.
pub const DEAD_LETTERS: &str = "presence_dead_letters_total";

/// Every metric of every process, in the order in which they are best explained.
pub const METRICS: [Metric; 29] = [
    counter(HTTP_REQUESTS, &["route", "method", "status"], "Requests; the status is a class, as `2xx`"),
    histogram(HTTP_SECONDS, &["route", "method"], "Time to the response"),
    counter(HTTP_REFUSED, &[], "Requests turned away because too many were being served"),
    counter(
        TRANSITIONS,
        &["from", "to", "reason"],
        "Changes that others saw: visible status before and after (the same where another thing changed), and what \
         made them",
    ),
    counter(
        FLAPS_SUPPRESSED,
        &["reason"],
        "Times that a user was not told offline and online again: `resumed` within the resume grace, or `held` after \
         the store was away",
    ),
    histogram(SWEEP_LAG, &[], "By how much a pass that found someone missed the latest deadline"),
    counter(SWEPT_USERS, &["index"], "Users that a sweeper looked at: `deadlines` passed, or `reminders` of changes"),
    counter(SWEEP_PASSES, &["outcome"], "Passes of a sweeper: `done`, `held` or `failed`"),
    gauge(VISIBLE_USERS, &[], "Users with a deadline to come: those whom others see online"),
    gauge(PENDING_USERS, &[], "Users with changes that are not known to be published; above zero for a moment at most"),
    histogram(STORE_SECONDS, &["operation"], "Time of an operation on the store; many users may share one"),
    counter(
        STORE_ERRORS,
        &["operation", "kind"],
        "Operations that failed: the store was `unavailable`, or what it holds `corrupt`",
    ),
    counter(
        REPLICA_READS,
        &["outcome"],
        "Reads of many users with REDIS_REPLICA_URL: `answered` by the replica, or by the primary because the replica was \
         `behind`, `failed`, or is `left` alone for a moment after that",
    ),
    counter(EVENTS_PUBLISHED, &["subject"], "Events that NATS has"),
    counter(EVENTS_FAILED, &["subject"], "Events that are not known to have arrived; they are told again"),
    histogram(EVENTS_SECONDS, &[], "Time until NATS had a batch of events"),
    counter(DEAD_LETTERS, &["function", "outcome"], "Dead letters: `kept` or `failed`"),
    counter(BATCH_RECORDS, &["function", "outcome"], "Messages processed: `done`, `retry` or `dead_letter`"),
    counter(
        "presence_bridge_messages_total",
        &["function", "outcome"],
        "Messages taken from NATS, and what became of them",
    ),
    counter("presence_bridge_invocations_total", &["function", "outcome"], "Invocations of functions"),
    histogram("presence_bridge_invocation_seconds", &["function"], "Time of an invocation"),
    histogram("presence_bridge_batch_age_seconds", &["function"], "Age of the oldest message of a batch"),
    gauge("presence_bridge_waiting_messages", &["function"], "Messages that wait in the process"),
    gauge("presence_bridge_concurrency_limit", &["function"], "Invocations that may be under way; 0 during a pause"),
    gauge(
        "presence_bridge_clock_correction_seconds",
        &[],
        "What is added to the times of messages, so that the store's clock counts",
    ),
    gauge("presence_gateway_connections", &[], "WebSocket connections"),
    counter("presence_gateway_frames_sent_total", &[], "Frames sent to clients"),
    counter("presence_gateway_closed_total", &["code"], "Connections that ended"),
    counter("presence_gateway_reports_total", &[], "Reports to NATS"),
];

/// Tells whoever records them what they are. To be called once the recorder is there.
pub fn describe() {
    for Metric { name, kind, meaning, .. } in METRICS {
        let unit = if name.ends_with("_seconds") { metrics::Unit::Seconds } else { metrics::Unit::Count };
        match kind {
            Kind::Counter => metrics::describe_counter!(name, unit, meaning),
            Kind::Gauge => metrics::describe_gauge!(name, unit, meaning),
            Kind::Histogram => metrics::describe_histogram!(name, unit, meaning),
        }
    }
}

const fn counter(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, meaning }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, meaning }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, meaning }
}
