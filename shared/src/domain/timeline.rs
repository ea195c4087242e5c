//! When the sessions and leases of a user lived: computed once from the facts, and asked many times.

use super::marks::{Mark, Marks};
use super::record::{RunningActivity, UserRecord, Voice};
use super::{Platform, Rules, Session, Timestamp};

/// The times in which something kept a user online, the earliest first.
pub(super) struct Timeline {
    spans: Vec<Span>,
}

/// One of them: from its first moment, up to but without its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Of the session; a lease counts as [`Platform::Web`].
    pub(super) platform: Platform,
    /// When its connection broke, if it did: from then on it lives by the resume grace alone.
    pub(super) broke: Option<Timestamp>,
}

impl Span {
    pub(super) fn contains(&self, moment: Timestamp) -> bool {
        self.from <= moment && moment < self.to
    }
}

impl Timeline {
    pub(super) fn of(record: &UserRecord, rules: &Rules) -> Self {
        let mut spans = Vec::with_capacity(record.sessions.len() + 1);
        let opens = opens_that_matter(record);
        let mut marks = Marks::default();
        for session in record.sessions.values() {
            session_spans(session, &opens, &mut marks, rules, |span| spans.push(span));
        }
        let is_needed = |leased: &Timestamp| !spans.iter().any(|span| span.from < *leased && *leased < span.to);
        let leases = record.leases().filter(is_needed);
        let leases = leases.map(|from| lease_span(record, from, rules));
        let leases: Vec<Span> = leases.filter(|lease| lease.from < lease.to).collect();
        spans.extend(leases);
        spans.sort_unstable();
        Self { spans }
    }

    /// What lives at the moment.
    pub(super) fn live(&self, now: Timestamp) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(move |span| span.contains(now))
    }

    /// The moments after one and up to another at which something ended, in order.
    pub(super) fn ends(&self, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut ends: Vec<Timestamp> =
            self.spans.iter().map(|span| span.to).filter(|end| after < *end && *end <= until).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// When the user's own activity ends or ended, counted from its anchor: when no session is left. None if it never
    /// ran, or ended so long ago that nothing is known of it.
    pub(super) fn end_of(&self, activity: &RunningActivity) -> Option<Timestamp> {
        let span = self.live(activity.anchor).next()?;
        Some(self.reach(span.to))
    }

    /// The same of a voice activity, which waits for its user's session if it came before it.
    pub(super) fn end_of_voice(&self, voice: &Voice, rules: &Rules) -> Option<Timestamp> {
        if let Some(end) = self.end_of(&voice.activity) {
            return Some(end);
        }
        if voice.activity.anchor != voice.created_at {
            return None;
        }
        let waits_until = voice.created_at + rules.heartbeat_timeout;
        let first = self.spans.iter().find(|span| voice.created_at < span.from && span.from < waits_until);
        Some(first.map_or(waits_until, |span| self.reach(span.to)))
    }

    /// Until when there is a session without a gap.
    fn reach(&self, end: Timestamp) -> Timestamp {
        self.spans.iter().fold(end, |end, span| if span.from <= end { end.max(span.to) } else { end })
    }
}

/// The lease counts until a session opens or closes, at most for one timeout.
fn lease_end(record: &UserRecord, leased: Timestamp, rules: &Rules) -> Timestamp {
    let heard = record.sessions.values().flat_map(|session| session.opens_and_closes()).map(|mark| mark.at);
    heard.filter(|at| *at >= leased).fold(leased + rules.heartbeat_timeout, Timestamp::min)
}

/// When one session lived, given the opens that may end its resume grace.
fn session_spans(session: &Session, opens: &[Timestamp], marks: &mut Marks, rules: &Rules, mut tell: impl FnMut(Span)) {
    marks.read(session, rules);
    marks.lives(rules, |life| {
        let resumed = life.broke.and_then(|broke| first_after(opens, broke));
        let to = resumed.map_or(life.to, |opened| life.to.min(opened));
        if life.from < to {
            tell(Span { from: life.from, to, platform: session.platform, broke: life.broke });
        }
    });
}

/// The latest time in which one session of a record lived.
pub(super) fn last_span(record: &UserRecord, session: &Session, rules: &Rules) -> Option<Span> {
    let mut last = None;
    session_spans(session, &opens_that_matter(record), &mut Marks::default(), rules, |span| last = Some(span));
    last
}

/// The time in which a lease counts.
pub(super) fn lease_span(record: &UserRecord, leased: Timestamp, rules: &Rules) -> Span {
    Span { from: leased, to: lease_end(record, leased, rules), platform: Platform::Web, broke: None }
}

/// When sessions opened, in order, where some session broke that an open may end.
fn opens_that_matter(record: &UserRecord) -> Vec<Timestamp> {
    if record.sessions.values().any(|session| session.ever_broke()) { opens(record) } else { Vec::new() }
}

/// When sessions opened, in order.
fn opens(record: &UserRecord) -> Vec<Timestamp> {
    let marks = record.sessions.values().flat_map(|session| session.opens_and_closes());
    let mut opens: Vec<Timestamp> = marks.filter(Mark::is_open).map(|mark| mark.at).collect();
    opens.sort_unstable();
    opens
}

/// The first of these moments, which are in order, after another.
fn first_after(moments: &[Timestamp], after: Timestamp) -> Option<Timestamp> {
    moments.get(moments.partition_point(|moment| *moment <= after)).copied()
}
