//! The numbers of the rules: all that may differ between two installations.

use std::time::Duration;

/// The durations by which presence is decided. The defaults are the user's document's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How often clients send heartbeats (`HEARTBEAT_INTERVAL`).
    pub heartbeat_interval: Duration,
    /// How long a session lives after its last heartbeat (`HEARTBEAT_TIMEOUT`).
    pub heartbeat_timeout: Duration,
    /// How long a session lingers after an abnormal close (`RESUME_GRACE`).
    pub resume_grace: Duration,
    /// How long a typing indicator lives (`TYPING_TIMEOUT`).
    pub typing_timeout: Duration,
    /// How long `last_seen` is kept after the user is gone (`LAST_SEEN_TTL`).
    pub last_seen_ttl: Duration,
}

/// At most so many sessions a user; the stalest goes first.
pub const SESSION_LIMIT: usize = 64;

/// At most so many status updates a user in each [`UPDATE_WINDOW`].
pub const UPDATE_LIMIT: usize = 5;

/// The window of the rate limit on status updates.
pub const UPDATE_WINDOW: Duration = Duration::from_secs(20);

/// Typing repeated within this time of its event renews the indicator and tells nobody.
pub const TYPING_REPEAT: Duration = Duration::from_secs(5);

/// At most so many changes of a user wait to be published; while nobody can be told, the middle ones give way.
pub const PENDING_LIMIT: usize = 64;

/// At most so many facts of one kind are kept beside the latest one, for inputs that may still come late. Honest
/// clients need one or two.
pub(super) const EARLIER_LIMIT: usize = 32;

impl Rules {
    /// How long something that ended still counts: a tombstone keeps heartbeats from reviving its session.
    pub fn memory(&self) -> Duration {
        self.heartbeat_timeout + self.resume_grace
    }

    /// How long a record keeps facts: until nothing that still runs, and nothing that may still come late, could tell
    /// the difference.
    ///
    /// A close keeps heartbeats from counting for a memory; such a heartbeat would count for a timeout, be followed by
    /// another close and linger, and keep a lease of one timeout from counting. Voice would have waited for all that for
    /// one timeout more. And activities are known to run by moments up to two memories ago.
    pub(super) fn retention(&self) -> Duration {
        self.memory() * 3 + self.heartbeat_timeout * 3 + self.resume_grace
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(45),
            resume_grace: Duration::from_secs(15),
            typing_timeout: Duration::from_secs(10),
            last_seen_ttl: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}
