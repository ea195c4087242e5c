//! A user's record as fields of a Redis hash, and back. The documented fields are a projection for others to read; the
//! rules read ours alone. A field that a newer release added is never touched.

#[cfg(test)]
mod hostile;
mod session;

use std::collections::BTreeMap;
use std::str::FromStr;

pub(super) use self::session::fixed;
use self::session::{WIDTH, encode_session, parse_session};
use super::keys;
use crate::domain::{
    ActivityKind, ActivityName, Choice, CustomStatus, Intent, Pending, Rules, RunningActivity, Session, SessionId,
    Stamped, Status, Timestamp, UserId, UserRecord, Voice,
};
use crate::store::StoreError;

/// The fields of a hash.
pub(in crate::store) type Fields = BTreeMap<String, String>;

/// The schema that this release writes. It reads every schema up to this one.
const SCHEMA: u32 = 1;
/// What stands in [`keys::PENDING`] if no session can be renewed the short way once that is told.
const NONE_RENEWABLE: &str = "1";

/// The fields of a profile, of which those that say nothing are not written.
pub(super) const PROFILE: [&str; 6] = [
    keys::PROFILE_SCHEMA,
    keys::PROFILE_VERSION,
    keys::PROFILE_INTENT,
    keys::PROFILE_CUSTOM_STATUS,
    keys::PROFILE_LAST_SIGN,
    keys::PROFILE_FROZEN,
];

/// The record as its hash is to be, but for the revision.
pub(super) fn encode(record: &UserRecord, rules: &Rules) -> Fields {
    let mut fields = Fields::new();
    let mut set = |name: &str, value: String| {
        fields.insert(name.to_owned(), value);
    };
    let look = record.read(record.settled_at, rules);

    set(keys::STATUS, look.status.as_str().to_owned());
    if let Some(text) = &look.custom_status {
        set(keys::CUSTOM_STATUS, text.to_string());
    }
    if let Some(activity) = &look.activity {
        set(keys::ACTIVITY_TYPE, activity.kind.as_str().to_owned());
        set(keys::ACTIVITY_NAME, activity.name.to_string());
        set(keys::ACTIVITY_STARTED_AT, activity.started_at.seconds().to_string());
    }
    if let Some(seen) = look.last_seen {
        set(keys::LAST_SEEN, seen.seconds().to_string());
    }

    set(keys::SCHEMA, SCHEMA.to_string());
    set(keys::VERSION, record.version.to_string());
    set(keys::SETTLED_AT, record.settled_at.millis().to_string());
    if record.choice != Choice::default() {
        let choices = [record.choice].into_iter().chain(record.earlier_choices.iter().copied());
        set(keys::INTENT, choices.map(|choice| intent(&choice)).collect::<Vec<_>>().join(";"));
    }
    if record.custom_status != Stamped::default() {
        let hidden = record.custom_status.value.as_ref().filter(|_| look.custom_status.is_none());
        set(keys::CUSTOM, stamped(record.custom_status.at, hidden));
    }
    let told_by_sessions = record.sessions.values().filter_map(Session::last_sign).max();
    if let Some(sign) = record.last_sign.filter(|sign| told_by_sessions.is_none_or(|told| *sign > told)) {
        set(keys::LAST_SIGN, sign.millis().to_string());
    }
    if let Some(frozen) = record.frozen_last_seen {
        set(keys::FROZEN, frozen.millis().to_string());
    }
    if let Some(leased) = record.leased_at {
        let leases: Vec<Timestamp> = [leased].into_iter().chain(record.earlier_leases.iter().copied()).collect();
        set(keys::LEASE, moments(&leases));
    }
    if record.own_activity != Stamped::default() {
        let running = record
            .own_activity
            .value
            .as_ref()
            .map(|own| format!("{},{},{}", &own.kind.as_str()[..1], running(own), own.name));
        set(keys::OWN_ACTIVITY, stamped(record.own_activity.at, running.as_ref()));
    }
    if let Some(voice) = &record.voice {
        let voices = || [voice].into_iter().chain(&record.earlier_voices);
        let began = voices().map(|voice| {
            let announced_after = voice.created_at.millis() - voice.activity.started_at.millis();
            format!("{},{announced_after},{}", running(&voice.activity), voice.session_id)
        });
        set(keys::VOICE, began.collect::<Vec<_>>().join(";"));
        // No name holds a line feed.
        let names = voices().map(|voice| voice.activity.name.as_str());
        set(keys::VOICE_NAME, names.collect::<Vec<_>>().join("\n"));
    }
    if !record.voice_ended.is_empty() {
        let ended = record.voice_ended.iter().map(|(id, at)| format!("{id}={}", at.millis()));
        set(keys::VOICE_ENDED, ended.collect::<Vec<_>>().join(","));
    }
    if !record.updates.is_empty() {
        set(keys::UPDATES, moments(&record.updates));
    }
    let renewable = record.renewable_session(rules);
    let is_told = record.pending.is_empty();
    if !is_told {
        set(keys::PENDING, renewable.map_or_else(|| NONE_RENEWABLE.to_owned(), keys::session));
    }
    for (id, session) in &record.sessions {
        set(&keys::session(id), encode_session(session, is_told && renewable == Some(id)));
    }
    fields
}

/// Whether a field is one that [`encode`] writes, so that it is to go when it is not written any more.
pub(super) fn is_ours(field: &str) -> bool {
    const OURS: [&str; 19] = [
        keys::STATUS,
        keys::CUSTOM_STATUS,
        keys::ACTIVITY_TYPE,
        keys::ACTIVITY_NAME,
        keys::ACTIVITY_STARTED_AT,
        keys::LAST_SEEN,
        keys::VERSION,
        keys::SETTLED_AT,
        keys::INTENT,
        keys::CUSTOM,
        keys::LAST_SIGN,
        keys::FROZEN,
        keys::LEASE,
        keys::OWN_ACTIVITY,
        keys::VOICE,
        keys::VOICE_NAME,
        keys::VOICE_ENDED,
        keys::UPDATES,
        keys::PENDING,
    ];
    OURS.contains(&field) || field.starts_with(keys::SESSION)
}

/// The field of the session that a heartbeat may renew without a commit, or could once what is pending is confirmed.
pub(super) fn renewable(fields: &Fields) -> Option<(&String, &String)> {
    let named = fields.get(keys::PENDING);
    let sessions = fields.range(keys::SESSION.to_owned()..).take_while(|(name, _)| name.starts_with(keys::SESSION));
    let is_it = |name: &String, value: &String| Some(name) == named || value.starts_with(|c: char| c.is_uppercase());
    sessions.into_iter().find(|(name, value)| is_it(name, value))
}

/// What a session's field says but for its letter, which a confirmation may change.
pub(super) fn without_letter(value: &str) -> &str {
    let mut letters = value.chars();
    letters.next();
    letters.as_str()
}

/// The record that a hash holds.
pub(super) fn decode(user_id: UserId, fields: &Fields) -> Result<UserRecord, StoreError> {
    let read = Reader { fields };
    read.check_schema(keys::SCHEMA)?;
    let mut record = UserRecord::unknown(user_id);
    record.version = read.number(keys::VERSION)?.unwrap_or_default();
    record.settled_at = read.moment(keys::SETTLED_AT)?.unwrap_or_default();
    if let Some(choices) = read.with(keys::INTENT, |text| text.split(';').map(parse_intent).collect())? {
        (record.choice, record.earlier_choices) = latest_and_earlier(choices).unwrap_or_default();
    }
    if let Some((at, hidden)) = read.with(keys::CUSTOM, parse_stamped::<CustomStatus>)? {
        let shown = read.with(keys::CUSTOM_STATUS, |text| text.parse().ok())?;
        record.custom_status = Stamped { value: hidden.or(shown), at };
    }
    record.frozen_last_seen = read.moment(keys::FROZEN)?;
    if let Some((latest, earlier)) = read.with(keys::LEASE, parse_moments)?.and_then(latest_and_earlier) {
        (record.leased_at, record.earlier_leases) = (Some(latest), earlier);
    }
    if let Some((at, running)) = read.with(keys::OWN_ACTIVITY, parse_stamped::<String>)? {
        let value = running.map(|text| parse_own(&text).ok_or_else(|| read.unreadable(keys::OWN_ACTIVITY)));
        record.own_activity = Stamped { value: value.transpose()?, at };
    }
    let voice_names = read.with(keys::VOICE_NAME, |text| text.split('\n').map(|name| name.parse().ok()).collect())?;
    if let Some(names) = voice_names {
        let voices = read.with(keys::VOICE, |text| parse_voices(text, names))?;
        if let Some((latest, earlier)) = voices.and_then(latest_and_earlier) {
            (record.voice, record.earlier_voices) = (Some(latest), earlier);
        }
    }
    record.voice_ended = read.with(keys::VOICE_ENDED, parse_voice_ended)?.unwrap_or_default();
    record.updates = read.with(keys::UPDATES, parse_moments)?.unwrap_or_default();
    for (name, value) in fields.range(keys::SESSION.to_owned()..) {
        let Some(id) = name.strip_prefix(keys::SESSION) else { break };
        let session = parse_session(value).ok_or_else(|| read.unreadable(keys::SESSION))?;
        record.sessions.insert(id.parse().map_err(|_| read.unreadable(keys::SESSION))?, session);
    }
    record.last_sign = read.moment(keys::LAST_SIGN)?.max(record.last_sign_of_life());
    Ok(record)
}

/// What is pending, which is kept apart from the hash; empty if nothing is.
pub(super) fn encode_pending(pending: &[Pending]) -> String {
    if pending.is_empty() { String::new() } else { serde_json::to_string(pending).unwrap_or_default() }
}

/// What [`encode_pending`] wrote.
pub(super) fn decode_pending(text: &str) -> Result<Vec<Pending>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("what is pending of a user".to_owned()))
}

/// What of a record outlives its hash.
pub(super) fn encode_profile(record: &UserRecord) -> Fields {
    let mut fields = Fields::new();
    let mut set = |name: &str, value: String| {
        fields.insert(name.to_owned(), value);
    };
    set(keys::PROFILE_SCHEMA, SCHEMA.to_string());
    set(keys::PROFILE_VERSION, record.version.to_string());
    if record.choice != Choice::default() {
        set(keys::PROFILE_INTENT, intent(&record.choice));
    }
    if record.custom_status != Stamped::default() {
        set(keys::PROFILE_CUSTOM_STATUS, stamped(record.custom_status.at, record.custom_status.value.as_ref()));
    }
    if let Some(sign) = record.last_sign_of_life() {
        set(keys::PROFILE_LAST_SIGN, sign.millis().to_string());
    }
    if let Some(frozen) = record.frozen_last_seen {
        set(keys::PROFILE_FROZEN, frozen.millis().to_string());
    }
    fields
}

/// When the profile may go: `LAST_SEEN_TTL` after the user was gone, but never while the user chose anything else
/// than `online`: nobody becomes visible by staying away.
pub(super) fn profile_expires_at(record: &UserRecord, rules: &Rules) -> Option<Timestamp> {
    let online = record.choice.intent == Intent::Online;
    record.remembered_until(rules).filter(|_| online)
}

/// The record of a user of whom only the profile is left.
pub(super) fn decode_profile(user_id: UserId, fields: &Fields) -> Result<UserRecord, StoreError> {
    let read = Reader { fields };
    let mut record = UserRecord::unknown(user_id);
    if fields.is_empty() {
        return Ok(record);
    }
    read.check_schema(keys::PROFILE_SCHEMA)?;
    record.version = read.number(keys::PROFILE_VERSION)?.unwrap_or_default();
    record.choice = read.with(keys::PROFILE_INTENT, parse_intent)?.unwrap_or_default();
    if let Some((at, value)) = read.with(keys::PROFILE_CUSTOM_STATUS, parse_stamped::<CustomStatus>)? {
        record.custom_status = Stamped { value, at };
    }
    record.last_sign = read.moment(keys::PROFILE_LAST_SIGN)?;
    record.frozen_last_seen = read.moment(keys::PROFILE_FROZEN)?;
    Ok(record)
}

fn intent(choice: &Choice) -> String {
    let word = if choice.intent.is_visible() { choice.intent.shown() } else { Status::Offline };
    format!("{},{},{}", word.as_str(), choice.at.millis(), choice.since.millis())
}

/// Whether it is the choice of invisible, which start_typing.lua knows as well.
pub(super) fn is_invisible(intent: &str) -> bool {
    intent.starts_with("offline,")
}

fn parse_intent(text: &str) -> Option<Choice> {
    let mut parts = text.split(',');
    let intent = parts.next()?.parse().ok()?;
    Some(Choice { intent, at: parse_moment(parts.next()?)?, since: parse_moment(parts.next()?)? })
}

fn stamped<T: ToString>(at: Timestamp, value: Option<&T>) -> String {
    value.map_or_else(|| at.millis().to_string(), |value| format!("{},{}", at.millis(), value.to_string()))
}

fn parse_stamped<T: FromStr>(text: &str) -> Option<(Timestamp, Option<T>)> {
    match text.split_once(',') {
        None => Some((parse_moment(text)?, None)),
        Some((at, value)) => Some((parse_moment(at)?, Some(value.parse().ok()?))),
    }
}

/// `started_at,anchor - started_at`.
fn running(activity: &RunningActivity) -> String {
    format!("{},{}", activity.started_at.millis(), activity.anchor.millis() - activity.started_at.millis())
}

/// An activity of which the name is known, from the two numbers before it.
fn parse_running<'a>(
    kind: ActivityKind,
    name: ActivityName,
    mut parts: impl Iterator<Item = &'a str>,
) -> Option<RunningActivity> {
    let started_at = parse_moment(parts.next()?)?;
    let anchor = moment_after(started_at, parts.next()?)?;
    Some(RunningActivity { kind, name, started_at, anchor })
}

fn parse_own(text: &str) -> Option<RunningActivity> {
    let parts: Vec<&str> = text.splitn(4, ',').collect();
    let [kind, started_at, anchor, name] = parts.as_slice() else { return None };
    let kind = match *kind {
        "p" => ActivityKind::Playing,
        "s" => ActivityKind::Streaming,
        "l" => ActivityKind::Listening,
        _ => return None,
    };
    parse_running(kind, name.parse().ok()?, [*started_at, *anchor].into_iter())
}

fn parse_voices(text: &str, names: Vec<ActivityName>) -> Option<Vec<Voice>> {
    let voices = text.split(';').zip(names).map(|(text, name)| parse_voice(text, name));
    voices.collect()
}

fn parse_voice(text: &str, name: ActivityName) -> Option<Voice> {
    let mut parts = text.splitn(4, ',');
    let activity = parse_running(ActivityKind::Listening, name, parts.by_ref().take(2))?;
    let created_at = moment_after(activity.started_at, parts.next()?)?;
    Some(Voice { session_id: parts.next()?.parse().ok()?, created_at, activity })
}

/// The first moment, and how long after it the others were.
fn moments(moments: &[Timestamp]) -> String {
    let first = moments.first().copied().unwrap_or_default();
    let later = moments.iter().skip(1).map(|at| format!(",{}", at.millis() - first.millis()));
    format!("{}{}", first.millis(), later.collect::<String>())
}

fn parse_moments(text: &str) -> Option<Vec<Timestamp>> {
    let mut parts = text.split(',');
    let first = parse_moment(parts.next()?)?;
    let later = parts.map(|part| moment_after(first, part));
    std::iter::once(Some(first)).chain(later).collect()
}

fn parse_voice_ended(text: &str) -> Option<BTreeMap<SessionId, Timestamp>> {
    let pair = |text: &str| {
        let (id, at) = text.split_once('=')?;
        Some((id.parse().ok()?, parse_moment(at)?))
    };
    text.split(',').map(pair).collect()
}

/// The latest stands first, where there are others.
fn latest_and_earlier<T>(mut list: Vec<T>) -> Option<(T, Vec<T>)> {
    (!list.is_empty()).then(|| (list.remove(0), list))
}

fn parse_moment(text: &str) -> Option<Timestamp> {
    moment(text.parse().ok()?)
}

/// The moment so many milliseconds after another, or before it.
fn moment_after(first: Timestamp, millis: &str) -> Option<Timestamp> {
    moment(first.millis().checked_add(millis.parse().ok()?)?)
}

/// A moment that a session's field has the width for: what was read can be written again, in any place.
fn moment(millis: i64) -> Option<Timestamp> {
    (0..10_i64.pow(WIDTH as u32)).contains(&millis).then(|| Timestamp::from_millis(millis))
}

/// Reads fields, and says of one that can't be read which it is: never what it holds.
struct Reader<'a> {
    fields: &'a Fields,
}

impl Reader<'_> {
    fn with<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, StoreError> {
        let Some(text) = self.fields.get(name) else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| self.unreadable(name))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, StoreError> {
        self.with(name, |text| text.parse().ok())
    }

    fn moment(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        self.with(name, parse_moment)
    }

    fn check_schema(&self, name: &str) -> Result<(), StoreError> {
        match self.number::<u32>(name)? {
            Some(SCHEMA..) => Ok(()),
            _ => Err(self.unreadable(name)),
        }
    }

    fn unreadable(&self, name: &str) -> StoreError {
        StoreError::Corrupt(format!("field {name} of a user's record"))
    }
}
