//! Every key and field in Redis. Those of the user's document are exactly as written there.

use crate::domain::{ChannelId, SessionId, UserId};
use crate::store::Index;

/// A user's hash: the documented fields, and what the rules need beside them.
pub(super) fn user(user: UserId) -> String {
    format!("presence:user:{user}")
}

/// What outlives the user's hash. In the same slot as the hash, which is tagged with the whole of its key.
pub(super) fn profile(user: UserId) -> String {
    format!("{{presence:user:{user}}}:profile")
}

/// What is pending of a user, for as long as something is. Apart from the hash, because one long value turns the hash
/// for good from its compact form into one of three times the size.
pub(super) fn pending(user: UserId) -> String {
    format!("{{presence:user:{user}}}:pending")
}

/// The last changes of a user, where they are noted. Apart from the hash for the same reason.
pub(super) fn notes(user: UserId) -> String {
    format!("{{presence:user:{user}}}:notes")
}

/// Who types in a channel.
pub(super) fn typing(channel: ChannelId) -> String {
    format!("typing:{channel}")
}

/// Whose typing the others were told of. In the same slot as [`typing`].
pub(super) fn typing_told(channel: ChannelId) -> String {
    format!("{{typing:{channel}}}:told")
}

/// One shard of an index by time.
pub(super) fn index(index: Index, shard: u8) -> String {
    match index {
        Index::Deadlines => format!("presence:deadlines:{shard}"),
        Index::Reminders => format!("presence:reminders:{shard}"),
    }
}

/// Who sweeps a shard at the moment.
pub(super) fn sweeper(shard: u8) -> String {
    format!("presence:sweeper:{shard}")
}

/// Until when expiries are held.
pub(super) const HOLD: &str = "presence:hold";

/// There while someone sweeps each second.
pub(super) const TICKER: &str = "presence:ticker";

/// The field of a session.
pub(super) fn session(id: &SessionId) -> String {
    format!("{SESSION}{id}")
}

// The documented fields.
pub(super) const STATUS: &str = "status";
pub(super) const CUSTOM_STATUS: &str = "custom_status";
pub(super) const ACTIVITY_TYPE: &str = "activity_type";
pub(super) const ACTIVITY_NAME: &str = "activity_name";
pub(super) const ACTIVITY_STARTED_AT: &str = "activity_started_at";
pub(super) const LAST_SEEN: &str = "last_seen";

// Ours. They and their values are short, because a hash of few and short fields is stored in a third of the memory.
pub(super) const SESSION: &str = "s:";
pub(super) const SCHEMA: &str = "z";
pub(super) const REVISION: &str = "r";
pub(super) const VERSION: &str = "v";
pub(super) const SETTLED_AT: &str = "t";
pub(super) const INTENT: &str = "i";
pub(super) const CUSTOM: &str = "c";
pub(super) const LAST_SIGN: &str = "n";
pub(super) const FROZEN: &str = "f";
pub(super) const LEASE: &str = "l";
pub(super) const OWN_ACTIVITY: &str = "o";
pub(super) const VOICE: &str = "w";
pub(super) const VOICE_NAME: &str = "y";
pub(super) const VOICE_ENDED: &str = "x";
pub(super) const UPDATES: &str = "q";
pub(super) const PENDING: &str = "p";

// The fields of the profile.
pub(super) const PROFILE_SCHEMA: &str = "schema";
pub(super) const PROFILE_VERSION: &str = "version";
pub(super) const PROFILE_INTENT: &str = "intent";
pub(super) const PROFILE_CUSTOM_STATUS: &str = "custom_status";
pub(super) const PROFILE_LAST_SIGN: &str = "last_sign";
pub(super) const PROFILE_FROZEN: &str = "last_seen_frozen";

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-0000-4000-8000-000000000001";

    #[test]
    fn keys_are_those_of_the_document() {
        assert_eq!(user(ID.parse().unwrap()), format!("presence:user:{ID}"));
        assert_eq!(typing(ID.parse().unwrap()), format!("typing:{ID}"));
    }

    #[test]
    fn what_one_script_touches_is_in_one_slot() {
        let tag = |key: &str| key[key.find('{').unwrap() + 1..key.find('}').unwrap()].to_owned();
        assert_eq!(tag(&profile(ID.parse().unwrap())), user(ID.parse().unwrap()));
        assert_eq!(tag(&pending(ID.parse().unwrap())), user(ID.parse().unwrap()));
        assert_eq!(tag(&typing_told(ID.parse().unwrap())), typing(ID.parse().unwrap()));
    }
}
