//! One gateway connection of a user, kept as facts that can be learned in any order and any number of times: when it
//! was opened, when its heartbeats came, when it was closed. When it lived is computed from these (`marks.rs`).

use super::marks::{Mark, MarkKind, Marks};
use super::{Platform, Rules, Timestamp};

/// What is known of a session. An ended one is remembered for a while: its **tombstone**.
///
/// The fields tell of its latest life, and for nearly every session of all there is. What only a late input could
/// bring back into play waits in `earlier`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Where it runs, as its latest open says; else as its heartbeats say.
    pub platform: Platform,
    /// The latest open. None for a session that was adopted by its heartbeat, or is known only by its close.
    pub opened_at: Option<Timestamp>,
    /// When its latest life began. From here to the latest heartbeat there was no gap, unless a close makes one.
    pub since: Option<Timestamp>,
    /// The latest heartbeat; an open counts as one.
    pub heartbeat: Option<Timestamp>,
    /// The heartbeat before that, in the same life: what counts for a close that is older than the latest one.
    pub previous: Option<Timestamp>,
    /// The close that ended its latest life; none if it was opened again since.
    pub closed: Option<Close>,
    /// What else may still matter, in the order of time; at most 32.
    pub earlier: Vec<Mark>,
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
            earlier: Vec::new(),
        }
    }

    /// Learns of an open. One that is not later than the close can't revive the session, but it is remembered as a
    /// sign of its life before that close.
    pub fn open(&mut self, at: Timestamp, platform: Option<Platform>, rules: &Rules) {
        let kind = MarkKind::Opened(platform.unwrap_or_default());
        self.learn(Mark { at, kind }, rules);
    }

    /// Learns of a heartbeat. A closed session remembers it, and is not revived by it.
    pub fn renew(&mut self, at: Timestamp, platform: Option<Platform>, rules: &Rules) {
        self.learn(Mark { at, kind: MarkKind::Beat(platform) }, rules);
    }

    /// Learns of a heartbeat of a live session the short way, by which a store may renew one without deciding: the
    /// heartbeat before the previous one is forgotten, so that a break more than two heartbeats late may be judged by
    /// a heartbeat too early.
    pub fn touch(&mut self, at: Timestamp) {
        if self.heartbeat < Some(at) {
            self.previous = self.heartbeat.replace(at);
        }
    }

    /// Learns of a close. The first of one life ends it; a close before a later open belongs to an earlier life.
    pub fn close(&mut self, at: Timestamp, abnormal: bool, rules: &Rules) {
        let kind = if abnormal { MarkKind::Broke } else { MarkKind::Ended };
        self.learn(Mark { at, kind }, rules);
    }

    /// Whether the close is the last word: the session was not opened again after it.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// The latest moment of which this session is a sign of life.
    pub fn last_sign(&self) -> Option<Timestamp> {
        self.heartbeat.max(self.closed.map(|close| close.at))
    }

    /// By when it is over at the latest, if nothing more is heard of it.
    pub(super) fn over_at(&self, rules: &Rules) -> Option<Timestamp> {
        match self.closed {
            Some(close) => Some(close.at).max(close.broke_at.map(|broke| broke + rules.resume_grace)),
            None => self.heartbeat.map(|beat| beat + rules.heartbeat_timeout),
        }
    }

    /// Whether it ever broke, so that other sessions' opens may matter to it.
    pub(super) fn ever_broke(&self) -> bool {
        let broke = |mark: &Mark| mark.kind == MarkKind::Broke;
        self.closed.is_some_and(|close| close.broke_at.is_some()) || self.earlier.iter().any(broke)
    }

    /// Every open and every close that is known.
    pub(super) fn opens_and_closes(&self) -> impl Iterator<Item = Mark> {
        self.field_marks().chain(self.earlier.iter().copied()).filter(|mark| !mark.is_heartbeat())
    }

    /// Forgets what came before the last sign of life at the horizon.
    pub(super) fn forget_before(&mut self, horizon: Timestamp, rules: &Rules) {
        if self.earlier.first().is_some_and(|mark| mark.at <= horizon) {
            let mut marks = Marks::of(self, rules);
            marks.forget_before(horizon);
            self.opened_at =
                self.opened_at.filter(|opened| marks.iter().any(|mark| mark.is_open() && mark.at == *opened));
            self.tell(&marks, rules);
        }
    }

    /// What the fields tell, in no order.
    pub(super) fn field_marks(&self) -> impl Iterator<Item = Mark> + use<> {
        let (broke, ended) = self.closed.map_or((None, None), |close| (close.broke_at, close.ended_at));
        let marks = [
            (self.opened_at, MarkKind::Opened(self.platform)),
            (self.since, MarkKind::Beat(Some(self.platform))),
            (self.previous, MarkKind::Beat(None)),
            (self.heartbeat, MarkKind::Beat(None)),
            (broke, MarkKind::Broke),
            (ended, MarkKind::Ended),
        ];
        marks.into_iter().filter_map(|(at, kind)| Some(Mark { at: at?, kind }))
    }

    fn learn(&mut self, mark: Mark, rules: &Rules) {
        let mut marks = Marks::of(self, rules);
        if marks.add(mark) {
            (self.opened_at, self.platform) = marks.opened(rules);
            marks.thin(rules);
            self.tell(&marks, rules);
        }
    }

    /// Writes the facts back: the latest into their fields, the others into `earlier`.
    fn tell(&mut self, marks: &Marks, rules: &Rules) {
        let mut latest = None;
        let closing = marks.lives(rules, |life| latest = Some(life));
        self.since = latest.map(|life| life.from);
        self.closed = Close::told_by(closing);
        let mut signs = marks.iter().rev().filter(|mark| !mark.is_close()).map(|mark| mark.at);
        self.heartbeat = signs.next();
        self.previous = signs.find(|at| Some(*at) < self.heartbeat).filter(|at| Some(*at) >= self.since);
        self.earlier = marks.not_told_by(self, rules);
    }
}

impl Close {
    /// Whether the client may still come back.
    pub(super) fn lingers(&self, now: Timestamp, rules: &Rules) -> bool {
        self.ended_at.is_none() && self.broke_at.is_some_and(|broke| now < broke + rules.resume_grace)
    }

    fn told_by(closing: &[Mark]) -> Option<Close> {
        let first = |kind| closing.iter().find(|mark| mark.kind == kind).map(|mark| mark.at);
        let latest = closing.iter().rfind(|mark| mark.is_close())?;
        Some(Close { at: latest.at, ended_at: first(MarkKind::Ended), broke_at: first(MarkKind::Broke) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1000)
    }

    /// When it lived, in seconds, if no other session opens.
    fn lives(session: &Session) -> Vec<(i64, i64)> {
        let mut lives = Vec::new();
        let seconds = |moment: Timestamp| (moment.millis() - 1_000_000) / 1000;
        let rules = Rules::default();
        Marks::of(session, &rules).lives(&rules, |life| lives.push((seconds(life.from), seconds(life.to))));
        lives
    }

    #[test]
    fn a_session_lives_until_its_timeout_after_the_last_heartbeat() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.open(at(0), Some(Platform::Mobile), &rules);
        session.renew(at(30), None, &rules);
        assert_eq!(lives(&session), [(0, 75)]);
        assert_eq!((session.platform, session.since), (Platform::Mobile, Some(at(0))));
    }

    #[test]
    fn an_abnormal_close_lingers_but_never_past_the_deadline() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.open(at(0), None, &rules);
        session.close(at(10), true, &rules);
        assert_eq!(lives(&session), [(0, 25)]);
        session.close(at(40), true, &rules);
        assert_eq!(lives(&session), [(0, 25)], "told twice, it still broke the first time");
        session.close(at(12), false, &rules);
        assert_eq!(lives(&session), [(0, 12)]);
    }

    #[test]
    fn a_heartbeat_after_the_break_does_not_prolong_the_session() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.open(at(0), None, &rules);
        session.renew(at(41), None, &rules);
        session.renew(at(42), None, &rules);
        session.close(at(40), true, &rules);
        assert_eq!(lives(&session), [(0, 45)]);
    }

    #[test]
    fn a_later_open_starts_anew_and_remembers_the_heartbeat_that_overtook_it() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.renew(at(5), None, &rules);
        session.close(at(3), false, &rules);
        assert!(session.is_closed());
        session.open(at(4), None, &rules);
        assert!(!session.is_closed());
        assert_eq!(lives(&session), [(4, 50)]);
        session.open(at(3), None, &rules);
        session.close(at(4), false, &rules);
        assert!(session.is_closed(), "an open at the moment of the close does not count");
    }

    #[test]
    fn a_long_session_is_told_by_its_fields_alone() {
        let rules = Rules::default();
        for interval in [1, 15, 20, 29, 30] {
            let mut session = Session::unknown();
            session.open(at(0), None, &rules);
            for beat in 1..100 {
                session.renew(at(beat * interval), None, &rules);
                assert!(session.earlier.len() <= 1, "every {interval} s: {session:?}");
            }
            assert_eq!(lives(&session), [(0, 99 * interval + 45)]);
        }
    }

    #[test]
    fn a_session_renewed_the_short_way_has_lived_without_a_gap() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.open(at(0), None, &rules);
        for beat in 1..=10 {
            session.touch(at(beat * 30));
        }
        session.touch(at(30));
        assert_eq!(session.earlier, []);
        assert_eq!(lives(&session), [(0, 345)]);
        session.close(at(280), true, &rules);
        assert_eq!(lives(&session), [(0, 295)]);
        session.open(at(290), None, &rules);
        session.close(at(260), false, &rules);
        assert_eq!(lives(&session), [(0, 260), (290, 345)], "both closes came late");
    }

    #[test]
    fn a_session_that_opens_again_while_it_lives_has_no_gap_however_it_is_renewed() {
        let rules = Rules::default();
        let mut session = Session::unknown();
        session.open(at(0), None, &rules);
        session.touch(at(16));
        session.open(at(47), None, &rules);
        session.touch(at(57));
        assert_eq!(lives(&session), [(0, 102)], "the heartbeat between the opens is forgotten");
        session.touch(at(80));
        assert_eq!(lives(&session), [(0, 125)]);
        session.renew(at(100), None, &rules);
        assert_eq!((lives(&session), session.since), (vec![(0, 145)], Some(at(0))));
        let before = session.clone();
        session.renew(at(100), None, &rules);
        assert_eq!(session, before);
        session.close(at(101), false, &rules);
        session.open(at(102), None, &rules);
        assert_eq!(lives(&session), [(0, 101), (102, 147)]);
    }
}
