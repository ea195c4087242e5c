//! All that is known of one user. Facts only: what others see of it at a moment is computed in `view.rs`, how it
//! changes in `transition.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::session::Session;
use super::{
    ActivityKind, ActivityName, Cause, CustomStatus, Intent, Presence, SessionId, Status, Timestamp, Traceparent,
    UserId,
};

/// One user's record: what a store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Whose record this is.
    pub user_id: UserId,
    /// Rises with each visible change.
    pub version: u64,
    /// Up to this moment every deadline that passed is accounted for in `version` and `pending`.
    pub settled_at: Timestamp,
    /// For a user whose sessions the store has forgotten: the deadline that is still in its index, when they are to be
    /// told offline.
    pub lapsed: Option<Timestamp>,
    /// The status chosen last.
    pub choice: Choice,
    /// The choices before it between which one may still come late, the oldest first; at most 32.
    pub earlier_choices: Vec<Choice>,
    /// The custom status chosen last.
    pub custom_status: Stamped<Option<CustomStatus>>,
    /// The last sign of life that `sessions` does not tell of, whether others may see it or not.
    pub last_sign: Option<Timestamp>,
    /// What others see as `last_seen` while the user is invisible.
    pub frozen_last_seen: Option<Timestamp>,
    /// Sessions that live, and those that ended lately.
    pub sessions: BTreeMap<SessionId, Session>,
    /// When a visible status was last set by an update: it is a lease if no session lived then.
    pub leased_at: Option<Timestamp>,
    /// The times before that which may still matter, in order; as many as the limit on updates allows.
    pub earlier_leases: Vec<Timestamp>,
    /// The user's own activity.
    pub own_activity: Stamped<Option<RunningActivity>>,
    /// The latest voice session, running or not.
    pub voice: Option<Voice>,
    /// The beginnings of voice sessions before it, of this one and of others, which may still matter, the oldest first;
    /// at most 32.
    pub earlier_voices: Vec<Voice>,
    /// Voice sessions that ended lately, also those whose beginning was not heard of yet.
    pub voice_ended: BTreeMap<SessionId, Timestamp>,
    /// The accepted status updates within the window of the rate limit.
    pub updates: Vec<Timestamp>,
    /// Visible changes that are not yet known to be published, the oldest first.
    pub pending: Vec<Pending>,
}

/// A value and when it was chosen: the later choice wins, not the later arrival.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamped<T> {
    /// The choice.
    pub value: T,
    /// When it was made; the epoch if it never was.
    pub at: Timestamp,
}

/// The intent, and since when the user has wanted to be visible or invisible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice {
    /// The status chosen last.
    pub intent: Intent,
    /// When it was chosen; the epoch if it never was.
    pub at: Timestamp,
    /// When the current run of visible or of invisible choices began.
    pub since: Timestamp,
}

/// An activity that lasts as long as the user stays connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningActivity {
    /// Playing, streaming or listening.
    pub kind: ActivityKind,
    /// What is played, streamed or listened to.
    pub name: ActivityName,
    /// When it began.
    pub started_at: Timestamp,
    /// A moment at which it is known to have run: whether it still does is computed from here.
    pub anchor: Timestamp,
}

/// A voice session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// The voice service's id.
    pub session_id: SessionId,
    /// When it was created, or announced again.
    pub created_at: Timestamp,
    /// What it shows as; it began earlier if it was announced again.
    pub activity: RunningActivity,
}

/// A visible change that is not yet known to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What the user looked like after the change; its version is the change's.
    pub presence: Presence,
    /// Whether status, custom status or client status changed.
    pub status: bool,
    /// Whether the activity of a visible user changed.
    pub activity: bool,
    /// When it changed.
    pub at: Timestamp,
    /// The trace that caused it.
    pub trace: Traceparent,
    /// The visible status before it; none if it was written by a release that did not tell.
    #[serde(default)]
    pub from: Option<Status>,
    /// What caused it.
    #[serde(default)]
    pub cause: Cause,
}

impl UserRecord {
    /// The record of a user of whom nothing is known.
    pub fn unknown(user_id: UserId) -> Self {
        Self {
            user_id,
            version: 0,
            settled_at: Timestamp::default(),
            lapsed: None,
            choice: Choice::default(),
            earlier_choices: Vec::new(),
            custom_status: Stamped::default(),
            last_sign: None,
            frozen_last_seen: None,
            sessions: BTreeMap::new(),
            leased_at: None,
            earlier_leases: Vec::new(),
            own_activity: Stamped::default(),
            voice: None,
            earlier_voices: Vec::new(),
            voice_ended: BTreeMap::new(),
            updates: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// When visible statuses were set by updates, in order.
    pub(super) fn leases(&self) -> impl Iterator<Item = Timestamp> {
        self.earlier_leases.iter().copied().chain(self.leased_at)
    }

    /// The last sign of life, whether others may see it or not.
    pub fn last_sign_of_life(&self) -> Option<Timestamp> {
        self.sessions.values().filter_map(Session::last_sign).max().max(self.last_sign)
    }

    /// What of the record outlives the user's sessions.
    pub fn profile(&self) -> Self {
        Self {
            version: self.version,
            choice: self.choice,
            custom_status: self.custom_status.clone(),
            last_sign: self.last_sign_of_life(),
            frozen_last_seen: self.frozen_last_seen,
            ..Self::unknown(self.user_id)
        }
    }
}

impl Pending {
    /// Whether a listener of the status would be told the same of this look.
    pub fn tells_status_of(&self, other: &Presence) -> bool {
        self.presence.has_status_of(other)
    }
}
