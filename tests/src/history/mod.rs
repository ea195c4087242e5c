//! What happened to a service and what was seen of it, written down by those who did it and saw it, and the judgement of
//! it afterwards. A history is plain data: [`check()`] is a pure function of it, and its own tests give it histories that
//! are wrong in one thing each.

mod check;
mod story;
#[cfg(test)]
mod tests;

use std::ops::Range;

use serde_json::Value;

pub use check::{Verdict, Violation, check};

/// Everything that was done and seen between a beginning and a calm end. All times are milliseconds since the epoch by
/// the clock of the test, which is the store's too: they run on one machine.
#[derive(Debug, Clone)]
pub struct History {
    /// How long a session lives after its last sign of life.
    pub heartbeat_timeout: i64,
    /// How far the service's idea of the store's clock may be ahead of it.
    pub clock_error: i64,
    /// How long a request can still take effect after its client has given up.
    pub patience: i64,
    /// When the store was away, and until when expiries may have been held for it.
    pub outages: Vec<Range<i64>>,
    /// When anything was broken.
    pub troubles: Vec<Range<i64>>,
    /// From when to when the store may have lost what it had acknowledged.
    pub losses: Vec<Range<i64>>,
    /// What happened to each user.
    pub lives: Vec<Life>,
}

/// What happened to one user. What the user did stands in the order in which it was done, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// The user's id.
    pub user: String,
    /// Their requests.
    pub updates: Vec<Update>,
    /// What gateways told of them.
    pub signs: Vec<Sign>,
    /// What others read of them.
    pub reads: Vec<Read>,
    /// What was told of them, in the order of the stream, repetitions included.
    pub told: Vec<Told>,
    /// How it ended, in a calm that was long enough for everything to be told.
    pub end: Option<End>,
}

/// A `POST /presence/status`.
#[derive(Debug, Clone)]
pub struct Update {
    /// When it was sent.
    pub began: i64,
    /// When the answer came, or was given up.
    pub ended: i64,
    /// Its body.
    pub body: Value,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is done: this presence was the answer.
    Done(Value),
    /// It was refused and has changed nothing.
    Refused,
    /// Nobody knows: no answer came, or one that says so.
    Unknown,
}

/// What a gateway tells of a session that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign {
    /// The time that it carries.
    pub at: i64,
}

/// A read of somebody else's presence.
#[derive(Debug, Clone)]
pub struct Read {
    /// When it was sent.
    pub began: i64,
    /// When the answer came.
    pub ended: i64,
    /// The answer.
    pub presence: Value,
}

/// An event in the stream.
#[derive(Debug, Clone)]
pub struct Told {
    /// When the stream had it.
    pub at: i64,
    /// Whether it tells of the status; else of the activity.
    pub is_status: bool,
    /// Its id.
    pub id: String,
    /// The presence in it.
    pub presence: Value,
}

/// How a life ended.
#[derive(Debug, Clone)]
pub struct End {
    /// Whether a session lives, as the one knows who opened and closed them.
    pub is_connected: bool,
    /// What somebody else read last.
    pub read: Value,
    /// What the user read last, with `own`.
    pub own: Value,
}
