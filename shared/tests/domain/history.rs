//! Random histories: what happens to a user, when, and when it is heard of.

use presence::domain::{ActivityUpdate, InputKind, Intent, Platform, SessionId, StatusUpdate, Timestamp};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

use crate::user::{User, at, joins_voice, playing};

/// One thing that happens, so many milliseconds after the one before it.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    pub(crate) gap: i64,
    pub(crate) kind: InputKind,
    /// How long after it each message that tells of it arrives, in milliseconds.
    pub(crate) delays: Vec<i64>,
    /// Whether somebody sweeps when the first of them has come.
    pub(crate) swept: bool,
}

/// An input as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) heard_at: Timestamp,
    pub(crate) at: Timestamp,
    pub(crate) kind: InputKind,
    pub(crate) swept: bool,
}

fn session() -> impl Strategy<Value = SessionId> {
    prop_oneof![4 => Just("a"), 2 => Just("b"), 1 => Just("c")].prop_map(|id| id.parse().unwrap())
}

fn intent() -> impl Strategy<Value = Intent> {
    prop_oneof![3 => Just(Intent::Online), 1 => Just(Intent::Idle), 1 => Just(Intent::Dnd), 2 => Just(Intent::Invisible)]
}

/// Every session is on one platform, and its heartbeats need not say on which.
fn platform(id: &SessionId) -> Option<Platform> {
    match id.as_str() {
        "a" => Some(Platform::Desktop),
        "b" => Some(Platform::Mobile),
        _ => None,
    }
}

/// What a gateway or a voice server tells: it may come late, and twice.
fn message() -> impl Strategy<Value = InputKind> {
    let voice = || prop_oneof![2 => Just("v"), 1 => Just("w")];
    let name = prop_oneof![3 => Just("Lounge"), 1 => Just("Stage")];
    prop_oneof![
        5 => (session(), weighted(0.2, intent())).prop_map(|(session_id, status)| {
            InputKind::Opened { platform: platform(&session_id), session_id, status }
        }),
        3 => (session(), any::<bool>()).prop_map(|(session_id, abnormal)| InputKind::Closed { session_id, abnormal }),
        6 => (session(), any::<bool>()).prop_map(|(session_id, says)| {
            InputKind::Heartbeat { platform: platform(&session_id).filter(|_| says), session_id }
        }),
        2 => (voice(), name).prop_map(|(id, name)| joins_voice(id, name)),
        1 => voice().prop_map(|id| InputKind::VoiceEnded { session_id: id.parse().unwrap() }),
    ]
}

/// What the user asks for: it is answered at once, and once.
fn update(activities: bool) -> impl Strategy<Value = InputKind> {
    let text = prop_oneof![1 => Just(None), 3 => Just(Some("At work".parse().unwrap()))];
    let activity =
        prop_oneof![1 => Just(None), 3 => Just(Some(playing("Chess"))), 1 => Just(Some(playing("Go, the game")))];
    let activity = weighted(0.5, activity)
        .prop_map(move |activity: Option<Option<ActivityUpdate>>| activity.filter(|_| activities));
    (weighted(0.6, intent()), weighted(0.3, text), activity).prop_map(|(status, custom_status, activity)| {
        InputKind::StatusUpdated(StatusUpdate { status, custom_status, activity })
    })
}

/// On, just before and just after the moments at which something ends.
fn gap() -> impl Strategy<Value = i64> {
    let moments = [15_000, 20_000, 30_000, 45_000, 60_000, 105_000, 120_000, 165_000, 330_000];
    let moments = proptest::sample::select(moments.to_vec());
    prop_oneof![
        6 => 1..3_000_i64,
        3 => 1..20_000_i64,
        2 => (moments, -1..=1_i64).prop_map(|(moment, off)| moment + off),
    ]
}

/// Late, but not so late that it proves nothing.
fn delays(late: bool) -> impl Strategy<Value = Vec<i64>> {
    let delay = move || if late { prop_oneof![1 => Just(0), 1 => 0..45_000_i64].boxed() } else { Just(0).boxed() };
    (delay(), vec(delay(), if late { 0..3_usize } else { 0..1 }))
        .prop_map(|(first, others)| others.into_iter().chain([first]).collect())
}

fn happening(late: bool, activities: bool) -> impl Strategy<Value = Happening> {
    let heard = prop_oneof![
        7 => (message(), delays(late)),
        2 => update(activities).prop_map(|kind| (kind, vec![0])),
    ];
    (gap(), heard, weighted(0.15, Just(()))).prop_map(|(gap, (kind, delays), swept)| Happening {
        gap,
        kind,
        delays,
        swept: swept.is_some(),
    })
}

/// Things that are heard of at once.
pub(crate) fn timely(length: usize) -> impl Strategy<Value = Vec<Happening>> {
    vec(happening(false, true), 1..length)
}

/// Things that may be heard of late, twice and in any order.
pub(crate) fn untimely(length: usize) -> impl Strategy<Value = Vec<Happening>> {
    vec(happening(true, false), 1..length)
}

/// When each of them happens.
pub(crate) fn moments(history: &[Happening]) -> impl Iterator<Item = (Timestamp, &Happening)> {
    history.iter().scan(at(0), |now, happening| {
        *now = Timestamp::from_millis(now.millis() + happening.gap);
        Some((*now, happening))
    })
}

/// The messages in the order in which they arrive.
pub(crate) fn arrivals(history: &[Happening]) -> Vec<Arrival> {
    let messages = moments(history).flat_map(|(at, happening)| {
        happening.delays.iter().map(move |delay| Arrival {
            heard_at: Timestamp::from_millis(at.millis() + delay),
            at,
            kind: happening.kind.clone(),
            swept: happening.swept,
        })
    });
    let mut arrivals: Vec<Arrival> = messages.collect();
    arrivals.sort_by_key(|arrival| arrival.heard_at);
    arrivals
}

impl User {
    /// Hears of it. An update too many is refused, and changes nothing.
    pub(crate) fn arrives(&mut self, arrival: &Arrival) -> &mut Self {
        if arrival.swept {
            self.swept(arrival.heard_at);
        }
        let _refused = self.tries(arrival.heard_at, arrival.at, arrival.kind.clone());
        self
    }
}
