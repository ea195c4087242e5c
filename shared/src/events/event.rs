//! An event on the wire: the gateway frame of a change, ready to forward byte for byte, and what its headers say.
//! Subjects, frame shapes and id formats stand here and nowhere else.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::{ChannelId, Presence, Timestamp, Traceparent, UserId};

/// Every subject that this service publishes on.
pub const SUBJECTS: [&str; 3] = ["presence.status.changed", "presence.activity.updated", "presence.typing.started"];

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A change of status, custom status or client status.
    Status,
    /// A change of activity of a visible user.
    Activity,
    /// A user began to type in a channel.
    Typing,
}

impl EventKind {
    /// The NATS subject, which is also the CloudEvents type.
    pub const fn subject(self) -> &'static str {
        match self {
            EventKind::Status => SUBJECTS[0],
            EventKind::Activity => SUBJECTS[1],
            EventKind::Typing => SUBJECTS[2],
        }
    }
}

/// One event: payload and headers, independent of who carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it tells of.
    pub kind: EventKind,
    /// Whom it tells of: the CloudEvents subject.
    pub user_id: UserId,
    /// The same for every telling of the same change: `Nats-Msg-Id` and CloudEvents id.
    pub id: String,
    /// When the change happened.
    pub time: Timestamp,
    /// The trace that caused it.
    pub traceparent: Traceparent,
    /// The gateway frame, as JSON.
    pub frame: Bytes,
}

#[derive(Serialize)]
struct Frame<'a, D> {
    op: u8,
    t: &'a str,
    d: D,
}

#[derive(Serialize)]
struct TypingStart {
    channel_id: ChannelId,
    user_id: UserId,
    timestamp: i64,
}

impl Event {
    /// A `PRESENCE_UPDATE` of the presence as others may see it. `kind` is `Status` or `Activity`.
    pub fn presence(kind: EventKind, presence: &Presence, time: Timestamp, traceparent: Traceparent) -> Self {
        let suffix = if kind == EventKind::Activity { "activity" } else { "status" };
        Self {
            kind,
            user_id: presence.user_id,
            id: format!("{}:{}:{suffix}", presence.user_id, presence.version),
            time,
            traceparent,
            frame: frame(3, "PRESENCE_UPDATE", presence),
        }
    }

    /// A `TYPING_START`, whose timestamp is in whole seconds.
    pub fn typing(user_id: UserId, channel_id: ChannelId, time: Timestamp, traceparent: Traceparent) -> Self {
        let d = TypingStart { channel_id, user_id, timestamp: time.seconds() };
        Self {
            kind: EventKind::Typing,
            user_id,
            id: format!("{user_id}:{channel_id}:{}:typing", time.millis()),
            time,
            traceparent,
            frame: frame(8, "TYPING_START", d),
        }
    }

    /// The headers of the event, by name.
    pub fn headers(&self) -> [(&'static str, String); 9] {
        [
            ("Nats-Msg-Id", self.id.clone()),
            ("Content-Type", "application/json".to_owned()),
            ("ce-specversion", "1.0".to_owned()),
            ("ce-type", self.kind.subject().to_owned()),
            ("ce-source", "/presence-service".to_owned()),
            ("ce-id", self.id.clone()),
            ("ce-time", self.time.to_string()),
            ("ce-subject", self.user_id.to_string()),
            ("traceparent", self.traceparent.to_string()),
        ]
    }
}

/// A frame of plain data always has a JSON form.
fn frame(op: u8, t: &str, d: impl Serialize) -> Bytes {
    serde_json::to_vec(&Frame { op, t, d }).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_frame_is_the_users_documents() {
        let (user, channel) = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002");
        let event = Event::typing(
            user.parse().unwrap(),
            channel.parse().unwrap(),
            Timestamp::from_millis(1_234_567_890_123),
            Traceparent::generate(),
        );
        assert_eq!(
            std::str::from_utf8(&event.frame).unwrap(),
            format!(
                r#"{{"op":8,"t":"TYPING_START","d":{{"channel_id":"{channel}","user_id":"{user}","timestamp":1234567890}}}}"#
            )
        );
        assert_eq!(event.id, format!("{user}:{channel}:1234567890123:typing"));
    }
}
