//! What a message says: one element, or an array of them, checked field by field.

use std::fmt;

use presence::domain::{ChannelId, Intent, Invalid, Platform, SessionId, Timestamp, UserId};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::value::RawValue;

/// The largest array that one message may hold.
pub const ELEMENT_LIMIT: usize = 10_000;

/// One element: something that happened to one user. Every subject takes the same fields, and each that is there must
/// be right, whether the subject has a use for it or not; `null` means not there. Unknown fields are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// To whom. Required.
    pub user_id: UserId,
    /// In which gateway connection or voice session; `default` if it does not say.
    pub session_id: SessionId,
    /// Where the session runs.
    pub platform: Option<Platform>,
    /// A status that the user chose together with it.
    pub status: Option<Intent>,
    /// The WebSocket close code of a connection that closed.
    pub close_code: Option<u16>,
    /// The voice channel.
    pub channel_id: Option<ChannelId>,
    /// What the voice channel is called.
    pub channel_name: Option<String>,
    /// When it happened, by the sender's clock.
    pub timestamp: Option<Timestamp>,
}

/// A message that was read: its good elements, and what is wrong with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<T> {
    /// What the good elements say, in their order.
    pub good: Vec<T>,
    /// The places of the bad ones, from 0, ascending.
    pub bad: Vec<usize>,
    /// What is wrong with the first bad one.
    pub reason: Option<String>,
}

/// A message of which nothing can be read. Says why, in a sentence that names the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Reads a message and makes of each element what its subscription makes of it.
pub fn read<T>(bytes: &[u8], make: impl Fn(Element) -> Result<T, Invalid>) -> Result<Payload<T>, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable("the message is not UTF-8".to_owned()))?;
    let make = |text: &str| element(text).and_then(|element| make(element).map_err(|error| error.to_string()));
    if !text.trim_ascii_start().starts_with('[') {
        let good = make(text).map_err(Unreadable)?;
        return Ok(Payload { good: vec![good], bad: Vec::new(), reason: None });
    }
    let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| Unreadable(error.to_string()))?;
    if elements.len() > ELEMENT_LIMIT {
        return Err(Unreadable(format!("an array has at most {ELEMENT_LIMIT} elements")));
    }
    let mut payload = Payload { good: Vec::with_capacity(elements.len()), bad: Vec::new(), reason: None };
    for (index, element) in elements.into_iter().enumerate() {
        match make(element.get()) {
            Ok(good) => payload.good.push(good),
            Err(reason) => {
                payload.reason.get_or_insert_with(|| format!("element {index}: {reason}"));
                payload.bad.push(index);
            }
        }
    }
    Ok(payload)
}

/// An element of which nothing but the names is known yet, so that what is wrong can be said by name.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    platform: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    close_code: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_id: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_name: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

fn element(text: &str) -> Result<Element, String> {
    // The derived reader would take an array for an object, its values in the order of the fields.
    if !text.trim_ascii_start().starts_with('{') {
        return Err("not a JSON object, or an array of them".to_owned());
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(Element {
        user_id: field("user_id", fields.user_id)?.ok_or("user_id: missing")?,
        session_id: field("session_id", fields.session_id)?.unwrap_or_else(SessionId::unnamed),
        platform: field("platform", fields.platform)?,
        status: field("status", fields.status)?,
        close_code: field("close_code", fields.close_code)?,
        channel_id: field("channel_id", fields.channel_id)?,
        channel_name: field("channel_name", fields.channel_name)?,
        timestamp: field("timestamp", fields.timestamp)?.map(|Moment(timestamp)| timestamp),
    })
}

fn field<'a, T: Deserialize<'a>>(name: &str, value: Option<&'a RawValue>) -> Result<Option<T>, String> {
    let read = |value: &'a RawValue| {
        serde_json::from_str(value.get()).map_err(|error| {
            // Its line and column would count from the beginning of the value.
            let text = error.to_string();
            format!("{name}: {}", text.split(" at line ").next().unwrap_or(&text))
        })
    };
    value.map(read).transpose()
}

/// A moment as others write it: RFC 3339 text, or a number that is Unix time in seconds or in milliseconds. A number
/// in a text is refused: it is neither.
struct Moment(Timestamp);

/// Numbers below this are seconds (until the year 5138), numbers from it on are milliseconds (from March 1973).
const MILLISECONDS_FROM: f64 = 1e11;

impl Moment {
    /// A number far outside our time is no error: it is not near the message's own time, so that one counts.
    fn from_number(number: f64) -> Self {
        let millis = if number.abs() < MILLISECONDS_FROM { number * 1000.0 } else { number };
        Self(Timestamp::from_millis(millis as i64))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Moment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Unix seconds or milliseconds as a number, or RFC 3339 text")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Moment, E> {
                Ok(Moment::from_number(number as f64))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Moment, E> {
                Ok(Moment::from_number(number as f64))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Moment, E> {
                Ok(Moment::from_number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                let moment = Timestamp::parse_rfc3339(text);
                moment.map(Moment).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "0a1b2c3d-0000-4000-8000-00000000000f";
    const CHANNEL: &str = "00000000-0000-4000-8000-000000000002";

    fn one(json: &str) -> Result<Element, Unreadable> {
        read(json.as_bytes(), Ok).map(|payload| payload.good.into_iter().next().unwrap())
    }

    fn with(field: &str) -> Result<Element, Unreadable> {
        one(&format!(r#"{{"user_id":"{USER}",{field}}}"#))
    }

    fn refused(json: &str) -> String {
        one(json).unwrap_err().0
    }

    #[test]
    fn an_element_needs_a_user_and_nothing_else() {
        let element = one(&format!(r#" {{"user_id":"{USER}"}} "#)).unwrap();
        assert_eq!(element.user_id.to_string(), USER);
        assert_eq!(element.session_id, SessionId::unnamed());
        let nothing = (element.platform, element.status, element.close_code, element.channel_id, element.timestamp);
        assert_eq!(nothing, (None, None, None, None, None));
        assert_eq!(element.channel_name, None);
    }

    #[test]
    fn every_field_is_read() {
        let element = with(&format!(
            r#""session_id":"node-1:7","platform":"mobile","status":"invisible","close_code":1006,
            "channel_id":"{CHANNEL}","channel_name":"Lounge","timestamp":1704110400"#
        ))
        .unwrap();
        assert_eq!(element.session_id.as_str(), "node-1:7");
        assert_eq!((element.platform, element.status), (Some(Platform::Mobile), Some(Intent::Invisible)));
        assert_eq!((element.close_code, element.channel_name.as_deref()), (Some(1006), Some("Lounge")));
        assert_eq!(element.channel_id.map(|id| id.to_string()).as_deref(), Some(CHANNEL));
        assert_eq!(element.timestamp, Some(Timestamp::from_millis(1_704_110_400_000)));
    }

    #[test]
    fn null_means_not_there() {
        let element = with(
            r#""session_id":null,"platform":null,"status":null,"close_code":null,"channel_id":null,
            "channel_name":null,"timestamp":null"#,
        )
        .unwrap();
        assert_eq!(element, one(&format!(r#"{{"user_id":"{USER}"}}"#)).unwrap());
        assert_eq!(refused(r#"{"user_id":null}"#), "user_id: missing");
    }

    #[test]
    fn unknown_fields_are_passed_over_whatever_they_hold() {
        let deep = format!(r#""new":{}1{},"Session_Id":7"#, "[".repeat(100), "]".repeat(100));
        assert!(with(&deep).is_ok());
    }

    #[test]
    fn a_field_that_is_there_must_be_right() {
        for field in [
            r#""user_id":"0A1B2C3D-0000-4000-8000-00000000000F""#, // named twice
            r#""session_id":"""#,
            r#""session_id":"a b""#,
            r#""session_id":7"#,
            r#""platform":"toaster""#,
            r#""platform":"Web""#,
            r#""status":"away""#,
            r#""status":1"#,
            r#""close_code":"1000""#,
            r#""close_code":-1"#,
            r#""close_code":65536"#,
            r#""close_code":1000.5"#,
            r#""channel_id":"lounge""#,
            r#""channel_name":7"#,
            r#""timestamp":true"#,
            r#""timestamp":"yesterday""#,
            r#""timestamp":"1704110400""#,
            r#""timestamp":{}"#,
        ] {
            assert!(with(field).is_err(), "{field}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        for (field, reason) in [
            (r#""session_id":"""#, "session_id: a session id is 1 to 64 characters of A-Z a-z 0-9 _ . : -"),
            (
                r#""platform":"toaster""#,
                "platform: unknown variant `toaster`, expected one of `desktop`, `mobile`, `web`",
            ),
            (r#""close_code":"1000""#, "close_code: invalid type: string \"1000\", expected u16"),
            (
                r#""timestamp":"1704110400""#,
                "timestamp: invalid value: string \"1704110400\", expected Unix seconds or milliseconds as a number, \
                 or RFC 3339 text",
            ),
        ] {
            assert_eq!(with(field).unwrap_err().0, reason);
        }
        assert_eq!(refused(r#"{"user_id":"x"}"#), "user_id: a user id is a hyphenated UUID");
    }

    #[test]
    fn a_timestamp_is_seconds_or_milliseconds_by_its_size_or_text() {
        let at = |timestamp: &str| with(&format!(r#""timestamp":{timestamp}"#)).unwrap().timestamp.unwrap().millis();
        assert_eq!(at("1704110400"), 1_704_110_400_000);
        assert_eq!(at("1704110400007"), 1_704_110_400_007);
        assert_eq!(at("1704110400.25"), 1_704_110_400_250);
        assert_eq!(at(r#""2024-01-01T13:00:00.007+01:00""#), 1_704_110_400_007);
        assert_eq!(at("99999999999"), 99_999_999_999_000);
        assert_eq!(at("100000000000"), 100_000_000_000);
        assert_eq!((at("0"), at("-5")), (0, 0));
        assert_eq!(at("1e300"), Timestamp::from_millis(i64::MAX).millis());
        assert_eq!(at("18446744073709551615"), Timestamp::from_millis(i64::MAX).millis());
    }

    #[test]
    fn what_is_no_object_and_no_array_cannot_be_read() {
        let object = format!(r#"{{"user_id":"{USER}"}}"#);
        for bad in ["", " ", "null", "7", r#""x""#, "{", "[", "[,]", "nonsense", &format!("{object}{object}")] {
            assert!(read(bad.as_bytes(), Ok).is_err(), "{bad}");
        }
        assert!(read(&format!("[{object}]x").into_bytes(), Ok).is_err());
        assert!(read(b"{\"user_id\":\"\xff\"}", Ok).is_err());
    }

    #[test]
    fn an_array_is_no_object_with_its_values_in_order() {
        let payload = read(format!(r#"[["{USER}"]]"#).as_bytes(), Ok).unwrap();
        assert_eq!((payload.good.len(), payload.bad), (0, vec![0]));
    }

    #[test]
    fn an_empty_array_says_nothing() {
        assert_eq!(read(b" [ ] ", Ok).unwrap(), Payload { good: vec![], bad: vec![], reason: None });
    }

    #[test]
    fn of_an_array_the_good_elements_count_and_the_bad_ones_are_named() {
        let json =
            format!(r#"[{{"user_id":"{USER}"}},{{}},7,{{"user_id":"{USER}","session_id":"b"}},{{"user_id":"x"}}]"#);
        let payload = read(json.as_bytes(), Ok).unwrap();
        let sessions: Vec<&str> = payload.good.iter().map(|element| element.session_id.as_str()).collect();
        assert_eq!(sessions, ["default", "b"]);
        assert_eq!(payload.bad, [1, 2, 4]);
        let reason = payload.reason.unwrap();
        assert_eq!(reason, "element 1: user_id: missing");
    }

    #[test]
    fn what_a_subscription_refuses_is_bad() {
        let json = format!(r#"[{{"user_id":"{USER}","channel_name":"x"}},{{"user_id":"{USER}"}}]"#);
        let make = |element: Element| element.channel_name.ok_or(Invalid("no name"));
        let payload = read(json.as_bytes(), make).unwrap();
        assert_eq!((payload.good, payload.bad), (vec!["x".to_owned()], vec![1]));
        assert_eq!(payload.reason.as_deref(), Some("element 1: no name"));
        assert_eq!(read(format!(r#"{{"user_id":"{USER}"}}"#).as_bytes(), make), Err(Unreadable("no name".into())));
    }

    #[test]
    fn an_array_is_bounded() {
        let array = |count: usize| format!("[{}]", vec![format!(r#"{{"user_id":"{USER}"}}"#); count].join(","));
        assert_eq!(read(array(ELEMENT_LIMIT).as_bytes(), Ok).unwrap().good.len(), ELEMENT_LIMIT);
        let error = read(array(ELEMENT_LIMIT + 1).as_bytes(), Ok).unwrap_err();
        assert_eq!(error.to_string(), "an array has at most 10000 elements");
    }
}
