//! The rules of presence, as pure functions over a user's record. Nothing here reads a clock, an environment or a
//! network: time and ids are arguments.

mod cause;
mod explain;
mod forget;
mod ids;
mod input;
mod marks;
mod presence;
mod record;
mod rules;
mod session;
mod time;
mod timeline;
mod trace;
mod transition;
mod view;

pub use cause::Cause;
pub use explain::{ExplainedSession, Explanation, Lease, SessionState, Transition};
pub use ids::{ChannelId, Invalid, SessionId, UserId};
pub use input::{ActivityUpdate, Input, InputKind, StatusUpdate};
pub use marks::{Mark, MarkKind};
pub use presence::{
    Activity, ActivityKind, ActivityName, CustomStatus, Intent, Own, Platform, Presence, Status, TEXT_LIMIT,
};
pub use record::{Choice, Pending, RunningActivity, Stamped, UserRecord, Voice};
pub use rules::{PENDING_LIMIT, Rules, SESSION_LIMIT, TYPING_REPEAT, UPDATE_LIMIT, UPDATE_WINDOW};
pub use session::{Close, Session};
pub use time::Timestamp;
pub use trace::Traceparent;
pub use transition::RateLimited;
