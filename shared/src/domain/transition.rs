//! How a record changes: time passes ([`UserRecord::settle`]), and things happen ([`UserRecord::apply`]). Inputs only
//! add facts, so that late, repeated and reordered ones end in the same state; what others then see differently is a
//! visible change, which raises the version and is marked pending.

use std::time::Duration;

use super::record::{Pending, RunningActivity, UserRecord, Voice};
use super::rules::{PENDING_LIMIT, SESSION_LIMIT, UPDATE_LIMIT, UPDATE_WINDOW};
use super::session::Session;
use super::{
    ActivityKind, ActivityName, ActivityUpdate, Input, InputKind, Intent, Presence, Rules, SessionId, Status,
    StatusUpdate, Timestamp, Traceparent,
};

/// The user changed their status too often. Nothing was changed by the refused update, and it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many status updates")]
pub struct RateLimited {
    /// When the next one can succeed.
    pub retry_after: Duration,
}

impl UserRecord {
    /// What others see at `now`. Tells the same before the sweep as after it: deadlines that passed are settled on a
    /// copy.
    pub fn read(&self, now: Timestamp, rules: &Rules) -> Presence {
        if self.lapsed.is_none() && self.next_unsettled(now, rules).is_none() {
            return self.presence(now, rules);
        }
        let mut copy = self.clone();
        copy.settle(now, &Traceparent::generate(), rules);
        copy.presence(now, rules)
    }

    /// Accounts for what ended by `now` and forgets what can't matter any more: the sweep.
    pub fn expire(&mut self, now: Timestamp, trace: &Traceparent, rules: &Rules) {
        self.settle(now, trace, rules);
        self.forget(now, rules);
    }

    /// Accounts for every deadline up to `now`, each with its own version.
    fn settle(&mut self, now: Timestamp, trace: &Traceparent, rules: &Rules) {
        if let Some(deadline) = self.lapsed.take() {
            self.lapse(deadline.min(now), trace, rules);
        }
        while let Some(deadline) = self.next_unsettled(now, rules) {
            let before = self.presence(self.settled_at, rules);
            self.settled_at = deadline;
            self.tell(before, deadline, trace, rules);
        }
        self.settled_at = self.settled_at.max(now);
    }

    /// Decides one input at `now`, after settling up to it.
    pub fn apply(
        &mut self,
        input: &Input,
        now: Timestamp,
        trace: &Traceparent,
        rules: &Rules,
    ) -> Result<(), RateLimited> {
        self.settle(now, trace, rules);
        let before = self.presence(now, rules);
        self.learn(input, now, rules)?;
        self.forget(now, rules);
        self.tell(before, now, trace, rules);
        Ok(())
    }

    fn next_unsettled(&self, now: Timestamp, rules: &Rules) -> Option<Timestamp> {
        self.deadlines(rules).filter(|deadline| *deadline > self.settled_at && *deadline <= now).min()
    }

    /// The store has forgotten the sessions of a user who was last seen online: only the deadline is left.
    fn lapse(&mut self, deadline: Timestamp, trace: &Traceparent, rules: &Rules) {
        if !self.choice.intent.is_visible() || self.version >= deadline.millis() as u64 {
            return;
        }
        self.version = deadline.millis() as u64;
        self.last_sign = self.last_sign.max(Some(deadline - rules.heartbeat_timeout));
        self.settled_at = self.settled_at.max(deadline);
        let presence = self.presence(deadline, rules);
        self.mark(Pending { presence, status: true, activity: false, at: deadline, trace: trace.clone() });
    }

    /// Marks what others see differently now than `before`.
    fn tell(&mut self, before: Presence, at: Timestamp, trace: &Traceparent, rules: &Rules) {
        let mut after = self.presence(at, rules);
        let status = (before.status, &before.custom_status, &before.client_status)
            != (after.status, &after.custom_status, &after.client_status);
        let activity = before.activities != after.activities && after.status != Status::Offline;
        if status || activity {
            self.version = (self.version + 1).max(at.millis() as u64);
            after.version = self.version;
            self.mark(Pending { presence: after, status, activity, at, trace: trace.clone() });
        }
    }

    /// Queues a change. A full queue gives up changes from its newer end, so that what is told afterwards still
    /// begins where the last telling ended, still differs from one to the next, and ends with the latest.
    fn mark(&mut self, mut change: Pending) {
        if self.pending.len() >= PENDING_LIMIT {
            while let Some(last) = self.pending.last()
                && (self.pending.len() >= PENDING_LIMIT || last.tells_status_of(&change.presence))
            {
                change.status |= last.status;
                change.activity |= last.activity && change.presence.status != Status::Offline;
                self.pending.pop();
            }
        }
        self.pending.push(change);
    }

    fn learn(&mut self, input: &Input, now: Timestamp, rules: &Rules) -> Result<(), RateLimited> {
        let at = input.at.min(now);
        let proves_nothing = now >= at + rules.heartbeat_timeout;
        match &input.kind {
            InputKind::StatusUpdated(update) => self.update(update, at, now, rules)?,
            InputKind::Opened { .. } | InputKind::Heartbeat { .. } if proves_nothing => return Ok(()),
            InputKind::Opened { session_id, platform, status } => {
                self.session(session_id).open(at, *platform, rules);
                self.evict(session_id);
                self.sign(at);
                if let Some(intent) = status {
                    self.choose(*intent, at);
                }
            }
            InputKind::Heartbeat { session_id, platform } => {
                self.session(session_id).renew(at, *platform, rules);
                self.evict(session_id);
                self.sign(at);
            }
            InputKind::Closed { session_id, abnormal } => {
                self.session(session_id).close(at, *abnormal);
                self.evict(session_id);
                self.sign(at);
            }
            InputKind::VoiceCreated { session_id, name } => self.begin_voice(session_id, name, at),
            InputKind::VoiceEnded { session_id } => {
                let ended = self.voice_ended.entry(session_id.clone()).or_insert(at);
                *ended = at.max(*ended);
            }
        }
        Ok(())
    }

    fn update(
        &mut self,
        update: &StatusUpdate,
        at: Timestamp,
        now: Timestamp,
        rules: &Rules,
    ) -> Result<(), RateLimited> {
        self.updates.retain(|earlier| now < *earlier + UPDATE_WINDOW);
        if self.updates.len() >= UPDATE_LIMIT {
            let oldest = self.updates[self.updates.len() - UPDATE_LIMIT];
            return Err(RateLimited { retry_after: (oldest + UPDATE_WINDOW).since(now) });
        }
        self.updates.push(now);
        self.sign(at);
        if let Some(intent) = update.status {
            if intent.is_visible() && !self.has_live_session(at, rules) {
                self.leased_at = self.leased_at.max(Some(at));
            }
            self.choose(intent, at);
        }
        if let Some(custom_status) = &update.custom_status
            && at >= self.custom_status.at
        {
            self.custom_status.value = custom_status.clone();
            self.custom_status.at = at;
        }
        if let Some(activity) = &update.activity
            && at >= self.own_activity.at
        {
            self.own_activity.value = activity.as_ref().map(|activity| self.begin_activity(activity, at, rules));
            self.own_activity.at = at;
        }
        Ok(())
    }

    /// The later choice wins. A late one of the other kind still tells that the current run began after it.
    fn choose(&mut self, intent: Intent, at: Timestamp) {
        let turns = intent.is_visible() != self.choice.intent.is_visible();
        if at < self.choice.at {
            if turns && at >= self.choice.since {
                self.choice.since = self.choice.at;
            }
            return;
        }
        if turns {
            self.choice.since = at;
            self.frozen_last_seen = if intent.is_visible() { None } else { self.last_sign_of_life().max(Some(at)) };
        }
        self.choice.intent = intent;
        self.choice.at = at;
    }

    /// The same activity sent again keeps its beginning.
    fn begin_activity(&self, activity: &ActivityUpdate, at: Timestamp, rules: &Rules) -> RunningActivity {
        let current = self.own_activity.value.as_ref().filter(|own| self.runs(own, None, at, rules));
        let same = current.filter(|own| own.kind == activity.kind && own.name == activity.name);
        RunningActivity {
            kind: activity.kind,
            name: activity.name.clone(),
            started_at: same.map_or(at, |own| own.started_at),
            anchor: at,
        }
    }

    /// The voice session that was created last is the user's; of two at one moment, one is chosen the same everywhere.
    fn begin_voice(&mut self, session_id: &SessionId, name: &ActivityName, at: Timestamp) {
        let current = self.voice.as_ref().map(|voice| (voice.activity.started_at, &voice.session_id));
        if current.is_none_or(|current| current < (at, session_id)) {
            let kind = ActivityKind::Listening;
            let activity = RunningActivity { kind, name: name.clone(), started_at: at, anchor: at };
            self.voice = Some(Voice { session_id: session_id.clone(), activity });
        }
    }

    fn session(&mut self, session_id: &SessionId) -> &mut Session {
        self.sessions.entry(session_id.clone()).or_insert_with(Session::unknown)
    }

    fn sign(&mut self, at: Timestamp) {
        self.last_sign = self.last_sign.max(Some(at));
    }

    /// Keeps the sessions within their limit, and the tombstones within the same: the stalest goes first.
    fn evict(&mut self, newcomer: &SessionId) {
        let Some(closed) = self.sessions.get(newcomer).map(Session::is_closed) else { return };
        let alike = || self.sessions.iter().filter(|(_, session)| session.is_closed() == closed);
        if alike().count() > SESSION_LIMIT {
            let stalest = alike().min_by_key(|(_, session)| session.last_sign()).map(|(id, _)| id.clone());
            if let Some(session) = stalest.and_then(|id| self.sessions.remove(&id)) {
                self.last_sign = self.last_sign.max(session.last_sign());
            }
        }
    }

    /// Drops what can't matter any more: everything that ended longer ago than anything may come late.
    fn forget(&mut self, now: Timestamp, rules: &Rules) {
        let memory = rules.memory();
        let gone = |end: Timestamp| end + memory <= now;

        let own = self.own_activity.value.as_ref();
        if own.is_some_and(|own| self.ends(own, None, rules).is_none_or(gone)) {
            self.own_activity.value = None;
        }
        let voice_ended = self.voice.as_ref().and_then(|voice| self.voice_ended.get(&voice.session_id).copied());
        let ran_out =
            self.voice.as_ref().and_then(|voice| self.ends(&voice.activity, Some(rules.heartbeat_timeout), rules));
        let over = voice_ended.filter(|_| self.running_voice().is_none()).into_iter().chain(ran_out).min();
        if over.is_some_and(gone) {
            self.voice = None;
        }
        let voice_id = self.voice.as_ref().map(|voice| voice.session_id.clone());
        self.voice_ended.retain(|id, ended| !gone(*ended) || Some(&*id) == voice_id.as_ref());
        while self.voice_ended.len() > SESSION_LIMIT
            && let Some(oldest) = self.voice_ended.iter().min_by_key(|(_, ended)| **ended).map(|(id, _)| id.clone())
        {
            self.voice_ended.remove(&oldest);
        }

        let over = |session: &Session| {
            let end = session.ends_at(rules, |_| None).max(session.last_sign());
            end.is_some_and(gone)
        };
        let over: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| over(session)).map(|(id, _)| id.clone()).collect();
        for id in over {
            self.forget_session(&id, rules);
        }
        if self.leased_at.is_some_and(|leased| gone(leased + rules.heartbeat_timeout)) {
            self.leased_at = None;
        }
        self.updates.retain(|earlier| now < *earlier + UPDATE_WINDOW);
    }

    /// What still runs has run through the end of a session that is forgotten: other sessions carried it on.
    fn forget_session(&mut self, id: &SessionId, rules: &Rules) {
        let Some(session) = self.sessions.get(id) else { return };
        let (last_sign, end) = (session.last_sign(), self.span(session, rules).map(|(_, end)| end));
        self.sessions.remove(id);
        self.last_sign = self.last_sign.max(last_sign);
        let own = self.own_activity.value.as_mut();
        let voice = self.voice.as_mut().map(|voice| &mut voice.activity);
        for activity in own.into_iter().chain(voice) {
            activity.anchor = activity.anchor.max(end.unwrap_or_default());
        }
    }

    /// Whether something that must outlive the sessions changed since `earlier`: a choice, or how the user looks now
    /// that they are gone.
    pub fn outlives(&self, earlier: &UserRecord, now: Timestamp, rules: &Rules) -> bool {
        let chose = (&self.choice, &self.custom_status) != (&earlier.choice, &earlier.custom_status);
        let (look, before) = (self.presence(now, rules), earlier.presence(now, rules));
        let left = look.status == Status::Offline
            && (look.version, look.last_seen, before.status) != (before.version, before.last_seen, Status::Offline);
        chose || left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    fn trace() -> Traceparent {
        Traceparent::parse(TRACE).unwrap()
    }

    fn user() -> UserRecord {
        UserRecord::unknown("00000000-0000-4000-8000-000000000001".parse().unwrap())
    }

    fn happens(record: &mut UserRecord, at: Timestamp, kind: InputKind) {
        record.apply(&Input { at, kind }, at, &trace(), &Rules::default()).unwrap();
    }

    fn opens(id: &str) -> InputKind {
        InputKind::Opened { session_id: id.parse().unwrap(), platform: None, status: None }
    }

    fn closes(id: &str) -> InputKind {
        InputKind::Closed { session_id: id.parse().unwrap(), abnormal: false }
    }

    fn chooses(intent: Intent) -> InputKind {
        InputKind::StatusUpdated(StatusUpdate { status: Some(intent), ..StatusUpdate::default() })
    }

    fn told(record: &UserRecord) -> Vec<(Status, u64)> {
        record.pending.iter().map(|pending| (pending.presence.status, pending.presence.version)).collect()
    }

    fn version(at: Timestamp) -> u64 {
        at.millis() as u64
    }

    #[test]
    fn a_user_is_online_until_the_last_session_closes() {
        let mut record = user();
        happens(&mut record, at(0), opens("a"));
        happens(&mut record, at(1), opens("b"));
        happens(&mut record, at(2), closes("a"));
        happens(&mut record, at(3), closes("b"));
        assert_eq!(told(&record), [(Status::Online, version(at(0))), (Status::Offline, version(at(3)))]);
        assert_eq!(record.read(at(3), &Rules::default()).last_seen, Some(at(3)));
    }

    #[test]
    fn a_read_after_the_deadline_tells_what_the_sweep_will_tell() {
        let rules = Rules::default();
        let mut record = user();
        happens(&mut record, at(0), opens("a"));
        assert_eq!(record.read(at(44), &rules).status, Status::Online);
        let read = record.read(at(45), &rules);
        assert_eq!((read.status, read.version, read.last_seen), (Status::Offline, version(at(45)), Some(at(0))));
        record.expire(at(100), &trace(), &rules);
        assert_eq!(record.read(at(100), &rules), read);
        assert_eq!(told(&record).last(), Some(&(Status::Offline, version(at(45)))));
    }

    #[test]
    fn invisibility_looks_like_having_gone_offline() {
        let rules = Rules::default();
        let mut invisible = user();
        happens(&mut invisible, at(0), opens("a"));
        let mut offline = invisible.clone();
        happens(&mut invisible, at(5), chooses(Intent::Invisible));
        happens(&mut offline, at(5), closes("a"));
        for (seconds, input) in
            [(20, InputKind::Heartbeat { session_id: "a".parse().unwrap(), platform: None }), (30, opens("b"))]
        {
            happens(&mut invisible, at(seconds), input);
        }
        assert_eq!(invisible.read(at(31), &rules), offline.read(at(31), &rules));
        assert_eq!(invisible.pending, offline.pending);
        assert_eq!(invisible.own(at(31), &rules).intent, Intent::Invisible);
    }

    #[test]
    fn the_sixth_update_in_twenty_seconds_is_refused_and_does_not_count() {
        let rules = Rules::default();
        let mut record = user();
        for second in 0..5 {
            happens(&mut record, at(second), chooses(Intent::Idle));
        }
        let before = record.clone();
        let refused = record.apply(&Input { at: at(6), kind: chooses(Intent::Dnd) }, at(6), &trace(), &rules);
        assert_eq!(refused, Err(RateLimited { retry_after: Duration::from_secs(14) }));
        assert_eq!((record.choice, record.updates), (before.choice, before.updates));
    }
}
