//! An event on the wire: the gateway frame of a change, ready to forward byte for byte, and what its headers say.
//! Subjects, frame shapes and id formats stand here and nowhere else.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{ChannelId, Presence, Timestamp, UserId};

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

/// A W3C trace context `traceparent`, version 00: it ties an event to the request or message that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Traceparent(Box<str>);

impl Traceparent {
    /// The one that a request carries, if it is well formed.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, parent, flags] = parts.as_slice() else { return None };
        let shape = version.len() == 2 && trace.len() == 32 && parent.len() == 16 && flags.len() == 2;
        let zero = |part: &str| part.bytes().all(|b| b == b'0');
        let valid = shape && parts.iter().all(|p| lower_hex(p)) && *version == "00" && !zero(trace) && !zero(parent);
        valid.then(|| Self(text.into()))
    }

    /// A new trace, for a change that nobody's request caused.
    pub fn generate() -> Self {
        let (trace, parent) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
        Self(format!("00-{trace}-{}-01", &parent[..16]).into())
    }

    /// The text of the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_taken_only_when_well_formed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Traceparent::parse(good).unwrap().as_str(), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
        let generated = Traceparent::generate();
        assert_eq!(Traceparent::parse(generated.as_str()), Some(generated));
    }

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
