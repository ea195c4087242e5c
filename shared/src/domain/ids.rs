//! Who and where: the identifiers of the domain, each valid by type.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that was offered as an identifier or a value and is not one. Carries the rule that it breaks, as a
/// sentence fit for a client; never the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// A user: the `sub` of a token, the `user_id` of an event. Always the hyphenated form on output, lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(Uuid);

/// A channel in which somebody types. The same form as a [`UserId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelId(Uuid);

/// One gateway connection (or one voice session) of a user: 1–64 characters of `A-Za-z0-9_.:-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(Box<str>);

/// Only the hyphenated form: the other spellings of a UUID would give one user several names.
fn parse_hyphenated(text: &str) -> Option<Uuid> {
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok()
}

macro_rules! uuid_id {
    ($name:ident, $rule:literal) => {
        impl $name {
            /// Wraps a UUID that is known to be one.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself, for keys that hold its 16 bytes.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                parse_hyphenated(text).map(Self).ok_or(Invalid($rule))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
    };
}

uuid_id!(UserId, "a user id is a hyphenated UUID");
uuid_id!(ChannelId, "a channel id is a hyphenated UUID");

impl SessionId {
    /// The session of a gateway that names none: one session a user.
    pub fn unnamed() -> Self {
        Self("default".into())
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SessionId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid("a session id is 1 to 64 characters of A-Z a-z 0-9 _ . : -"))
        }
    }
}

impl TryFrom<String> for SessionId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        id.0.into()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_name() {
        let id: UserId = "0A1B2C3D-0000-4000-8000-00000000000F".parse().unwrap();
        assert_eq!(id.to_string(), "0a1b2c3d-0000-4000-8000-00000000000f");
        for other in [
            "0a1b2c3d000040008000-00000000000f",
            "0a1b2c3d00004000800000000000000f",
            "{0a1b2c3d-0000-4000-8000-00000000000f}",
            "",
        ] {
            assert!(other.parse::<UserId>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_session_id_is_short_and_plain() {
        assert!("a".repeat(64).parse::<SessionId>().is_ok());
        assert!("Node-1:conn_7.b".parse::<SessionId>().is_ok());
        for bad in ["", &"a".repeat(65), "a b", "ä", "a/b", "a\n"] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad:?}");
        }
    }
}
