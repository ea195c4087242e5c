//! Whom a message is about, as far as a quick look can tell. It only decides what waits for what: the function reads
//! messages properly.

use memchr::memmem;
use uuid::Uuid;

/// The users of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Users {
    /// None that can be seen: it waits for nothing.
    None,
    /// As nearly always, except with heartbeats.
    One(u128),
    /// An array of elements.
    Many(Box<[u128]>),
}

const NAME: &[u8] = b"\"user_id\"";

impl Users {
    /// The users whose ids follow the name of the field.
    pub(crate) fn of(payload: &[u8]) -> Self {
        let mut found = memmem::find_iter(payload, NAME).filter_map(|at| id(&payload[at + NAME.len()..]));
        let Some(first) = found.next() else { return Self::None };
        let Some(second) = found.next() else { return Self::One(first) };
        Self::Many([first, second].into_iter().chain(found).collect())
    }

    /// Each of them; a user of whom there are several elements comes several times.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u128> {
        let (one, many): (Option<u128>, &[u128]) = match self {
            Users::None => (None, &[]),
            Users::One(user) => (Some(*user), &[]),
            Users::Many(users) => (None, users),
        };
        one.into_iter().chain(many.iter().copied())
    }
}

/// `: "<uuid>"`, with any white space.
fn id(after_name: &[u8]) -> Option<u128> {
    let value = after_name.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let id = Uuid::try_parse_ascii(value.get(..36)?).ok()?;
    Some(id.as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0a1b2c3d-0000-4000-8000-00000000000a";
    const B: &str = "0a1b2c3d-0000-4000-8000-00000000000b";

    fn user(id: &str) -> u128 {
        Uuid::parse_str(id).unwrap().as_u128()
    }

    #[test]
    fn the_user_of_a_message_is_found_however_it_is_written() {
        for json in [
            format!(r#"{{"user_id":"{A}"}}"#),
            format!("{{\"session_id\":\"x\",\n \"user_id\" :\t\"{}\"}}", A.to_uppercase()),
        ] {
            assert_eq!(Users::of(json.as_bytes()), Users::One(user(A)), "{json}");
        }
    }

    #[test]
    fn the_users_of_an_array_are_all_found() {
        let json = format!(r#"[{{"user_id":"{A}"}},{{}},{{"user_id":"{B}"}},{{"user_id":"{A}"}}]"#);
        let users: Vec<u128> = Users::of(json.as_bytes()).iter().collect();
        assert_eq!(users, [user(A), user(B), user(A)]);
    }

    #[test]
    fn what_cannot_be_read_is_about_nobody() {
        for json in ["", "{}", r#"{"user_id":7}"#, r#"{"user_id":"x"}"#, r#"{"user_id""#, "\"user_id\":\"\u{fc}"] {
            assert_eq!(Users::of(json.as_bytes()), Users::None, "{json}");
        }
        assert_eq!(Users::None.iter().count(), 0);
    }
}
