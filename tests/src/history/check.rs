//! The judgement of a history: which promises were tried how often, and every violation.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use serde_json::{Value, json};

use super::{End, History, Life, Outcome, Told};

/// What a history shows.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How often each rule was tried, by its words; zero if it never was.
    pub tried: BTreeMap<&'static str, usize>,
    /// Where one did not hold.
    pub violations: Vec<Violation>,
    /// How long after each change it was told, in milliseconds, while nothing was broken.
    pub delays: Vec<i64>,
}

impl Verdict {
    /// Whether the end is told and nobody is stuck, for all that the history knows yet.
    pub fn is_at_rest(&self) -> bool {
        !self.violations.iter().any(|violation| [TOLD, LAST, STUCK].contains(&violation.rule))
    }
}

/// Something that must not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, in words.
    pub rule: &'static str,
    /// Of which user.
    pub user: String,
    /// What was seen.
    pub seen: String,
}

pub(super) const IN_TIME: &str = "1 no read says online after the deadline";
pub(super) const TOLD: &str = "3 every acknowledged change is told";
pub(super) const LAST: &str = "3 the last event is the last state";
pub(super) const KEPT: &str = "3 the last acknowledged choice is kept";
pub(super) const STUCK: &str = "3 no user is stuck";
pub(super) const ORDER: &str = "4 versions rise";
pub(super) const DIFFER: &str = "4 consecutive status events differ";
pub(super) const BACK: &str = "4 no read goes back";
pub(super) const ONE_LOOK: &str = "6 no version is used twice";

/// All of them.
const RULES: [&str; 9] = [IN_TIME, TOLD, LAST, KEPT, STUCK, ORDER, DIFFER, BACK, ONE_LOOK];

/// What a listener of the status is told.
const STATUS_FIELDS: [&str; 3] = ["status", "custom_status", "client_status"];
/// What one version stands for. `last_seen` moves without one.
const LOOK: [&str; 5] = ["status", "custom_status", "client_status", "activity", "activities"];

/// Judges a history.
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict { tried: RULES.map(|rule| (rule, 0)).into(), ..Verdict::default() };
    for life in &history.lives {
        let mut judge = Judge { history, life, verdict: &mut verdict };
        judge.reads_are_in_time();
        judge.events_are_in_order();
        judge.consecutive_events_differ();
        judge.no_read_goes_back();
        judge.one_version_is_one_look();
        judge.acknowledged_changes_are_told();
        if let Some(end) = &life.end {
            judge.the_end_is_told(end);
            judge.choices_are_kept(end);
            judge.nobody_is_stuck(end);
        }
        judge.note_delays();
    }
    verdict
}

struct Judge<'a> {
    history: &'a History,
    life: &'a Life,
    verdict: &'a mut Verdict,
}

impl Judge<'_> {
    fn tries(&mut self, rule: &'static str, holds: bool, seen: impl FnOnce() -> String) {
        *self.verdict.tried.entry(rule).or_default() += 1;
        if !holds {
            self.verdict.violations.push(Violation { rule, user: self.life.user.clone(), seen: seen() });
        }
    }

    /// Whoever is read as online has shown a sign of life within the timeout before. That is the most that can be said
    /// from outside: a close may still be on its way.
    fn reads_are_in_time(&mut self) {
        let History { heartbeat_timeout, clock_error, patience, .. } = self.history;
        let signs = self.life.signs.iter().map(|sign| (sign.at, sign.at));
        let chooses = |update: &&super::Update| update.body.get("status").is_some_and(|status| status != "offline");
        let leases = self.life.updates.iter().filter(chooses).filter_map(|update| match update.outcome {
            Outcome::Done(_) => Some((update.began, update.ended + clock_error)),
            Outcome::Unknown => Some((update.began, update.ended + clock_error + patience)),
            Outcome::Refused => None,
        });
        let lives: Vec<(i64, i64)> = signs.chain(leases).collect();
        for read in self.life.reads.iter().filter(|read| read.presence["status"] != "offline") {
            let known = lives.iter().filter(|(began, _)| *began <= read.ended);
            let deadline = known.map(|(_, latest)| latest + heartbeat_timeout).max();
            // Both times are whole milliseconds.
            let in_time = deadline.is_some_and(|deadline| read.began <= deadline + 1);
            self.tries(IN_TIME, in_time, || {
                format!("read as {} at {}, deadline {deadline:?}", read.presence["status"], read.began)
            });
        }
    }

    /// A repetition is the same to the byte, and what is new has a higher version than what was told before it.
    fn events_are_in_order(&mut self) {
        let mut known: HashMap<&str, &Value> = HashMap::new();
        let mut highest = [0, 0];
        for told in &self.life.told {
            let version = version(&told.presence);
            if let Some(before) = known.insert(&told.id, &told.presence) {
                self.tries(ORDER, *before == told.presence, || format!("{} told as two things", told.id));
                continue;
            }
            let [own, other] = if told.is_status { [1, 0] } else { [0, 1] };
            let rises = version > highest[own] && version >= highest[other];
            self.tries(ORDER, rises, || format!("{} told after versions {highest:?}", told.id));
            highest[own] = highest[own].max(version);
        }
    }

    fn consecutive_events_differ(&mut self) {
        let mut last =
            project(&json!({ "status": "offline", "custom_status": null, "client_status": {} }), &STATUS_FIELDS);
        for told in news(self.life).filter(|told| told.is_status) {
            let tells = project(&told.presence, &STATUS_FIELDS);
            // After an outage a return is told and the absence before it is not; after a loss nobody knows what was told.
            let excused = self.is_within(&self.history.outages, told) || self.is_within(&self.history.losses, told);
            self.tries(DIFFER, excused || tells != last, || format!("{} tells {tells} again", told.id));
            last = tells;
        }
    }

    /// What was told or answered before a read began is known to it.
    fn no_read_goes_back(&mut self) {
        let told = self.life.told.iter().map(|told| (told.at, version(&told.presence)));
        let done = self.life.updates.iter().filter_map(|update| match &update.outcome {
            Outcome::Done(presence) => Some((update.ended, version(presence))),
            _ => None,
        });
        let read = self.life.reads.iter().map(|read| (read.ended, version(&read.presence)));
        let mut known: Vec<(i64, u64)> = told.chain(done).chain(read).collect();
        known.sort_unstable();
        // The highest version known up to each moment.
        let mut highest = 0;
        for (_, version) in &mut known {
            highest = highest.max(*version);
            *version = highest;
        }
        for read in &self.life.reads {
            let before = known.partition_point(|(at, _)| *at < read.began);
            let Some((at, highest)) = before.checked_sub(1).map(|last| known[last]) else { continue };
            let lost = self.history.losses.iter().any(|loss| loss.start <= read.ended);
            let seen = version(&read.presence);
            self.tries(BACK, lost || seen >= highest, || {
                format!("version {seen} read from {} on, {highest} known at {at}", read.began)
            });
        }
    }

    fn one_version_is_one_look(&mut self) {
        let told = self.life.told.iter().map(|told| &told.presence);
        let read = self.life.reads.iter().map(|read| &read.presence);
        let done = self.life.updates.iter().filter_map(|update| match &update.outcome {
            Outcome::Done(presence) => Some(presence),
            _ => None,
        });
        let mut looks: HashMap<u64, Value> = HashMap::new();
        for presence in told.chain(read).chain(done).collect::<Vec<_>>() {
            let (version, look) = (version(presence), project(presence, &LOOK));
            let before = looks.entry(version).or_insert_with(|| look.clone()).clone();
            self.tries(ONE_LOOK, before == look, || format!("version {version} is {before} and {look}"));
        }
    }

    fn acknowledged_changes_are_told(&mut self) {
        let told: HashSet<u64> = self.life.told.iter().map(|told| version(&told.presence)).collect();
        for update in &self.life.updates {
            let Outcome::Done(presence) = &update.outcome else { continue };
            let version = version(presence);
            // Of someone who was never visible nothing is told.
            let holds = version == 0 || told.contains(&version);
            let lost = self.history.losses.iter().any(|loss| loss.contains(&update.ended));
            self.tries(TOLD, lost || holds, || format!("version {version}, answered at {}, is not told", update.ended));
        }
    }

    fn the_end_is_told(&mut self, end: &End) {
        let last = self.life.told.iter().map(|told| &told.presence).max_by_key(|presence| version(presence));
        let holds = match last {
            Some(last) => version(last) == version(&end.read) && project(last, &LOOK) == project(&end.read, &LOOK),
            None => version(&end.read) == 0 || end.read["status"] == "offline",
        };
        self.tries(LAST, holds, || format!("told {last:?}, read {}", end.read));
    }

    /// The choice that was answered last is the choice, unless one that nobody answered took effect after it.
    fn choices_are_kept(&mut self, end: &End) {
        if !self.history.losses.is_empty() {
            return;
        }
        let spelled = |value: &Value| if value == "invisible" { json!("offline") } else { value.clone() };
        for (field, own, never) in
            [("status", "intent", json!("online")), ("custom_status", "custom_status", Value::Null)]
        {
            let (mut answered, mut possible) = (never, Vec::new());
            let mut chosen = false;
            for update in &self.life.updates {
                let Some(value) = update.body.get(field).map(spelled) else { continue };
                match update.outcome {
                    Outcome::Done(_) => (answered, chosen) = (value, true),
                    Outcome::Unknown => possible.push(value),
                    Outcome::Refused => {}
                }
            }
            if chosen {
                let kept = &end.own["own"][own];
                let holds = *kept == answered || possible.contains(kept);
                self.tries(KEPT, holds, || format!("{own} is {kept}, chosen was {answered} or one of {possible:?}"));
            }
        }
    }

    fn nobody_is_stuck(&mut self, end: &End) {
        let expected = if end.is_connected { end.own["own"]["intent"].clone() } else { json!("offline") };
        let holds = end.read["status"] == expected;
        self.tries(STUCK, holds, || format!("read {}, connected: {}", end.read, end.is_connected));
    }

    /// A version is the moment of its change, unless changes crowd.
    fn note_delays(&mut self) {
        let delay = |told: &Told| told.at - i64::try_from(version(&told.presence)).unwrap_or(i64::MAX);
        let calm = |told: &&Told| !self.is_within(&self.history.troubles, told);
        let delays: Vec<i64> = news(self.life).filter(calm).map(delay).collect();
        self.verdict.delays.extend(delays);
    }

    /// Whether the change, or its telling, falls into one of the times.
    fn is_within(&self, times: &[Range<i64>], told: &Told) -> bool {
        let changed = i64::try_from(version(&told.presence)).unwrap_or(i64::MAX);
        times.iter().any(|time| time.contains(&changed) || time.contains(&told.at))
    }
}

/// What was told of a life, without repetitions.
fn news(life: &Life) -> impl Iterator<Item = &Told> {
    let mut known = HashSet::new();
    life.told.iter().filter(move |told| known.insert(&told.id))
}

fn version(presence: &Value) -> u64 {
    presence["version"].as_u64().unwrap_or_default()
}

fn project(presence: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| ((*field).to_owned(), presence[*field].clone())).collect()
}
