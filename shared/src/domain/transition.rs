//! How a record changes: time passes ([`UserRecord::settle`]), and things happen ([`UserRecord::apply`]). Inputs only
//! add facts, so that late, repeated and reordered ones end in the same state; what others then see differently is a
//! visible change, which raises the version and is marked pending.

use std::time::Duration;

use super::record::{Choice, Pending, RunningActivity, UserRecord, Voice};
use super::rules::{EARLIER_LIMIT, PENDING_LIMIT, UPDATE_LIMIT, UPDATE_WINDOW};
use super::timeline::Timeline;
use super::{
    ActivityKind, ActivityName, ActivityUpdate, Cause, Input, InputKind, Intent, Platform, Presence, Rules, Session,
    SessionId, Status, StatusUpdate, Timestamp, Traceparent,
};

/// The user changed their status too often. Nothing was changed by the refused update, and it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many status updates")]
pub struct RateLimited {
    /// When the next one can succeed.
    pub retry_after: Duration,
}

/// What others saw change.
struct Change {
    from: Status,
    presence: Presence,
    status: bool,
    activity: bool,
    at: Timestamp,
}

/// Which of two choices made at one moment is the later.
#[derive(Clone, Copy)]
enum Tie {
    /// The one that came last: updates come once, in the order in which they are answered.
    ByArrival,
    /// The same one everywhere, and the invisible one before all: events come in any order, and again.
    ByIntent,
}

/// Rises with each change, also where the store has lost its last writes.
fn next_version(version: u64, at: Timestamp) -> u64 {
    version.saturating_add(1).max(at.millis() as u64)
}

impl UserRecord {
    /// What others see at `now`. Tells the same before the sweep as after it: deadlines that passed are settled on a
    /// copy.
    pub fn read(&self, now: Timestamp, rules: &Rules) -> Presence {
        let now = now.max(self.settled_at);
        let timeline = self.timeline(rules);
        if self.lapsed.is_none() && timeline.ends(self.settled_at, now).is_empty() {
            return self.look(&timeline, now, rules);
        }
        let mut copy = self.clone();
        copy.settle(&timeline, now, rules);
        copy.look(&timeline, now, rules)
    }

    /// Accounts for what ended by `now` and forgets what can't matter any more: the sweep.
    pub fn expire(&mut self, now: Timestamp, trace: &Traceparent, rules: &Rules) {
        let now = now.max(self.settled_at);
        let timeline = self.timeline(rules);
        let changes = self.settle(&timeline, now, rules);
        self.mark_all(changes, Cause::Deadline, trace);
        self.forget(&timeline, now, rules);
    }

    /// Decides one input at `now`, after settling up to it. A `now` before something that is settled is a clock that
    /// is behind another's, and counts as that moment.
    pub fn apply(
        &mut self,
        input: &Input,
        now: Timestamp,
        trace: &Traceparent,
        rules: &Rules,
    ) -> Result<(), RateLimited> {
        let now = now.max(self.settled_at);
        let timeline = self.timeline(rules);
        let changes = self.settle(&timeline, now, rules);
        self.mark_all(changes, Cause::Deadline, trace);
        let before = self.look(&timeline, now, rules);
        self.learn(input, now, rules)?;
        let timeline = self.timeline(rules);
        let after = self.look(&timeline, now, rules);
        let change = self.change(&before, after, now);
        self.mark_all(change, Cause::from(&input.kind), trace);
        self.forget(&timeline, now, rules);
        Ok(())
    }

    /// Learns of a heartbeat at `now` the short way, which decides nothing and looks the same as deciding it in full.
    /// Gives back the session's latest heartbeat, or none if there is something to decide.
    pub fn renew(
        &mut self,
        session_id: &SessionId,
        platform: Option<Platform>,
        at: Timestamp,
        now: Timestamp,
        rules: &Rules,
    ) -> Option<Timestamp> {
        if !self.pending.is_empty() || self.renewable_session(rules) != Some(session_id) {
            return None;
        }
        let session = self.sessions.get_mut(session_id)?;
        let known = session.heartbeat.filter(|beat| now < *beat + rules.heartbeat_timeout)?;
        let moves = session.opened_at.is_none() && platform.is_some_and(|named| named < session.platform);
        // One from before its life may tell that it began sooner, or of another life.
        if moves || Some(at) < session.since {
            return None;
        }
        session.touch(at);
        Some(known.max(at))
    }

    /// Accounts for every deadline up to `now`, each with its own version. Gives back what others saw change.
    fn settle(&mut self, timeline: &Timeline, now: Timestamp, rules: &Rules) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(deadline) = self.lapsed.take() {
            changes.extend(self.lapse(deadline, timeline, now, rules));
        }
        for deadline in timeline.ends(self.settled_at, now) {
            let before = self.look(timeline, self.settled_at, rules);
            self.settled_at = deadline;
            let after = self.look(timeline, deadline, rules);
            changes.extend(self.change(&before, after, deadline));
        }
        self.settled_at = self.settled_at.max(now);
        changes
    }

    /// The store has forgotten the sessions of a user who was last seen online: only the deadline is left. One that is
    /// still to come passes now, since a read can't tell of sessions that nobody knows.
    fn lapse(&mut self, deadline: Timestamp, timeline: &Timeline, now: Timestamp, rules: &Rules) -> Option<Change> {
        if !self.choice.intent.is_visible() || self.version >= deadline.millis() as u64 {
            return None;
        }
        let at = deadline.min(now);
        self.version = next_version(self.version, at);
        self.last_sign = self.last_sign.max(Some((deadline - rules.heartbeat_timeout).min(now)));
        self.settled_at = self.settled_at.max(at);
        let presence = self.look(timeline, at, rules);
        let from = self.choice.intent.shown();
        Some(Change { from, presence, status: true, activity: false, at })
    }

    /// What others see differently after something than before it: raises the version.
    fn change(&mut self, before: &Presence, mut after: Presence, at: Timestamp) -> Option<Change> {
        let status = !after.has_status_of(before);
        let activity = before.activities != after.activities && after.status != Status::Offline;
        if !status && !activity {
            return None;
        }
        self.version = next_version(self.version, at);
        after.version = self.version;
        Some(Change { from: before.status, presence: after, status, activity, at })
    }

    fn mark_all(&mut self, changes: impl IntoIterator<Item = Change>, cause: Cause, trace: &Traceparent) {
        for Change { from, presence, status, activity, at } in changes {
            self.mark(Pending { presence, status, activity, at, trace: trace.clone(), from: Some(from), cause });
        }
    }

    /// Queues a change. A full queue gives up changes from its newer end, so that what is told afterwards still
    /// begins where the last telling ended, still differs from one to the next, and ends with the latest.
    fn mark(&mut self, mut change: Pending) {
        if self.pending.len() < PENDING_LIMIT {
            self.pending.push(change);
            return;
        }
        let visible = change.presence.status != Status::Offline;
        let mut given_up = self.pending.pop();
        while let Some(last) = self.pending.pop_if(|last| last.tells_status_of(&change.presence)) {
            given_up = Some(last);
        }
        match (self.pending.last(), given_up) {
            (Some(last), _) => {
                change.status = true;
                change.activity = visible && last.presence.activities != change.presence.activities;
            }
            // What stood before the queue is known only by what its first change told of.
            (None, Some(first)) => {
                change.status = first.status;
                change.activity =
                    visible && (first.activity || first.presence.activities != change.presence.activities);
            }
            (None, None) => {}
        }
        if change.status || change.activity {
            self.pending.push(change);
        }
    }

    fn learn(&mut self, input: &Input, now: Timestamp, rules: &Rules) -> Result<(), RateLimited> {
        if input.proves_nothing(now, rules) {
            return Ok(());
        }
        let at = input.at.min(now);
        match &input.kind {
            InputKind::StatusUpdated(update) => self.update(update, at, now, rules)?,
            InputKind::Opened { session_id, platform, status } => {
                self.session(session_id).open(at, *platform, rules);
                self.sign(at);
                if let Some(intent) = status {
                    self.choose(*intent, at, Tie::ByIntent);
                }
            }
            InputKind::Heartbeat { session_id, platform } => {
                self.session(session_id).renew(at, *platform, rules);
                self.sign(at);
            }
            InputKind::Closed { session_id, abnormal } => {
                self.session(session_id).close(at, *abnormal, rules);
                self.sign(at);
            }
            InputKind::VoiceCreated { session_id, name } => self.begin_voice(session_id, name, at),
            InputKind::VoiceEnded { session_id } => {
                let ended = self.voice_ended.entry(session_id.clone()).or_insert(at);
                *ended = at.max(*ended);
            }
        }
        self.evict(now, rules);
        Ok(())
    }

    fn update(
        &mut self,
        update: &StatusUpdate,
        at: Timestamp,
        now: Timestamp,
        rules: &Rules,
    ) -> Result<(), RateLimited> {
        // A store that did not answer in time may have written it all the same, and it is decided again.
        if self.has_learned(update, at) {
            return Ok(());
        }
        let recent = self.updates.iter().filter(|earlier| now < **earlier + UPDATE_WINDOW);
        if let Some(oldest) = recent.rev().nth(UPDATE_LIMIT - 1) {
            return Err(RateLimited { retry_after: (*oldest + UPDATE_WINDOW).since(now) });
        }
        self.updates.push(now);
        self.sign(at);
        if let Some(intent) = update.status {
            if intent.is_visible() {
                self.lease(at);
            }
            self.choose(intent, at, Tie::ByArrival);
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

    /// Whether everything that the update names is known from just then.
    fn has_learned(&self, update: &StatusUpdate, at: Timestamp) -> bool {
        let status = update.status.map(|intent| (self.choice.at, self.choice.intent) == (at, intent));
        let custom_status = update.custom_status.as_ref();
        let custom_status = custom_status.map(|text| self.custom_status.at == at && self.custom_status.value == *text);
        let own = self.own_activity.value.as_ref().map(|own| (own.kind, &own.name));
        let activity = update.activity.as_ref().map(|activity| {
            self.own_activity.at == at && own == activity.as_ref().map(|activity| (activity.kind, &activity.name))
        });
        let named = [status, custom_status, activity];
        named.iter().any(Option::is_some) && named.iter().flatten().all(|known| *known)
    }

    /// The later choice wins; a late one may still tell that the current run of visible or invisible choices began
    /// after it.
    ///
    /// What others may have read does not go back: an invisible user's `last_seen` is the latest sign of life that was
    /// known when the choice was learned, be it later than the choice.
    fn choose(&mut self, intent: Intent, at: Timestamp, tie: Tie) {
        let before = self.choice;
        let mut choices = std::mem::take(&mut self.earlier_choices);
        choices.push(before);
        let known = |choice: &Choice| (choice.at, choice.intent) == (at, intent);
        let is_earlier = |choice: &Choice| match tie {
            Tie::ByArrival => choice.at <= at,
            Tie::ByIntent => (choice.at, choice.intent) < (at, intent),
        };
        let place = choices.iter().take_while(|choice| is_earlier(choice)).count();
        if place > 0 && !choices.iter().any(known) {
            choices.insert(place, Choice { intent, at, since: at });
            for index in place..choices.len() {
                let (previous, choice) = (choices[index - 1], &mut choices[index]);
                let goes_on = previous.intent.is_visible() == choice.intent.is_visible();
                choice.since = if goes_on { previous.since } else { choice.at };
            }
        }
        self.choice = choices.pop().unwrap_or(before);
        choices.drain(..choices.len().saturating_sub(EARLIER_LIMIT));
        self.earlier_choices = choices;
        self.freeze(before);
    }

    fn freeze(&mut self, before: Choice) {
        self.frozen_last_seen = match (before.intent.is_visible(), self.choice.intent.is_visible()) {
            (_, true) => None,
            (true, false) => self.last_sign_of_life(),
            (false, false) if self.choice.since > before.since => self.frozen_last_seen.max(Some(self.choice.since)),
            (false, false) => self.frozen_last_seen,
        };
    }

    fn lease(&mut self, at: Timestamp) {
        if self.leases().any(|leased| leased == at) {
            return;
        }
        let mut leases: Vec<Timestamp> = self.leases().chain([at]).collect();
        leases.sort_unstable();
        self.leased_at = leases.pop();
        self.earlier_leases = leases;
    }

    /// The same activity sent again keeps its beginning.
    fn begin_activity(&self, activity: &ActivityUpdate, at: Timestamp, rules: &Rules) -> RunningActivity {
        let timeline = self.timeline(rules);
        let current = self.running_own(&timeline, at);
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
        let activity =
            RunningActivity { kind: ActivityKind::Listening, name: name.clone(), started_at: at, anchor: at };
        let new = Voice { session_id: session_id.clone(), created_at: at, activity };
        let mut voices = std::mem::take(&mut self.earlier_voices);
        voices.extend(self.voice.take());
        let order = |voice: &Voice| (voice.created_at, voice.session_id.clone(), voice.activity.name.clone());
        if let Err(place) = voices.binary_search_by_key(&order(&new), order) {
            voices.insert(place, new);
        }
        self.voice = voices.pop();
        voices.drain(..voices.len().saturating_sub(EARLIER_LIMIT));
        self.earlier_voices = voices;
    }

    fn session(&mut self, session_id: &SessionId) -> &mut Session {
        self.sessions.entry(session_id.clone()).or_insert_with(Session::unknown)
    }

    fn sign(&mut self, at: Timestamp) {
        self.last_sign = self.last_sign.max(Some(at));
    }

    /// Whether something that must outlive the sessions changed since `earlier`: a choice, or how the user looks now
    /// that they are gone.
    pub fn outlives(&self, earlier: &UserRecord, now: Timestamp, rules: &Rules) -> bool {
        let chose = (&self.choice, &self.custom_status) != (&earlier.choice, &earlier.custom_status);
        let now = now.max(self.settled_at);
        let look = self.look(&self.timeline(rules), now, rules);
        let before = earlier.look(&earlier.timeline(rules), now, rules);
        let left = look.status == Status::Offline
            && (look.version, look.last_seen, before.status) != (before.version, before.last_seen, Status::Offline);
        chose || left
    }
}
