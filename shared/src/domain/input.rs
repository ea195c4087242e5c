//! What can happen to a user: the rows of the input table, parsed and valid by type.

use super::{ActivityKind, ActivityName, CustomStatus, Intent, Platform, Rules, SessionId, Timestamp};

/// Something that happened to one user, at one moment of the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// When it happened. Never later than the moment at which it is decided.
    pub at: Timestamp,
    /// What happened.
    pub kind: InputKind,
}

impl Input {
    /// Whether it is a sign of life so old that the session may be over since.
    pub fn proves_nothing(&self, now: Timestamp, rules: &Rules) -> bool {
        let is_sign_of_life = matches!(self.kind, InputKind::Opened { .. } | InputKind::Heartbeat { .. });
        is_sign_of_life && now >= self.at.min(now) + rules.heartbeat_timeout
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    /// `POST /presence/status`.
    StatusUpdated(StatusUpdate),
    /// `gateway.connection.opened`.
    Opened {
        /// Which connection.
        session_id: SessionId,
        /// Where it runs; `web` when it does not say.
        platform: Option<Platform>,
        /// A status chosen together with the connection.
        status: Option<Intent>,
    },
    /// `gateway.connection.closed`.
    Closed {
        /// Which connection.
        session_id: SessionId,
        /// Whether the connection broke (a close code other than 1000 and 1001) and may be resumed.
        abnormal: bool,
    },
    /// `gateway.heartbeat.received`.
    Heartbeat {
        /// Which connection.
        session_id: SessionId,
        /// Where it runs, for a session that the store does not know.
        platform: Option<Platform>,
    },
    /// `voice.session.created`.
    VoiceCreated {
        /// Which voice session.
        session_id: SessionId,
        /// What the activity is called.
        name: ActivityName,
    },
    /// `voice.session.ended`.
    VoiceEnded {
        /// Which voice session.
        session_id: SessionId,
    },
}

/// The WebSocket close codes of a client that leaves: normal closure, and going away. Any other tells of a connection
/// that broke and may be resumed.
const LEAVING: [u16; 2] = [1000, 1001];

impl InputKind {
    /// The end of a connection with this WebSocket close code; none is a client that leaves.
    pub fn closed(session_id: SessionId, close_code: Option<u16>) -> Self {
        let abnormal = close_code.is_some_and(|code| !LEAVING.contains(&code));
        Self::Closed { session_id, abnormal }
    }
}

/// A user's own choice. What it does not name stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusUpdate {
    /// The status chosen.
    pub status: Option<Intent>,
    /// `Some(None)` clears the custom status.
    pub custom_status: Option<Option<CustomStatus>>,
    /// `Some(None)` clears the user's own activity.
    pub activity: Option<Option<ActivityUpdate>>,
}

/// An activity as the user names it; the server adds when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityUpdate {
    /// Playing, streaming or listening.
    pub kind: ActivityKind,
    /// What is played, streamed or listened to.
    pub name: ActivityName,
}
