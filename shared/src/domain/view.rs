//! What a record looks like at a moment: to others, and to the user. Everything here is computed, nothing is changed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::record::{RunningActivity, UserRecord, Voice};
use super::session::Session;
use super::timeline::Timeline;
use super::{Activity, Own, Platform, Presence, Rules, SessionId, Status, Timestamp};

impl UserRecord {
    /// What only the user themself may see of it.
    pub fn own(&self, now: Timestamp, rules: &Rules) -> Own {
        let timeline = self.timeline(rules);
        Own {
            intent: self.choice.intent,
            custom_status: self.custom_status.value.clone(),
            activity: self.running_own(&timeline, now.max(self.settled_at)).map(|own| self.shown(own, own.started_at)),
        }
    }

    /// The first moment after `now` at which others will see a change if nothing is heard of the user any more: when
    /// the last session on one of the platforms ends. None for a user who looks offline.
    pub fn next_deadline(&self, now: Timestamp, rules: &Rules) -> Option<Timestamp> {
        if !self.choice.intent.is_visible() {
            return None;
        }
        let mut last: BTreeMap<Platform, Timestamp> = BTreeMap::new();
        for span in self.timeline(rules).live(now.max(self.settled_at)) {
            let end = last.entry(span.platform).or_insert(span.to);
            *end = span.to.max(*end);
        }
        last.into_values().min()
    }

    /// Until when `last_seen` is told of a user who stays away; none if they were never seen.
    pub fn remembered_until(&self, rules: &Rules) -> Option<Timestamp> {
        self.last_sign_of_life().map(|seen| self.gone_at(seen) + rules.last_seen_ttl)
    }

    /// The session that a store may renew the short way: it is all that keeps a visible user online, and the last that is
    /// known of them. So its heartbeats move the next deadline and `last_seen`, and change nothing else that others see.
    pub fn renewable_session(&self, rules: &Rules) -> Option<&SessionId> {
        let timeline = self.timeline(rules);
        let mut live = timeline.live(self.settled_at);
        if !self.choice.intent.is_visible() || live.next().is_none() || live.next().is_some() {
            return None;
        }
        let (last_sign, settled) = (self.last_sign_of_life(), self.settled_at);
        let is_live = |session: &Session| session.over_at(rules).is_some_and(|over| settled < over);
        let is_it = |session: &Session| !session.is_closed() && session.since.is_some() && is_live(session);
        let mut sessions = self.sessions.iter().filter(|(_, session)| is_it(session));
        let (id, session) = sessions.next().filter(|_| sessions.next().is_none())?;
        (session.heartbeat == last_sign).then_some(id)
    }

    /// Whether nothing but the resume grace keeps the user online: a connection broke, and if its client does not come
    /// back others will see them leave.
    pub fn is_kept_by_grace(&self, now: Timestamp, rules: &Rules) -> bool {
        if !self.choice.intent.is_visible() || !self.sessions.values().any(Session::ever_broke) {
            return false;
        }
        let timeline = self.timeline(rules);
        let mut live = timeline.live(now).peekable();
        live.peek().is_some() && live.all(|span| span.broke.is_some_and(|broke| broke <= now))
    }

    pub(super) fn timeline(&self, rules: &Rules) -> Timeline {
        Timeline::of(self, rules)
    }

    /// What others see at `now`. Expects that every deadline up to `now` is settled; a read settles a copy first.
    pub(super) fn look(&self, timeline: &Timeline, now: Timestamp, rules: &Rules) -> Presence {
        let status = self.choice.intent.shown();
        let mut live = timeline.live(now).peekable();
        if status == Status::Offline || live.peek().is_none() {
            return self.offline(now, rules);
        }
        let activities = self.activities(timeline, now, rules);
        Presence {
            user_id: self.user_id,
            status,
            custom_status: self.custom_status.value.clone(),
            activity: activities.first().cloned(),
            activities,
            client_status: live.map(|span| (span.platform, status)).collect(),
            last_seen: self.last_sign_of_life(),
            version: self.version,
            own: None,
        }
    }

    /// Offline, or in every way like it: the look of a user whose sessions are gone or who is invisible.
    fn offline(&self, now: Timestamp, rules: &Rules) -> Presence {
        let visible = self.choice.intent.is_visible();
        let last_seen = if visible { self.last_sign_of_life() } else { self.frozen_last_seen };
        let last_seen = last_seen.filter(|seen| now < self.gone_at(*seen) + rules.last_seen_ttl);
        Presence {
            user_id: self.user_id,
            status: Status::Offline,
            custom_status: None,
            activity: None,
            activities: Vec::new(),
            client_status: BTreeMap::new(),
            last_seen,
            version: if last_seen.is_some() { self.version } else { 0 },
            own: None,
        }
    }

    /// When the user was gone: someone whose sessions ran out was gone later than they were seen, and their version
    /// tells when.
    fn gone_at(&self, seen: Timestamp) -> Timestamp {
        seen.max(Timestamp::from_millis(self.version.min(i64::MAX as u64) as i64))
    }

    /// The user's own activity and the one from voice, the latest first.
    fn activities(&self, timeline: &Timeline, now: Timestamp, rules: &Rules) -> Vec<Activity> {
        let own = self.running_own(timeline, now).map(|own| self.shown(own, own.started_at));
        let voice = self.running_voice(timeline, now, rules);
        let voice = voice.map(|voice| self.shown(&voice.activity, self.voice_began(voice, timeline, rules)));
        let mut activities: Vec<Activity> = own.into_iter().chain(voice).collect();
        activities.sort_by_key(|activity| Reverse(activity.started_at));
        activities
    }

    pub(super) fn running_own(&self, timeline: &Timeline, now: Timestamp) -> Option<&RunningActivity> {
        let runs = |own: &&RunningActivity| timeline.end_of(own).is_some_and(|end| now < end);
        self.own_activity.value.as_ref().filter(runs)
    }

    fn running_voice(&self, timeline: &Timeline, now: Timestamp, rules: &Rules) -> Option<&Voice> {
        let runs =
            |voice: &&Voice| !self.has_ended(voice) && timeline.end_of_voice(voice, rules).is_some_and(|end| now < end);
        self.voice.as_ref().filter(runs)
    }

    /// Whether the voice session ended. An end counts from the moment of the beginning on.
    pub(super) fn has_ended(&self, voice: &Voice) -> bool {
        self.voice_ended.get(&voice.session_id).is_some_and(|ended| voice.created_at <= *ended)
    }

    /// When the voice activity began: announced again while it runs, it keeps its beginning.
    fn voice_began(&self, voice: &Voice, timeline: &Timeline, rules: &Rules) -> Timestamp {
        let mut first = voice;
        for earlier in self.earlier_voices.iter().rev() {
            if !self.is_continued(earlier, first, timeline, rules) {
                break;
            }
            first = earlier;
        }
        first.activity.started_at
    }

    /// Whether `next` is the same voice activity, which has not ended in between.
    pub(super) fn is_continued(&self, voice: &Voice, next: &Voice, timeline: &Timeline, rules: &Rules) -> bool {
        let same = voice.session_id == next.session_id && voice.activity.name == next.activity.name;
        let end = timeline.end_of_voice(voice, rules);
        same && !self.has_ended(voice) && end.is_some_and(|end| next.created_at < end)
    }

    /// How others see an activity: one that ran while the user was invisible began when that ended.
    fn shown(&self, activity: &RunningActivity, began: Timestamp) -> Activity {
        let visible_since = if self.choice.intent.is_visible() { self.choice.since } else { Timestamp::default() };
        Activity { kind: activity.kind, name: activity.name.clone(), started_at: began.max(visible_since) }
    }
}
