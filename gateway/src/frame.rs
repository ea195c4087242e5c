//! The frames of the protocol, in and out. `PRESENCE_UPDATE` and `TYPING_START` are not made here: they come as events
//! and go out as they came.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;
use presence::domain::{ChannelId, Intent, Platform, SessionId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::Limits;
use crate::close::Close;

/// A frame from a client.
pub(crate) enum Incoming {
    /// Op 1.
    Heartbeat,
    /// Op 2.
    Identify(Identify),
    /// Op 14.
    Subscribe(Subscribe),
}

/// Who the client is. Holds a token, so there is no `Debug`.
#[derive(Deserialize)]
pub(crate) struct Identify {
    /// The bearer token, as it stands in an `Authorization` header.
    pub(crate) token: String,
    /// Where the client runs.
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    /// A status chosen together with the connection.
    #[serde(default)]
    pub(crate) status: Option<Intent>,
}

/// What the client wants to hear from now on. A list that is not there stays as it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subscribe {
    /// Whose presence.
    pub(crate) users: Option<Vec<UserId>>,
    /// Where typing matters.
    pub(crate) channels: Option<Vec<ChannelId>>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    op: i64,
    #[serde(borrow, default)]
    d: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Lists {
    #[serde(default)]
    user_ids: Option<Vec<UserId>>,
    #[serde(default)]
    channel_ids: Option<Vec<ChannelId>>,
}

impl Incoming {
    /// Reads a frame. Fields that are not known are passed over; what is wrong is told in the reason of the close.
    pub(crate) fn read(text: &str) -> Result<Self, Close> {
        let frame: Frame<'_> =
            object(text).ok_or(Close::decode("a frame is a JSON object with a whole number as its op"))?;
        let d = frame.d.map_or("", RawValue::get);
        match frame.op {
            1 => Ok(Incoming::Heartbeat),
            2 => object(d).map(Incoming::Identify).ok_or(Close::decode(
                "identify takes a token, a platform (desktop, mobile, web) and a status (online, idle, dnd, offline)",
            )),
            14 => subscribe(d).map(Incoming::Subscribe),
            _ => Err(Close::UNKNOWN_OP),
        }
    }
}

fn subscribe(d: &str) -> Result<Subscribe, Close> {
    let lists: Lists = object(d).ok_or(Close::decode("subscribe takes user_ids and channel_ids: lists of UUIDs"))?;
    let users = lists.user_ids.map(once_each);
    let channels = lists.channel_ids.map(once_each);
    if users.as_ref().is_some_and(|users| users.len() > Limits::USERS) {
        return Err(Close::decode("at most 1000 users a connection"));
    }
    if channels.as_ref().is_some_and(|channels| channels.len() > Limits::CHANNELS) {
        return Err(Close::decode("at most 100 channels a connection"));
    }
    Ok(Subscribe { users, channels })
}

/// In the order in which they first stand.
fn once_each<T: Copy + Eq + Hash>(mut ids: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.retain(|id| seen.insert(*id));
    ids
}

/// A JSON object. The derived readers would take an array for one, its values in the order of the fields.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    text.trim_ascii_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

/// Op 10: the first frame of a connection.
pub(crate) fn hello(heartbeat_interval: Duration) -> Utf8Bytes {
    format!(r#"{{"op":10,"d":{{"heartbeat_interval":{}}}}}"#, heartbeat_interval.as_millis()).into()
}

/// Op 0: the client is who it says.
pub(crate) fn ready(session_id: &SessionId, user_id: UserId) -> Utf8Bytes {
    format!(r#"{{"op":0,"t":"READY","d":{{"session_id":"{session_id}","user_id":"{user_id}"}}}}"#).into()
}

/// Op 11: a heartbeat arrived.
pub(crate) const HEARTBEAT_ACK: Utf8Bytes = Utf8Bytes::from_static(r#"{"op":11,"d":null}"#);

/// An event on its way to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Whom it is for.
    pub(crate) about: About,
    /// The frame, byte for byte as it came.
    pub(crate) frame: Utf8Bytes,
}

/// What an event is about, which decides who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// A user's presence as of this version.
    User(UserId, u64),
    /// Typing in a channel.
    Channel(ChannelId),
}

#[derive(Deserialize)]
struct Event {
    op: u8,
    d: EventData,
}

#[derive(Deserialize)]
struct EventData {
    #[serde(default)]
    user_id: Option<UserId>,
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    channel_id: Option<ChannelId>,
}

impl Outgoing {
    /// Reads of an event what decides who gets it; none for what is not one of the service's.
    pub(crate) fn read(payload: Bytes) -> Option<Self> {
        let frame = Utf8Bytes::try_from(payload).ok()?;
        let event: Event = serde_json::from_str(&frame).ok()?;
        let about = match event.op {
            3 => About::User(event.d.user_id?, event.d.version?),
            8 => About::Channel(event.d.channel_id?),
            _ => return None,
        };
        Some(Self { about, frame })
    }
}

#[cfg(test)]
mod tests {
    use presence::domain::Timestamp;
    use presence::events::{self, Traceparent};
    use presence_corpus::hostile;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const USER: &str = "00000000-0000-4000-8000-000000000001";
    const CHANNEL: &str = "00000000-0000-4000-8000-000000000002";

    fn code(text: &str) -> u16 {
        Incoming::read(text).err().map_or(0, |close| close.code)
    }

    #[test]
    fn a_frame_that_is_none_is_a_decode_error() {
        for text in
            ["", "x", "null", "7", "[1,null]", "{}", r#"{"op":"1"}"#, r#"{"op":1.5}"#, r#"{"op":null}"#, "{\"op\":1"]
        {
            assert_eq!(code(text), 4002, "{text}");
        }
    }

    #[test]
    fn an_op_that_no_client_sends_is_unknown() {
        for op in [-1, 0, 3, 8, 10, 11, 13, 15, i64::MAX] {
            assert_eq!(code(&format!(r#"{{"op":{op},"d":null}}"#)), 4001, "{op}");
        }
    }

    #[test]
    fn a_heartbeat_is_its_op_whatever_else_stands_there() {
        for text in [r#"{"op":1}"#, r#"{"op":1,"d":null}"#, r#" {"s":7,"d":41,"op":1} "#] {
            assert!(matches!(Incoming::read(text), Ok(Incoming::Heartbeat)), "{text}");
        }
    }

    #[test]
    fn identify_needs_a_token_and_takes_a_platform_and_a_status() {
        let Ok(Incoming::Identify(identify)) =
            Incoming::read(r#"{"op":2,"d":{"token":"t","platform":"mobile","status":"invisible","properties":{}}}"#)
        else {
            panic!("not read")
        };
        assert_eq!((identify.token.as_str(), identify.platform), ("t", Some(Platform::Mobile)));
        assert_eq!(identify.status, Some(Intent::Invisible));
        assert!(matches!(
            Incoming::read(r#"{"op":2,"d":{"token":"t","platform":null}}"#),
            Ok(Incoming::Identify(Identify { platform: None, status: None, .. }))
        ));
        for d in [
            "null",
            "{}",
            r#"["t"]"#,
            r#"{"token":7}"#,
            r#"{"token":"t","platform":"tv"}"#,
            r#"{"token":"t","status":1}"#,
        ] {
            assert_eq!(code(&format!(r#"{{"op":2,"d":{d}}}"#)), 4002, "{d}");
        }
        assert_eq!(code(r#"{"op":2}"#), 4002);
    }

    #[test]
    fn a_subscription_names_each_once_and_leaves_out_what_is_to_stay() {
        let read = |d: &str| match Incoming::read(&format!(r#"{{"op":14,"d":{d}}}"#)) {
            Ok(Incoming::Subscribe(subscribe)) => subscribe,
            _ => panic!("{d}"),
        };
        let (user, channel) = (USER.parse().unwrap(), CHANNEL.parse().unwrap());
        assert_eq!(
            read(&format!(r#"{{"user_ids":["{USER}","{USER}"],"channel_ids":["{CHANNEL}"]}}"#)),
            Subscribe { users: Some(vec![user]), channels: Some(vec![channel]) }
        );
        assert_eq!(read(r#"{"user_ids":[]}"#), Subscribe { users: Some(vec![]), channels: None });
        assert_eq!(read("{}"), Subscribe { users: None, channels: None });
        for d in ["null", "[]", r#"{"user_ids":"x"}"#, r#"{"user_ids":["x"]}"#, r#"{"channel_ids":[1]}"#] {
            assert_eq!(code(&format!(r#"{{"op":14,"d":{d}}}"#)), 4002, "{d}");
        }
    }

    #[test]
    fn a_subscription_is_bounded() {
        let ids =
            |count: u32| -> Vec<String> { (0..count).map(|n| format!("00000000-0000-4000-8000-{n:012}")).collect() };
        let frame =
            |users, channels| json!({ "op": 14, "d": { "user_ids": ids(users), "channel_ids": ids(channels) } });
        assert_eq!(code(&frame(1000, 100).to_string()), 0);
        assert!(frame(1000, 100).to_string().len() < Limits::default().message_bytes);
        assert_eq!(code(&frame(1001, 0).to_string()), 4002);
        assert_eq!(code(&frame(0, 101).to_string()), 4002);
    }

    #[test]
    fn the_gateways_own_frames_are_the_documents() {
        assert_eq!(&*hello(Duration::from_secs(30)), r#"{"op":10,"d":{"heartbeat_interval":30000}}"#);
        assert_eq!(&*HEARTBEAT_ACK, r#"{"op":11,"d":null}"#);
        assert_eq!(
            &*ready(&"s-1".parse().unwrap(), USER.parse().unwrap()),
            format!(r#"{{"op":0,"t":"READY","d":{{"session_id":"s-1","user_id":"{USER}"}}}}"#)
        );
    }

    #[test]
    fn an_event_says_whom_it_is_for_and_keeps_its_bytes() {
        let at = Timestamp::from_millis(1_704_110_400_000);
        let typing =
            events::Event::typing(USER.parse().unwrap(), CHANNEL.parse().unwrap(), at, Traceparent::generate());
        let outgoing = Outgoing::read(typing.frame.clone()).unwrap();
        assert_eq!(outgoing.about, About::Channel(CHANNEL.parse().unwrap()));
        assert_eq!(outgoing.frame.as_bytes(), &typing.frame[..]);

        let update = format!(r#"{{"op":3,"t":"X","d":{{"user_id":"{USER}","status":"idle","version":7,"new":[]}}}}"#);
        let outgoing = Outgoing::read(update.clone().into()).unwrap();
        assert_eq!(outgoing.about, About::User(USER.parse().unwrap(), 7));
        assert_eq!(&*outgoing.frame, update);
    }

    #[test]
    fn what_is_no_event_goes_to_nobody() {
        for payload in ["", "{}", r#"{"op":3,"d":{}}"#, r#"{"op":8,"d":{"channel_id":"x"}}"#, r#"{"op":11,"d":{}}"#] {
            assert_eq!(Outgoing::read(payload.into()), None, "{payload}");
        }
        assert_eq!(Outgoing::read(Bytes::from_static(b"\xff")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_frame_is_read_or_closes_the_connection(bytes in hostile("frame")) {
            let text = String::from_utf8_lossy(&bytes);
            prop_assert!([0, 4001, 4002].contains(&code(&text)), "{}", text);
        }

        #[test]
        fn any_event_is_passed_on_as_it_came_or_not_at_all(bytes in hostile("event")) {
            if let Some(outgoing) = Outgoing::read(bytes.clone().into()) {
                prop_assert_eq!(outgoing.frame.as_bytes(), bytes);
            }
        }
    }
}
