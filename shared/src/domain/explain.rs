//! Why a user looks as they do: what an operator is told of a record. It holds what the user hides from others, so it
//! is for operators alone.

use serde::{Deserialize, Serialize};

use super::record::{Pending, UserRecord};
use super::timeline::{last_span, lease_span};
use super::{Cause, Intent, Platform, Presence, Rules, Session, SessionId, Status, Timestamp, Traceparent, UserId};

/// Everything that decides how a user looks at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Who.
    pub user_id: UserId,
    /// By the store's clock.
    pub at: Timestamp,
    /// The answer in one sentence.
    pub why: String,
    /// What others see.
    pub visible: Presence,
    /// The status chosen last, and when; the epoch if never.
    pub intent: Intent,
    /// When it was chosen.
    pub chosen_at: Timestamp,
    /// When others will see a change, if nothing more is heard of the user.
    pub next_deadline: Option<Timestamp>,
    /// The last sign of life, hidden or not.
    pub last_sign: Option<Timestamp>,
    /// Every session that is remembered, the one that lives longest first.
    pub sessions: Vec<ExplainedSession>,
    /// The lease of the last status update over HTTP.
    pub lease: Option<Lease>,
    /// Changes that are not known to be published.
    pub pending: Vec<Transition>,
    /// The last changes that were noted, the latest first; empty where none are.
    pub transitions: Vec<Transition>,
}

/// One session, live or remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedSession {
    /// Which.
    pub session_id: SessionId,
    /// Where it runs.
    pub platform: Platform,
    /// What it counts as.
    pub state: SessionState,
    /// When it opened; none if it was adopted by its heartbeat.
    pub opened_at: Option<Timestamp>,
    /// Its latest heartbeat.
    pub heartbeat_at: Option<Timestamp>,
    /// The close that ended it, or broke it.
    pub closed_at: Option<Timestamp>,
    /// When it ends, or ended; none if it never lived.
    pub ends_at: Option<Timestamp>,
}

/// What a session counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It keeps its user online.
    Live,
    /// Its connection broke; it keeps its user online until the resume grace is over.
    Lingering,
    /// It was closed.
    Closed,
    /// Nothing was heard of it for too long.
    TimedOut,
}

/// A status update that counts as a sign of life for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// When the status was set.
    pub since: Timestamp,
    /// Until when it counts.
    pub ends_at: Timestamp,
}

/// A change that others saw, and what made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The version that it made.
    pub version: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The visible status before it.
    pub from: Option<Status>,
    /// The visible status after it.
    pub to: Status,
    /// What made it.
    pub cause: Cause,
    /// The trace that it belongs to.
    pub trace: Traceparent,
}

impl From<&Pending> for Transition {
    fn from(pending: &Pending) -> Self {
        let Pending { presence, at, trace, from, cause, .. } = pending;
        Self {
            version: presence.version,
            at: *at,
            from: *from,
            to: presence.status,
            cause: *cause,
            trace: trace.clone(),
        }
    }
}

impl UserRecord {
    /// Why the user looks as they do at `now`, without the transitions, which no record keeps.
    pub fn explain(&self, now: Timestamp, rules: &Rules) -> Explanation {
        let now = now.max(self.settled_at);
        let explain = |(id, session): (&SessionId, &Session)| self.explain_session(id, session, now, rules);
        let mut sessions: Vec<ExplainedSession> = self.sessions.iter().map(explain).collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.ends_at));
        let lease = self.leases().last().map(|leased| lease_span(self, leased, rules));
        let lease = lease.map(|span| Lease { since: span.from, ends_at: span.to });
        let visible = self.read(now, rules);
        Explanation {
            user_id: self.user_id,
            at: now,
            why: self.why(visible.status, &sessions, lease, now),
            visible,
            intent: self.choice.intent,
            chosen_at: self.choice.at,
            next_deadline: self.next_deadline(now, rules),
            last_sign: self.last_sign_of_life(),
            sessions,
            lease,
            pending: self.pending.iter().map(Transition::from).collect(),
            transitions: Vec::new(),
        }
    }

    fn explain_session(&self, id: &SessionId, session: &Session, now: Timestamp, rules: &Rules) -> ExplainedSession {
        let span = last_span(self, session, rules);
        let state = match span.filter(|span| span.contains(now)) {
            Some(span) if span.broke.is_some_and(|broke| broke <= now) => SessionState::Lingering,
            Some(_) => SessionState::Live,
            None if session.is_closed() => SessionState::Closed,
            None => SessionState::TimedOut,
        };
        ExplainedSession {
            session_id: id.clone(),
            platform: session.platform,
            state,
            opened_at: session.opened_at,
            heartbeat_at: session.heartbeat,
            closed_at: session.closed.map(|close| close.at),
            ends_at: span.map(|span| span.to),
        }
    }

    fn why(&self, visible: Status, sessions: &[ExplainedSession], lease: Option<Lease>, now: Timestamp) -> String {
        let live =
            sessions.iter().find(|session| matches!(session.state, SessionState::Live | SessionState::Lingering));
        let lease = lease.filter(|lease| lease.since <= now && now < lease.ends_at);
        let kept = match (live, lease) {
            (Some(session), _) if session.state == SessionState::Lingering => {
                format!("the connection of session {} broke and may come back", session.session_id)
            }
            (Some(session), _) => format!("session {} is live", session.session_id),
            (None, Some(_)) => "a status update counts as a sign of life".to_owned(),
            (None, None) => String::new(),
        };
        let until = live.and_then(|session| session.ends_at).max(lease.map(|lease| lease.ends_at));
        let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
        match (kept.is_empty(), visible, self.choice.intent.is_visible()) {
            (false, _, false) => format!("offline by choice, since {}, although {kept}{until}", self.choice.since),
            (false, ..) => format!("{} because {kept}{until}", visible.as_str()),
            (true, ..) => match self.last_sign_of_life() {
                Some(seen) => format!("offline because nothing keeps them online; the last sign of life came {seen}"),
                None => "offline because nothing is known of them".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Input, InputKind, StatusUpdate};
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    fn user(inputs: Vec<(i64, InputKind)>) -> UserRecord {
        let mut record = UserRecord::unknown("00000000-0000-4000-8000-000000000001".parse().unwrap());
        for (second, kind) in inputs {
            let input = Input { at: at(second), kind };
            record.apply(&input, at(second), &Traceparent::generate(), &Rules::default()).unwrap();
        }
        record
    }

    fn opened(session: &str) -> InputKind {
        InputKind::Opened { session_id: session.parse().unwrap(), platform: Some(Platform::Desktop), status: None }
    }

    fn closed(session: &str, abnormal: bool) -> InputKind {
        InputKind::Closed { session_id: session.parse().unwrap(), abnormal }
    }

    fn chosen(intent: Intent) -> InputKind {
        InputKind::StatusUpdated(StatusUpdate { status: Some(intent), ..StatusUpdate::default() })
    }

    fn explained(record: &UserRecord, second: i64) -> Explanation {
        record.explain(at(second), &Rules::default())
    }

    #[test]
    fn a_live_session_is_why_and_until_when() {
        let told = explained(&user(vec![(0, opened("a")), (5, opened("b")), (6, closed("a", false))]), 10);
        assert_eq!(told.why, format!("online because session b is live until {}", at(50)));
        let states: Vec<(&str, SessionState)> =
            told.sessions.iter().map(|session| (session.session_id.as_str(), session.state)).collect();
        assert_eq!(states, [("b", SessionState::Live), ("a", SessionState::Closed)]);
        assert_eq!(told.next_deadline, Some(at(50)));
    }

    #[test]
    fn a_broken_connection_lingers_and_then_nothing_is_left() {
        let record = user(vec![(0, opened("a")), (10, closed("a", true))]);
        let told = explained(&record, 12);
        assert_eq!(
            told.why,
            format!("online because the connection of session a broke and may come back until {}", at(25))
        );
        assert!(record.is_kept_by_grace(at(12), &Rules::default()));
        assert!(!record.is_kept_by_grace(at(25), &Rules::default()));
        let later = explained(&record, 25);
        assert!(later.why.starts_with("offline because nothing keeps them online"), "{}", later.why);
        assert_eq!(later.visible.status, Status::Offline);
    }

    #[test]
    fn another_session_takes_over_from_the_grace() {
        let record = user(vec![(0, opened("a")), (10, closed("a", true)), (11, opened("b"))]);
        assert!(!record.is_kept_by_grace(at(12), &Rules::default()));
    }

    #[test]
    fn a_hidden_user_is_told_as_hidden() {
        let told = explained(&user(vec![(0, opened("a")), (1, chosen(Intent::Invisible))]), 2);
        assert_eq!(told.visible.status, Status::Offline);
        let expected = format!("offline by choice, since {}, although session a is live until {}", at(1), at(45));
        assert_eq!(told.why, expected);
    }

    #[test]
    fn a_lease_is_why_where_no_session_is() {
        let told = explained(&user(vec![(0, chosen(Intent::Dnd))]), 44);
        assert_eq!(told.why, format!("dnd because a status update counts as a sign of life until {}", at(45)));
        assert_eq!(told.lease, Some(Lease { since: at(0), ends_at: at(0) + Duration::from_secs(45) }));
    }

    #[test]
    fn pending_changes_tell_what_made_them() {
        let record = user(vec![(0, opened("a")), (1, chosen(Intent::Idle)), (60, chosen(Intent::Dnd))]);
        let told = explained(&record, 60);
        let steps: Vec<_> = told.pending.iter().map(|step| (step.from, step.to, step.cause)).collect();
        let (online, idle, offline) = (Some(Status::Online), Some(Status::Idle), Some(Status::Offline));
        assert_eq!(
            steps,
            [
                (offline, Status::Online, Cause::Opened),
                (online, Status::Idle, Cause::StatusUpdate),
                (idle, Status::Offline, Cause::Deadline),
                (offline, Status::Dnd, Cause::StatusUpdate),
            ]
        );
    }
}
