//! Promise 5: any interleaving and repetition of inputs ends in the state that the ordered inputs give, for inputs that
//! still count when they are heard of.
//!
//! Two exceptions, both of the rules' own making:
//!
//! - Versions, and the user's own activity, which comes with updates alone: those are answered once and in order.
//! - `last_seen` of an invisible user. Others may have read a later sign of life before the choice was heard of, and
//!   `last_seen` never goes back: it lies between the ordered one and the latest sign of life.

use std::fmt::Debug;

use presence::domain::{InputKind, Intent, Platform, Timestamp, UserRecord};

use crate::user::{User, at, beats_on, breaks, chooses, closes, joins_voice, leaves_voice, opened, opens};

/// One thing that may happen, without its moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What {
    Opens(&'static str),
    OpensAs(&'static str, Intent),
    Beats(&'static str),
    Breaks(&'static str),
    Closes(&'static str),
    Joins(&'static str),
    Leaves(&'static str),
}

use What::*;

pub(crate) const EVERYTHING: [What; 15] = [
    Opens("a"),
    Opens("b"),
    OpensAs("a", Intent::Dnd),
    OpensAs("b", Intent::Invisible),
    OpensAs("b", Intent::Online),
    Beats("a"),
    Beats("b"),
    Breaks("a"),
    Breaks("b"),
    Closes("a"),
    Closes("b"),
    Joins("v"),
    Joins("w"),
    Leaves("v"),
    Leaves("w"),
];

fn platform(id: &str) -> Option<Platform> {
    Some(if id == "a" { Platform::Desktop } else { Platform::Mobile })
}

impl What {
    fn kind(self) -> InputKind {
        match self {
            Opens(id) => opened(id, platform(id), None),
            OpensAs(id, intent) => opened(id, platform(id), Some(intent)),
            Beats(id) => beats_on(id, platform(id)),
            Breaks(id) => breaks(id),
            Closes(id) => closes(id),
            Joins(id) => joins_voice(id, "Lounge"),
            Leaves(id) => leaves_voice(id),
        }
    }

    /// Of what happened at one moment, a close is the last word of a session, and an end that of a voice session.
    fn rank(self) -> u8 {
        match self {
            Opens(_) | OpensAs(..) | Joins(_) => 0,
            Beats(_) => 1,
            Breaks(_) => 2,
            Closes(_) | Leaves(_) => 3,
        }
    }
}

/// A history to be heard late: what happened, in milliseconds before the moment at which it is heard.
pub(crate) type Late = Vec<(i64, What)>;

/// The moment at which all of it is heard.
pub(crate) fn now() -> Timestamp {
    at(0)
}

/// How long ago each of six inputs happened. All of them still count: they are younger than the heartbeat timeout.
pub(crate) const TIMES: [[i64; 6]; 4] = [
    [44_999, 30_000, 12_000, 11_000, 10_000, 1],
    [44_000, 43_000, 12_000, 10_000, 2_000, 1_000],
    [40_000, 15_001, 15_000, 14_999, 1_000, 0],
    [10_000, 10_000, 5_000, 5_000, 5_000, 0],
];

/// What went before: in order, and swept or not.
pub(crate) fn beginnings() -> Vec<User> {
    let mut connected = User::unknown();
    connected.happens(at(-300), Opens("a").kind()).happens(at(-290), Joins("v").kind());
    for seconds in [-270, -240, -210, -180, -150, -120, -90, -60] {
        connected.happens(at(seconds), Beats("a").kind());
    }
    let mut resuming = connected.clone();
    resuming.happens(at(-50), Opens("b").kind()).happens(at(-49), Breaks("a").kind());
    let mut gone = connected.clone();
    gone.happens(at(-55), Closes("a").kind()).happens(at(-54), Joins("w").kind());
    let mut invisible = connected.clone();
    invisible.happens(at(-50), OpensAs("b", Intent::Invisible).kind()).swept(at(-46));
    let mut leased = gone.clone();
    leased.happens(at(-50), chooses(Intent::Idle)).swept(at(0));
    vec![User::unknown(), connected, resuming, gone, invisible, leased]
}

/// When one of a history's inputs happened, and what it was.
pub(crate) fn input((ago, what): (i64, What)) -> (Timestamp, InputKind) {
    (Timestamp::from_millis(now().millis() - ago), what.kind())
}

/// What a record holds, but for what an order may change.
pub(crate) fn facts(user: User) -> User {
    User { record: UserRecord { version: 0, pending: Vec::new(), ..user.record } }
}

/// Hears of a history in every order and with every repetition: after each set of inputs, however it was heard, each
/// input is heard, new or known. Fails if any way does not end like the history in order.
pub(crate) fn check(beginning: &User, history: &Late) {
    let mut ordered = beginning.clone();
    let mut in_order = history.clone();
    in_order.sort_by_key(|(ago, what)| (-ago, what.rank()));
    for (at, kind) in in_order.into_iter().map(input) {
        ordered.happens(at, kind);
    }
    let ordered = facts(ordered.swept(now()).clone());

    let all = (1 << history.len()) - 1;
    let mut heard: Vec<Vec<User>> = vec![Vec::new(); all + 1];
    heard[0].push(beginning.clone());
    for set in 0..=all {
        let mut place = 0;
        while let Some(user) = heard[set].get(place).cloned() {
            for (index, (at, kind)) in history.iter().copied().map(input).enumerate() {
                let mut next = user.clone();
                next.hears(now(), at, kind);
                let next = facts(next);
                let known = &mut heard[set | 1 << index];
                if !known.contains(&next) {
                    known.push(next);
                }
            }
            place += 1;
        }
    }
    for late in heard[all].iter().filter(|late| **late != ordered) {
        assert_alike(&ordered, late, now(), history);
    }
}

/// Both look the same now and whenever they are read later, whether more is heard or not.
pub(crate) fn assert_alike(ordered: &User, late: &User, now: Timestamp, history: &dyn Debug) {
    assert_look_alike(ordered, late, now, history);
    let next = [opens("c"), beats_on("a", None), beats_on("b", None), breaks("a"), closes("b")];
    for (kind, moment) in next.into_iter().zip([1, 44_999, 60_001, 1_000, 30_000]) {
        let moment = Timestamp::from_millis(now.millis() + moment);
        let (mut ordered, mut late) = (ordered.clone(), late.clone());
        ordered.happens(moment, kind.clone());
        late.happens(moment, kind.clone());
        assert_look_alike(&ordered, &late, moment, &(history, kind, moment));
    }
}

fn assert_look_alike(ordered: &User, late: &User, now: Timestamp, history: &dyn Debug) {
    let mut moment = now;
    loop {
        let (mut expected, mut actual) = (ordered.read(moment), late.read(moment));
        if !ordered.record.choice.intent.is_visible() {
            assert!(expected.last_seen <= actual.last_seen, "last seen at {moment} after {history:?}");
            assert!(actual.last_seen <= late.record.last_sign_of_life(), "last seen at {moment} after {history:?}");
            expected.last_seen = actual.last_seen;
        }
        (expected.version, actual.version) = (0, 0);
        assert_eq!(expected, actual, "at {moment} after {history:?}");
        let (mut expected, mut actual) = (ordered.own(moment), late.own(moment));
        (expected.activity, actual.activity) = (None, None);
        assert_eq!(expected, actual, "own at {moment} after {history:?}");
        let next = ordered.next_deadline(moment);
        assert_eq!(next, late.next_deadline(moment), "next deadline at {moment} after {history:?}");
        let Some(next) = next else { return };
        assert!(next > moment, "the next deadline at {moment} after {history:?}");
        moment = next;
    }
}

/// The histories of so many inputs, by number.
pub(crate) fn history(mut number: usize, length: usize) -> Vec<What> {
    let mut next = || {
        let what = EVERYTHING[number % EVERYTHING.len()];
        number /= EVERYTHING.len();
        what
    };
    (0..length).map(|_| next()).collect()
}

/// Checks every `stride`th history of so many inputs, each at other times and after another beginning.
fn check_histories(length: usize, stride: usize) {
    let beginnings = beginnings();
    let mut checked = 0;
    for number in (0..EVERYTHING.len().pow(length as u32)).step_by(stride) {
        let late = TIMES[number % TIMES.len()].into_iter().zip(history(number, length)).collect();
        check(&beginnings[number / TIMES.len() % beginnings.len()], &late);
        checked += 1;
    }
    assert!(checked > 100, "only {checked} histories of {length} inputs were checked");
}

#[test]
fn any_order_of_four_inputs_ends_as_the_ordered_one() {
    check_histories(4, 101);
}

#[test]
fn any_order_of_five_inputs_ends_as_the_ordered_one() {
    check_histories(5, 3_001);
}

#[test]
fn any_order_of_six_inputs_ends_as_the_ordered_one() {
    check_histories(6, 90_001);
}
