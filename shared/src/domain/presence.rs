//! A presence: what one user may know of another. The words of the API and of the events are defined here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Invalid, Timestamp, UserId};

/// What everyone may see of a user at one moment. The body of `GET /presence/{user_id}` and the `d` of a
/// `PRESENCE_UPDATE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Whose presence this is.
    pub user_id: UserId,
    /// The visible status.
    pub status: Status,
    /// Shown only while visible.
    pub custom_status: Option<CustomStatus>,
    /// The one of `activities` that began last.
    pub activity: Option<Activity>,
    /// The user's own activity and the one from voice, the latest first.
    pub activities: Vec<Activity>,
    /// The status on each platform that has a live session; empty while offline.
    pub client_status: BTreeMap<Platform, Status>,
    /// The last sign of life; none for a user who was never seen, or not for `LAST_SEEN_TTL`.
    pub last_seen: Option<Timestamp>,
    /// Rises with each visible change of this user.
    pub version: u64,
    /// What only the user themself gets to read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub own: Option<Own>,
}

/// The user's own choices, which others may not see while the user is invisible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The status chosen last; `offline` means invisible.
    pub intent: Intent,
    /// The custom status as chosen.
    pub custom_status: Option<CustomStatus>,
    /// The user's own activity as chosen.
    pub activity: Option<Activity>,
}

/// The visible status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Online and active.
    Online,
    /// Away.
    Idle,
    /// Do not disturb.
    Dnd,
    /// Offline, or invisible.
    Offline,
}

/// The status that the user chose last. Written `offline` on output where it is invisible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// Never chose, or chose `online`.
    #[default]
    Online,
    /// Away.
    Idle,
    /// Do not disturb.
    Dnd,
    /// Chose `offline` (or its other spelling `invisible`).
    #[serde(rename = "offline", alias = "invisible")]
    Invisible,
}

/// Where a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// A desktop client.
    Desktop,
    /// A phone or tablet.
    Mobile,
    /// A browser, and whatever does not say.
    #[default]
    Web,
}

/// What a user does, with the moment it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Playing, streaming or listening.
    #[serde(rename = "type")]
    pub kind: ActivityKind,
    /// What is played, streamed or listened to.
    pub name: ActivityName,
    /// Set by the server, kept while the same activity is sent again.
    pub started_at: Timestamp,
}

/// The `type` of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivityKind {
    /// A game or a program.
    Playing,
    /// A live stream.
    Streaming,
    /// Music, or a voice channel.
    Listening,
}

/// A text of at most 128 characters that a user shows beside their name. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CustomStatus(Box<str>);

/// The name of an activity: 1–128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ActivityName(Box<str>);

/// The longest text that a user may show, in Unicode scalar values.
pub const TEXT_LIMIT: usize = 128;

/// Text for other people's screens: bounded, not blank, and without control characters.
fn is_showable(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().nth(TEXT_LIMIT).is_none() && !text.chars().any(char::is_control)
}

impl Presence {
    /// Whether a listener of the status is told the same by both.
    pub fn has_status_of(&self, other: &Presence) -> bool {
        (self.status, &self.custom_status, &self.client_status)
            == (other.status, &other.custom_status, &other.client_status)
    }
}

impl Status {
    /// The word of the API, of the events and of the `status` field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Online => "online",
            Status::Idle => "idle",
            Status::Dnd => "dnd",
            Status::Offline => "offline",
        }
    }
}

impl Intent {
    /// The status that a connected user with this intent shows.
    pub const fn shown(self) -> Status {
        match self {
            Intent::Online => Status::Online,
            Intent::Idle => Status::Idle,
            Intent::Dnd => Status::Dnd,
            Intent::Invisible => Status::Offline,
        }
    }

    /// Whether the user wants to be seen.
    pub const fn is_visible(self) -> bool {
        !matches!(self, Intent::Invisible)
    }
}

impl FromStr for Intent {
    type Err = Invalid;

    fn from_str(word: &str) -> Result<Self, Invalid> {
        match word {
            "online" => Ok(Intent::Online),
            "idle" => Ok(Intent::Idle),
            "dnd" => Ok(Intent::Dnd),
            "offline" | "invisible" => Ok(Intent::Invisible),
            _ => Err(Invalid("a status is one of online, idle, dnd, offline, invisible")),
        }
    }
}

impl Platform {
    /// The word of the API and of the events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Platform::Desktop => "desktop",
            Platform::Mobile => "mobile",
            Platform::Web => "web",
        }
    }
}

impl FromStr for Platform {
    type Err = Invalid;

    fn from_str(word: &str) -> Result<Self, Invalid> {
        match word {
            "desktop" => Ok(Platform::Desktop),
            "mobile" => Ok(Platform::Mobile),
            "web" => Ok(Platform::Web),
            _ => Err(Invalid("a platform is one of desktop, mobile, web")),
        }
    }
}

impl ActivityKind {
    /// The word of the API, of the events and of the `activity_type` field.
    pub const fn as_str(self) -> &'static str {
        match self {
            ActivityKind::Playing => "playing",
            ActivityKind::Streaming => "streaming",
            ActivityKind::Listening => "listening",
        }
    }
}

impl FromStr for ActivityKind {
    type Err = Invalid;

    fn from_str(word: &str) -> Result<Self, Invalid> {
        match word {
            "playing" => Ok(ActivityKind::Playing),
            "streaming" => Ok(ActivityKind::Streaming),
            "listening" => Ok(ActivityKind::Listening),
            _ => Err(Invalid("an activity type is one of playing, streaming, listening")),
        }
    }
}

impl FromStr for CustomStatus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if is_showable(text) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid("a custom status is 1 to 128 characters, not blank, without control characters"))
        }
    }
}

impl FromStr for ActivityName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if is_showable(text) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid("an activity name is 1 to 128 characters, not blank, without control characters"))
        }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(CustomStatus);
text!(ActivityName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_is_an_input_spelling_only() {
        assert_eq!("invisible".parse(), Ok(Intent::Invisible));
        assert_eq!(serde_json::to_string(&Intent::Invisible).unwrap(), r#""offline""#);
        assert_eq!(Intent::Invisible.shown(), Status::Offline);
    }

    #[test]
    fn text_for_other_peoples_screens_is_bounded_in_characters_not_bytes() {
        assert!("é".repeat(128).parse::<CustomStatus>().is_ok());
        for bad in [&"é".repeat(129), "", "   ", "two\nlines", "nul\0"] {
            assert!(bad.parse::<CustomStatus>().is_err(), "{bad:?}");
            assert!(bad.parse::<ActivityName>().is_err(), "{bad:?}");
        }
    }
}
