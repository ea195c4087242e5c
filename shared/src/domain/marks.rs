//! The facts about a session in the order of time, and the lives that follow from them. Whatever the order in which
//! they were learned, they are read in this one.

use super::rules::EARLIER_LIMIT;
use super::session::Session;
use super::{Platform, Rules, Timestamp};

/// One fact about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: MarkKind,
}

/// What can be heard of a session, in the order in which it counts at one moment: a close is the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkKind {
    /// An open, and where the session runs.
    Opened(Platform),
    /// A heartbeat, and where the session runs if it says so.
    Beat(Option<Platform>),
    /// A heartbeat that stands for others before it, which are not kept: from the sign of life before it up to here
    /// the session was heard of without a gap.
    Lived(Option<Platform>),
    /// An abnormal close.
    Broke,
    /// A regular close.
    Ended,
}

/// A time in which a session lived: from its first moment, up to but without its last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) from: Timestamp,
    /// When it ends, if no session of the user opens after `broke`.
    pub(super) to: Timestamp,
    /// The abnormal close after which it lingers.
    pub(super) broke: Option<Timestamp>,
}

/// All that is known of a session, in order.
#[derive(Default)]
pub(super) struct Marks(Vec<Mark>);

impl Mark {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.kind, MarkKind::Opened(_))
    }

    fn is_lived(&self) -> bool {
        matches!(self.kind, MarkKind::Lived(_))
    }

    /// Where a heartbeat said that the session runs.
    fn said(&self) -> Option<Platform> {
        match self.kind {
            MarkKind::Beat(platform) | MarkKind::Lived(platform) => platform,
            _ => None,
        }
    }

    pub(super) fn is_close(&self) -> bool {
        matches!(self.kind, MarkKind::Broke | MarkKind::Ended)
    }

    pub(super) fn is_heartbeat(&self) -> bool {
        matches!(self.kind, MarkKind::Beat(_) | MarkKind::Lived(_))
    }
}

impl Marks {
    pub(super) fn of(session: &Session, rules: &Rules) -> Self {
        let mut marks = Self::default();
        marks.read(session, rules);
        marks
    }

    /// Takes the marks of another session instead.
    pub(super) fn read(&mut self, session: &Session, rules: &Rules) {
        self.0.clear();
        self.0.extend_from_slice(&session.earlier);
        self.0.extend(session.field_marks());
        self.0.sort_unstable();
        self.drop_repeated();
        let mut index = 1;
        while let Some(mark) = self.0.get(index).copied() {
            if self.follows_unheard(index, session, rules) && !self.is_lived(index) {
                let lived = Mark { kind: MarkKind::Lived(mark.said()), ..mark };
                if mark.is_open() {
                    self.0.insert(index + 1, lived);
                } else {
                    self.0[index] = lived;
                }
            }
            index += 1;
        }
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Mark> {
        self.0.iter()
    }

    /// The lives that follow, in order, told one by one. Gives back the marks from the close on that was the last
    /// word; none if there was no close, or if the session was opened again or adopted after it.
    pub(super) fn lives(&self, rules: &Rules, mut tell: impl FnMut(Life)) -> &[Mark] {
        let mut life: Option<Life> = None;
        let mut closing: Option<usize> = None;
        for (index, mark) in self.0.iter().enumerate() {
            let at = mark.at;
            if mark.is_close() {
                let lived = self.is_lived(index + 1);
                match &mut life {
                    Some(life) if closing.is_none() && (at < life.to || lived) => {
                        let deadline = if lived { at + rules.heartbeat_timeout } else { life.to };
                        let broke = mark.kind == MarkKind::Broke;
                        life.broke = broke.then_some(at);
                        life.to = if broke { deadline.min(at + rules.resume_grace) } else { at };
                    }
                    // It lingers.
                    Some(life) if closing.is_some() && mark.kind == MarkKind::Ended => life.to = life.to.min(at),
                    _ => {}
                }
                closing = closing.or(Some(index));
                continue;
            }
            if self.is_void(index, rules) {
                continue;
            }
            let deadline = at + rules.heartbeat_timeout;
            match &mut life {
                Some(life) if closing.is_none() && (at < life.to || self.is_lived(index)) => life.to = deadline,
                _ => life.replace(Life { from: at, to: deadline, broke: None }).into_iter().for_each(&mut tell),
            }
            closing = None;
        }
        life.into_iter().for_each(tell);
        closing.map_or(&[], |first| &self.0[first..])
    }

    /// The latest open, and where the session runs: as that says, else as its heartbeats say. What was heard before a
    /// time in which the session counted as never heard of is not meant.
    pub(super) fn opened(&self, rules: &Rules) -> (Option<Timestamp>, Platform) {
        let (mut opened, mut said) = (None, None);
        let mut closed = false;
        let mut known_until = Timestamp::default();
        for (index, mark) in self.0.iter().enumerate() {
            if known_until <= mark.at && (closed || !self.is_lived(index)) {
                (opened, said, closed) = (None, None, false);
            }
            if let MarkKind::Opened(platform) = mark.kind {
                opened = Some((mark.at, platform));
            }
            if !closed {
                said = said.into_iter().chain(mark.said()).min();
            }
            closed = mark.is_close() || closed && !mark.is_open();
            if mark.is_close() {
                known_until = mark.at + rules.memory();
            } else if !closed {
                known_until = mark.at + rules.heartbeat_timeout + rules.memory();
            }
        }
        let platform = opened.map(|(_, platform)| platform).or(said).unwrap_or_default();
        (opened.map(|(at, _)| at), platform)
    }

    /// Adds what was learned. False if it was known.
    pub(super) fn add(&mut self, mark: Mark) -> bool {
        let beat = mark.kind == MarkKind::Beat(None);
        let known = |old: &Mark| *old == mark || old.at == mark.at && beat && !old.is_close();
        if self.0.iter().any(known) {
            return false;
        }
        let place = self.0.partition_point(|old| *old < mark);
        let first = self.0.partition_point(|old| old.at < mark.at);
        let lived = !mark.is_close() && self.is_lived(first);
        self.0.insert(place, mark);
        if lived {
            self.0.insert(place + 1, Mark { kind: MarkKind::Lived(mark.said()), ..mark });
        }
        self.drop_repeated();
        true
    }

    /// Drops heartbeats between others, where nothing that may still be heard could tell the difference.
    ///
    /// A heartbeat matters as the last one before a break: the session lingers until its deadline, if that comes before
    /// the end of the grace. So it does not matter where no break can come late any more, nor where the next is so near
    /// that the grace ends first.
    pub(super) fn thin(&mut self, rules: &Rules) {
        let Some(newest) = self.0.last().map(|mark| mark.at) else { return };
        let near = rules.heartbeat_timeout.saturating_sub(rules.resume_grace);
        let mut beginnings = Vec::new();
        self.lives(rules, |life| beginnings.push(life.from));
        let is_heard = |from: &Mark, to: &Mark| to.is_lived() || to.at < from.at + rules.heartbeat_timeout;
        let is_near = |from: &Mark, to: &Mark| to.at <= from.at + near;
        let is_settled =
            |from: &Mark, to: &Mark| is_near(from, to) || to.is_lived() || to.at + rules.heartbeat_timeout <= newest;
        let mut index = 1;
        while let Some([before, mark, next]) = self.0.get(index - 1..index + 2) {
            let between = !before.is_close() && mark.is_heartbeat() && next.is_heartbeat() && before.at < mark.at;
            let heard = is_heard(before, mark) && is_heard(mark, next);
            let settled = is_settled(before, mark) && is_settled(mark, next);
            let within = !beginnings.contains(&mark.at) && !beginnings.contains(&next.at);
            if between && heard && settled && within {
                let said = mark.said().into_iter().chain(next.said()).min();
                let near = is_near(before, next) && !next.is_lived();
                self.0[index + 1].kind = if near { MarkKind::Beat(said) } else { MarkKind::Lived(said) };
                self.0.remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Forgets what came before the last sign of life at the horizon.
    pub(super) fn forget_before(&mut self, horizon: Timestamp) {
        let last = self.0.iter().rposition(|mark| !mark.is_close() && mark.at <= horizon);
        self.0.drain(..last.unwrap_or_default());
    }

    /// What the fields of the session don't tell, at most [`EARLIER_LIMIT`].
    pub(super) fn not_told_by(&self, session: &Session, rules: &Rules) -> Vec<Mark> {
        let is_told = |index: usize, mark: &Mark| {
            let told_at = || session.field_marks().any(|told| told.is_heartbeat() && told.at == mark.at);
            match mark.kind {
                MarkKind::Beat(_) => told_at(),
                MarkKind::Lived(_) => self.follows_unheard(index, session, rules) && told_at(),
                _ => session.field_marks().any(|told| told == *mark),
            }
        };
        let rest = self.0.iter().enumerate().filter(|(index, mark)| !is_told(*index, mark));
        let mut rest: Vec<Mark> = rest.map(|(_, mark)| *mark).collect();
        rest.drain(..rest.len().saturating_sub(EARLIER_LIMIT));
        rest
    }

    /// Whether the sign of life belongs to the latest life, which has no gap, although nothing is known of it for so
    /// long before that it would be one: what was heard in between is not kept.
    fn follows_unheard(&self, index: usize, session: &Session, rules: &Rules) -> bool {
        let mark = self.0[index];
        let before = self.0[..index].iter().rfind(|mark| !mark.is_close());
        let gap = |before: &Mark| Some(before.at) >= session.since && mark.at >= before.at + rules.heartbeat_timeout;
        !mark.is_close() && !session.is_closed() && before.is_some_and(gap)
    }

    /// Whether it is a heartbeat of a session that is closed.
    fn is_void(&self, index: usize, rules: &Rules) -> bool {
        let mark = self.0[index];
        let before = self.0[..index].iter().rfind(|mark| mark.is_open() || mark.is_close());
        let by = |close: &Mark| close.is_close() && mark.at < close.at + rules.memory();
        mark.is_heartbeat() && before.is_some_and(by)
    }

    /// Whether the first sign of life from this place on is one before which there is no gap.
    fn is_lived(&self, index: usize) -> bool {
        let rest = &self.0[index.min(self.0.len())..];
        let Some(sign) = rest.iter().find(|mark| !mark.is_close()) else { return false };
        rest.iter().take_while(|mark| mark.at <= sign.at).any(Mark::is_lived)
    }

    /// Of several signs of life at one moment an open tells everything, else one heartbeat.
    fn drop_repeated(&mut self) {
        self.0.dedup_by(|mark, before| {
            if mark.at != before.at || mark.is_close() {
                return mark == before;
            }
            let said = before.said().into_iter().chain(mark.said()).min();
            match (before.kind, mark.kind) {
                (MarkKind::Opened(_), MarkKind::Opened(_) | MarkKind::Beat(_)) => return true,
                (MarkKind::Beat(_), MarkKind::Beat(_)) => before.kind = MarkKind::Beat(said),
                (_, MarkKind::Lived(_)) if before.is_heartbeat() => before.kind = MarkKind::Lived(said),
                _ => return false,
            }
            true
        });
    }
}
