//! What a record looks like at a moment: to others, and to the user. Everything here is computed, nothing is changed.

use std::collections::BTreeMap;

use super::record::{RunningActivity, UserRecord};
use super::session::Session;
use super::{Activity, Own, Platform, Presence, Rules, Status, Timestamp};

/// A span of time in which something lived: from the first moment, up to but without the second.
type Span = (Timestamp, Timestamp);

impl UserRecord {
    /// What others see at `now`. Expects that every deadline up to `now` is settled; a read settles a copy first.
    pub(super) fn presence(&self, now: Timestamp, rules: &Rules) -> Presence {
        let status = if self.choice.intent.is_visible() { self.choice.intent.shown() } else { Status::Offline };
        let platforms = self.live_platforms(now, rules);
        if status == Status::Offline || platforms.is_empty() {
            return self.offline(now, rules);
        }
        let activities = self.activities(now, rules);
        Presence {
            user_id: self.user_id,
            status,
            custom_status: self.custom_status.value.clone(),
            activity: activities.first().cloned(),
            activities,
            client_status: platforms.into_iter().map(|platform| (platform, status)).collect(),
            last_seen: self.last_sign_of_life(),
            version: self.version,
            own: None,
        }
    }

    /// What only the user themself may see of it.
    pub fn own(&self, now: Timestamp, rules: &Rules) -> Own {
        let activity = self.own_activity.value.as_ref();
        Own {
            intent: self.choice.intent,
            custom_status: self.custom_status.value.clone(),
            activity: activity.filter(|own| self.runs(own, None, now, rules)).map(|own| self.shown(own)),
        }
    }

    /// The first moment after `now` at which others will see a change if nothing is heard of the user any more.
    pub fn next_deadline(&self, now: Timestamp, rules: &Rules) -> Option<Timestamp> {
        if !self.choice.intent.is_visible() {
            return None;
        }
        self.deadlines(rules).filter(|deadline| *deadline > now).min()
    }

    /// Whether more than one thing keeps the user online, so that renewing one of them does not move the next deadline.
    pub fn is_shared_by_several(&self, rules: &Rules) -> bool {
        self.deadlines(rules).filter(|deadline| *deadline > self.settled_at).nth(1).is_some()
    }

    /// The moments at which a session or the lease ends or ended.
    pub(super) fn deadlines<'a>(&'a self, rules: &'a Rules) -> impl Iterator<Item = Timestamp> + 'a {
        let sessions = self.sessions.values().filter_map(|session| self.span(session, rules));
        sessions.chain(self.lease(rules)).map(|(_, end)| end)
    }

    /// Whether a gateway session lives at `now`; a lease is none.
    pub(super) fn has_live_session(&self, now: Timestamp, rules: &Rules) -> bool {
        self.sessions.values().any(|session| self.lives(session, now, rules))
    }

    /// Whether the session lives at `now`.
    pub fn lives(&self, session: &Session, now: Timestamp, rules: &Rules) -> bool {
        self.span(session, rules).is_some_and(|(_, end)| now < end)
    }

    /// When the activity ends or ended, counted from its anchor: when no session is left. `hold` is how long one that
    /// came before its user's session waits for it. None if it never ran.
    pub(super) fn ends(
        &self,
        activity: &RunningActivity,
        hold: Option<std::time::Duration>,
        rules: &Rules,
    ) -> Option<Timestamp> {
        let mut spans: Vec<Span> = self.sessions.values().flat_map(|session| self.spans(session, rules)).collect();
        spans.extend(self.lease(rules));
        spans.sort_unstable();
        let anchor = activity.anchor;
        let reach = |end: Timestamp, &(from, to): &Span| if from <= end && to > end { to } else { end };
        let covered = spans.iter().find(|(from, to)| *from <= anchor && anchor < *to);
        if let Some((_, end)) = covered {
            return Some(spans.iter().fold(*end, reach));
        }
        let waits_until = anchor + hold?;
        let first = spans.iter().find(|(from, _)| anchor < *from && *from < waits_until);
        Some(first.map_or(waits_until, |(_, end)| spans.iter().fold(*end, reach)))
    }

    /// Whether the lease counts, and for how long: not if a session lived when it was set, and only until a session
    /// opens or closes.
    pub(super) fn lease(&self, rules: &Rules) -> Option<Span> {
        let from = self.leased_at?;
        let sessions = || self.sessions.values();
        let needless =
            sessions().flat_map(|session| self.spans(session, rules)).any(|(start, end)| start < from && from < end);
        if needless {
            return None;
        }
        let heard = sessions().flat_map(|session| [session.opened_at, session.closed.map(|close| close.at)]).flatten();
        let end = heard.filter(|at| *at >= from).fold(from + rules.heartbeat_timeout, Timestamp::min);
        Some((from, end))
    }

    /// Offline, or in every way like it: the look of a user whose sessions are gone or who is invisible.
    fn offline(&self, now: Timestamp, rules: &Rules) -> Presence {
        let visible = self.choice.intent.is_visible();
        let last_seen = if visible { self.last_sign_of_life() } else { self.frozen_last_seen };
        let last_seen = last_seen.filter(|seen| now < *seen + rules.last_seen_ttl);
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

    fn live_platforms(&self, now: Timestamp, rules: &Rules) -> Vec<Platform> {
        let live = self.sessions.values().filter(|session| self.lives(session, now, rules));
        let leased = self.lease(rules).filter(|(_, end)| now < *end).map(|_| Platform::Web);
        live.map(|session| session.platform).chain(leased).collect()
    }

    /// The user's own activity and the one from voice, the latest first.
    fn activities(&self, now: Timestamp, rules: &Rules) -> Vec<Activity> {
        let own = self.own_activity.value.as_ref().filter(|own| self.runs(own, None, now, rules));
        let voice = self.running_voice().filter(|voice| self.runs(voice, Some(rules.heartbeat_timeout), now, rules));
        let mut activities: Vec<Activity> = own.into_iter().chain(voice).map(|activity| self.shown(activity)).collect();
        activities.sort_by_key(|activity| std::cmp::Reverse(activity.started_at));
        activities
    }

    /// The voice activity, unless its voice session ended.
    pub(super) fn running_voice(&self) -> Option<&RunningActivity> {
        let voice = self.voice.as_ref()?;
        let ended = self.voice_ended.get(&voice.session_id).is_some_and(|ended| voice.activity.started_at <= *ended);
        (!ended).then_some(&voice.activity)
    }

    pub(super) fn runs(
        &self,
        activity: &RunningActivity,
        hold: Option<std::time::Duration>,
        now: Timestamp,
        rules: &Rules,
    ) -> bool {
        self.ends(activity, hold, rules).is_some_and(|end| now < end)
    }

    /// How others see an activity: one that ran while the user was invisible began when that ended.
    fn shown(&self, activity: &RunningActivity) -> Activity {
        let visible_since = if self.choice.intent.is_visible() { self.choice.since } else { Timestamp::default() };
        Activity {
            kind: activity.kind,
            name: activity.name.clone(),
            started_at: activity.started_at.max(visible_since),
        }
    }

    /// The life of a session that its latest open or heartbeat belongs to.
    pub(super) fn span(&self, session: &Session, rules: &Rules) -> Option<Span> {
        let end = session.ends_at(rules, |after| self.first_open_after(after))?;
        Some((session.since?, end)).filter(|(from, to)| from < to)
    }

    /// That life, and the one before it of which only the end is known.
    fn spans(&self, session: &Session, rules: &Rules) -> impl Iterator<Item = Span> + use<> {
        let earlier = session.earlier_end(rules, |after| self.first_open_after(after));
        earlier.map(|end| (Timestamp::default(), end)).into_iter().chain(self.span(session, rules))
    }

    fn first_open_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.sessions.values().filter_map(|session| session.opened_at).filter(|opened| *opened > after).min()
    }
}
