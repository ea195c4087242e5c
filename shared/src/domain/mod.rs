//! The rules of presence, as pure functions over a user's record. Nothing here reads a clock, an environment or a
//! network: time and ids are arguments.

mod ids;
mod input;
mod presence;
mod time;

pub use ids::{ChannelId, Invalid, SessionId, UserId};
pub use input::{ActivityUpdate, Input, InputKind, StatusUpdate};
pub use presence::{
    Activity, ActivityKind, ActivityName, CustomStatus, Intent, Own, Platform, Presence, Status, TEXT_LIMIT,
};
pub use time::Timestamp;
