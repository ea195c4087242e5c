//! What clients may take from a gateway.

use std::time::Duration;

/// What one connection, and all of them together, may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// How long a connection may take until it has identified.
    pub identify_time: Duration,
    /// The largest message from a client, in bytes. The largest that the protocol knows is a subscription to
    /// [`USERS`](Self::USERS) and [`CHANNELS`](Self::CHANNELS): 43 KB.
    pub message_bytes: usize,
    /// How many frames wait at most for a client that reads slowly. More than a whole snapshot.
    pub queued_frames: usize,
    /// How many bytes these may have.
    pub queued_bytes: usize,
    /// How long a client may take nothing of what is sent.
    pub write_time: Duration,
    /// How long a shutdown waits for the connections to close, and then for the news of that to be told.
    pub drain_time: Duration,
}

impl Limits {
    /// How many users a connection may subscribe to.
    pub const USERS: usize = 1000;
    /// How many channels.
    pub const CHANNELS: usize = 100;
    /// How many frames a client may send in each [`WINDOW`](Self::WINDOW).
    pub const FRAMES: usize = 120;
    /// The window of the rate limit.
    pub const WINDOW: Duration = Duration::from_secs(60);
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            identify_time: Duration::from_secs(10),
            message_bytes: 48 * 1024,
            queued_frames: 4096,
            queued_bytes: 4 * 1024 * 1024,
            write_time: Duration::from_secs(10),
            drain_time: Duration::from_secs(5),
        }
    }
}
