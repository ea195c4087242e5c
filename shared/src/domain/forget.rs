//! What a record drops: what ended longer ago than anything may come late, and what is beyond its bounds.

use super::record::{RunningActivity, UserRecord, Voice};
use super::rules::SESSION_LIMIT;
use super::session::Session;
use super::timeline::Timeline;
use super::{Rules, SessionId, Timestamp, UPDATE_WINDOW};

impl UserRecord {
    /// Drops what can't matter any more. `timeline` is the record's own.
    pub(super) fn forget(&mut self, timeline: &Timeline, now: Timestamp, rules: &Rules) {
        let moment = now - rules.memory();
        let old = moment - rules.memory();
        self.carry_on(timeline, old, moment, rules);
        self.forget_choices(now, rules);
        self.updates.retain(|earlier| now < *earlier + UPDATE_WINDOW);
        let may_matter = |leased: &Timestamp| old < *leased + rules.heartbeat_timeout;
        self.earlier_leases.retain(may_matter);
        self.leased_at = self.leased_at.filter(may_matter);

        let horizon = now - rules.retention();
        self.forget_sessions(horizon, rules);
        self.forget_ended_voices(horizon);
    }

    /// Keeps the sessions within their limit, and those that ended within the same: the stalest goes first.
    pub(super) fn evict(&mut self, now: Timestamp, rules: &Rules) {
        if self.sessions.len() <= SESSION_LIMIT {
            return;
        }
        let timeline = self.timeline(rules);
        let is_live = |(_, session): &(&SessionId, &Session)| {
            let heard = session.heartbeat.is_some_and(|beat| now < beat + rules.heartbeat_timeout);
            heard && session.closed.is_none_or(|close| close.lingers(now, rules))
        };
        let (live, ended): (Vec<_>, Vec<_>) = self.sessions.iter().partition(is_live);
        let mut over: Vec<SessionId> = Vec::new();
        for mut sessions in [live, ended] {
            sessions.sort_by_key(|(_, session)| session.last_sign());
            let count = sessions.len().saturating_sub(SESSION_LIMIT);
            over.extend(sessions[..count].iter().map(|(id, _)| (*id).clone()));
        }
        if !over.is_empty() {
            self.carry_on(&timeline, now, now, rules);
        }
        over.iter().for_each(|id| self.forget_session(id));
    }

    fn forget_session(&mut self, id: &SessionId) {
        if let Some(session) = self.sessions.remove(id) {
            self.last_sign = self.last_sign.max(session.last_sign());
        }
    }

    fn forget_sessions(&mut self, horizon: Timestamp, rules: &Rules) {
        let is_gone = |session: &Session| session.over_at(rules) <= Some(horizon);
        let gone = self.sessions.iter().filter(|(_, session)| is_gone(session)).map(|(id, _)| id.clone());
        let gone: Vec<SessionId> = gone.collect();
        gone.iter().for_each(|id| self.forget_session(id));
        self.sessions.values_mut().for_each(|session| session.forget_before(horizon, rules));
    }

    /// Activities run from their anchor, so before the sessions of that time are forgotten: what ended by `moment` goes,
    /// and of what still runs and has an `old` anchor it is enough to know that it ran at the moment.
    fn carry_on(&mut self, timeline: &Timeline, old: Timestamp, moment: Timestamp, rules: &Rules) {
        self.forget_earlier_voices(timeline, old, moment, rules);
        let end = |own: &RunningActivity| timeline.end_of(own).unwrap_or(own.anchor);
        let end_of_voice = |voice: &Voice| timeline.end_of_voice(voice, rules).unwrap_or(voice.activity.anchor);
        self.own_activity.value.take_if(|own| end(own) <= moment);
        self.voice.take_if(|voice| end_of_voice(voice) <= moment);
        if self.voice.is_none() {
            self.earlier_voices.clear();
        }

        if timeline.live(moment).next().is_none() {
            return;
        }
        if let Some(own) = self.own_activity.value.as_mut().filter(|own| own.anchor <= old) {
            own.anchor = moment;
        }
        for voice in self.earlier_voices.iter_mut().chain(&mut self.voice) {
            if voice.activity.anchor <= old && moment < end_of_voice(voice) {
                voice.activity.anchor = moment;
            }
        }
    }

    /// The end of the voice session that came last is kept for as long as the user stays, lest its beginning is heard
    /// again.
    fn forget_ended_voices(&mut self, horizon: Timestamp) {
        let current = self.voice.as_ref().map(|voice| voice.session_id.clone());
        self.voice_ended.retain(|id, ended| *ended > horizon || Some(id) == current.as_ref());
        while self.voice_ended.len() > SESSION_LIMIT {
            let others = self.voice_ended.iter().filter(|(id, _)| Some(*id) != current.as_ref());
            let Some(oldest) = others.min_by_key(|(_, ended)| **ended).map(|(id, _)| id.clone()) else { break };
            self.voice_ended.remove(&oldest);
        }
    }

    /// A beginning can go when nothing can come between it and the next any more. The next keeps its moment if it was
    /// the same activity.
    fn forget_earlier_voices(&mut self, timeline: &Timeline, old: Timestamp, moment: Timestamp, rules: &Rules) {
        while let Some(first) = self.earlier_voices.first() {
            let Some(next) = self.earlier_voices.get(1).or(self.voice.as_ref()) else { return };
            let is_over = timeline.end_of_voice(first, rules).is_none_or(|end| end <= moment);
            if next.created_at > old && !is_over {
                return;
            }
            let began = first.activity.started_at;
            let continued = self.is_continued(first, next, timeline, rules);
            self.earlier_voices.remove(0);
            if let Some(next) = self.earlier_voices.first_mut().or(self.voice.as_mut()).filter(|_| continued) {
                next.activity.started_at = began;
            }
        }
    }

    /// Of the choices that nothing can precede any more only the last matters.
    fn forget_choices(&mut self, now: Timestamp, rules: &Rules) {
        let later = self.earlier_choices.iter().skip(1).chain([&self.choice]);
        let count = later.take_while(|choice| choice.at + rules.heartbeat_timeout <= now).count();
        self.earlier_choices.drain(..count.min(self.earlier_choices.len()));
    }
}
