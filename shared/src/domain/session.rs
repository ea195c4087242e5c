//! One gateway connection of a user, kept as facts that can be learned in any order and any number of times: when it
//! was opened, when its last heartbeats came, when it was closed. Whether it lives is computed from these.

use super::{Platform, Rules, Timestamp};

/// What is known of a session. An ended one is remembered for [`Rules::memory`]: its **tombstone**.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Where it runs, as its open says; else as its heartbeats say.
    pub platform: Platform,
    /// The latest open. None for a session that was adopted by its heartbeat, or is known only by its close.
    pub opened_at: Option<Timestamp>,
    /// Since when it has lived without a gap.
    pub since: Option<Timestamp>,
    /// The latest heartbeat; an open counts as one.
    pub heartbeat: Option<Timestamp>,
    /// The heartbeat before that: what counts for a close that is older than the latest one.
    pub previous: Option<Timestamp>,
    /// The latest close.
    pub closed: Option<Close>,
}

/// What is known of the closes of one life of a session; usually there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The latest: opens and heartbeats at or before it are void.
    pub at: Timestamp,
    /// The first regular one: the session ended with it.
    pub ended_at: Option<Timestamp>,
    /// The first abnormal one: the connection broke and its client may come back, so that the session lingers for the
    /// resume grace.
    pub broke_at: Option<Timestamp>,
}

impl Session {
    /// A session of which nothing is known yet.
    pub fn unknown() -> Self {
        Self {
            platform: Platform::default(),
            opened_at: None,
            since: None,
            heartbeat: None,
            previous: None,
            closed: None,
        }
    }

    /// Learns of an open. One that is not later than the close can't revive the session, but it is remembered as a
    /// sign of its life before that close.
    pub fn open(&mut self, at: Timestamp, platform: Option<Platform>, rules: &Rules) {
        if self.opened_at.is_none_or(|opened| at > opened) {
            let lived = !self.is_closed() && self.heartbeat.is_some_and(|beat| at < beat + rules.heartbeat_timeout);
            self.since = if lived { self.since.map(|since| since.min(at)) } else { Some(at) };
            self.opened_at = Some(at);
            self.platform = platform.unwrap_or_default();
        } else if self.closed.is_none_or(|close| close.at < at) {
            let joins = |since: Timestamp| since < at + rules.heartbeat_timeout;
            self.since = self.since.map(|since| if joins(since) { since.min(at) } else { since });
        }
        self.beat(at);
    }

    /// Learns of a heartbeat. A closed session remembers it, and is not revived by it.
    pub fn renew(&mut self, at: Timestamp, platform: Option<Platform>, rules: &Rules) {
        if self.opened_at.is_none()
            && let Some(platform) = platform
        {
            self.platform = platform;
        }
        if !self.is_closed() {
            let gap = self.heartbeat.is_none_or(|beat| at >= beat + rules.heartbeat_timeout);
            if gap {
                self.since = Some(at);
            } else if self.opened_at.is_none() {
                self.since = self.since.map(|since| since.min(at));
            }
        }
        self.beat(at);
    }

    /// Learns of a close. The first of one life ends it; a close before a later open belongs to an earlier life.
    pub fn close(&mut self, at: Timestamp, abnormal: bool) {
        let new = Close { at, ended_at: (!abnormal).then_some(at), broke_at: abnormal.then_some(at) };
        self.closed = Some(match self.closed {
            None => new,
            Some(old) => {
                let (first, last) = if old.at <= at { (old, new) } else { (new, old) };
                let reopened = self.opened_at.is_some_and(|opened| first.at < opened && opened <= last.at);
                if reopened { last } else { first.and(last) }
            }
        });
    }

    /// Whether the close is the last word: the session was not opened again after it.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some_and(|close| self.opened_at.is_none_or(|opened| opened <= close.at))
    }

    /// When this life of the session ends or ended, if nothing more is heard of it. `reopened` tells the first open
    /// of any session of the user after a moment. None for a session whose life was never seen.
    pub fn ends_at(&self, rules: &Rules, reopened: impl Fn(Timestamp) -> Option<Timestamp>) -> Option<Timestamp> {
        let heartbeat = self.heartbeat?;
        let Some(close) = self.closed.filter(|_| self.is_closed()) else {
            return Some(heartbeat + rules.heartbeat_timeout);
        };
        let first_close = close.broke_at.unwrap_or(close.at).min(close.ended_at.unwrap_or(close.at));
        let last_before = [Some(heartbeat), self.previous].into_iter().flatten().find(|beat| *beat <= first_close);
        Some(close.end(rules, reopened).min(last_before? + rules.heartbeat_timeout))
    }

    /// When the life before the latest open ended, if a close told of it.
    pub fn earlier_end(&self, rules: &Rules, reopened: impl Fn(Timestamp) -> Option<Timestamp>) -> Option<Timestamp> {
        self.closed.filter(|_| !self.is_closed()).map(|close| close.end(rules, reopened))
    }

    /// The latest moment of which this session is a sign of life.
    pub fn last_sign(&self) -> Option<Timestamp> {
        self.heartbeat.max(self.closed.map(|close| close.at))
    }

    fn beat(&mut self, at: Timestamp) {
        if self.heartbeat.is_none_or(|beat| at > beat) {
            self.previous = self.heartbeat;
            self.heartbeat = Some(at);
        } else if self.heartbeat != Some(at) {
            self.previous = self.previous.max(Some(at));
        }
    }
}

impl Close {
    fn and(self, other: Close) -> Close {
        let first = |a: Option<Timestamp>, b: Option<Timestamp>| a.into_iter().chain(b).min();
        Close {
            at: self.at.max(other.at),
            ended_at: first(self.ended_at, other.ended_at),
            broke_at: first(self.broke_at, other.broke_at),
        }
    }

    fn end(&self, rules: &Rules, reopened: impl Fn(Timestamp) -> Option<Timestamp>) -> Timestamp {
        let lingers_until = self.broke_at.map(|broke| {
            let grace = broke + rules.resume_grace;
            reopened(broke).map_or(grace, |opened| grace.min(opened))
        });
        lingers_until.into_iter().chain(self.ended_at).min().unwrap_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1000)
    }

    fn never(_: Timestamp) -> Option<Timestamp> {
        None
    }

    #[test]
    fn a_session_lives_until_its_timeout_after_the_last_heartbeat() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.open(at(0), Some(Platform::Mobile), &rules);
        session.renew(at(30), None, &rules);
        assert_eq!(session.ends_at(&rules, never), Some(at(75)));
        assert_eq!((session.platform, session.since), (Platform::Mobile, Some(at(0))));
    }

    #[test]
    fn an_abnormal_close_lingers_but_never_past_the_deadline() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.open(at(0), None, &rules);
        session.close(at(10), true);
        assert_eq!(session.ends_at(&rules, never), Some(at(25)));
        assert_eq!(session.ends_at(&rules, |_| Some(at(12))), Some(at(12)));
        session.close(at(40), true);
        assert_eq!(session.ends_at(&rules, never), Some(at(25)), "told twice, it still broke the first time");
        session.close(at(12), false);
        assert_eq!(session.ends_at(&rules, never), Some(at(12)));
    }

    #[test]
    fn a_heartbeat_after_the_break_does_not_prolong_the_session() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.open(at(0), None, &rules);
        session.renew(at(41), None, &rules);
        session.close(at(40), true);
        assert_eq!(session.ends_at(&rules, never), Some(at(45)));
    }

    #[test]
    fn a_later_open_starts_anew_and_remembers_the_heartbeat_that_overtook_it() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.renew(at(5), None, &rules);
        session.close(at(3), false);
        assert!(session.is_closed());
        session.open(at(4), None, &rules);
        assert!(!session.is_closed());
        assert_eq!(session.ends_at(&rules, never), Some(at(50)));
        session.open(at(3), None, &rules);
        session.close(at(4), false);
        assert!(session.is_closed(), "an open at the moment of the close does not count");
    }
}
