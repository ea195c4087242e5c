//! Why others see a user differently: for whoever counts changes, and for whoever asks about one. Never published: an
//! event that told its cause would tell an invisible user from one who left.

use serde::{Deserialize, Serialize};

use super::InputKind;

/// What made a visible change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The user chose it, over HTTP.
    StatusUpdate,
    /// A connection opened.
    Opened,
    /// A heartbeat came of a session that was not known, or already given up.
    Heartbeat,
    /// A connection closed.
    Closed,
    /// A voice session began.
    VoiceCreated,
    /// A voice session ended.
    VoiceEnded,
    /// A deadline passed: no heartbeat came in time, a broken connection did not come back, or a lease ran out.
    Deadline,
    /// It was written by a release that did not tell.
    #[default]
    Unknown,
}

impl Cause {
    /// Its name in logs, metrics and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::StatusUpdate => "status_update",
            Cause::Opened => "opened",
            Cause::Heartbeat => "heartbeat",
            Cause::Closed => "closed",
            Cause::VoiceCreated => "voice_created",
            Cause::VoiceEnded => "voice_ended",
            Cause::Deadline => "deadline",
            Cause::Unknown => "unknown",
        }
    }
}

impl From<&InputKind> for Cause {
    fn from(kind: &InputKind) -> Self {
        match kind {
            InputKind::StatusUpdated(_) => Cause::StatusUpdate,
            InputKind::Opened { .. } => Cause::Opened,
            InputKind::Heartbeat { .. } => Cause::Heartbeat,
            InputKind::Closed { .. } => Cause::Closed,
            InputKind::VoiceCreated { .. } => Cause::VoiceCreated,
            InputKind::VoiceEnded { .. } => Cause::VoiceEnded,
        }
    }
}
