//! Heartbeats that take the short way: nobody can tell that they were not decided in full.
//!
//! Two exceptions, which are the price of forgetting the heartbeats between. A break that comes late may be judged by a
//! heartbeat too early: here breaks are heard of at once. And heartbeats that contradict their session's open on where
//! it runs are not remembered for when that open is forgotten: here whatever tells it tells the same.

use presence::domain::{InputKind, Intent, Platform, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::order::assert_alike;
use crate::user::{
    User, at, beats, beats_on, breaks, chooses, closes, joins_voice, leaves_voice, opened, plays, rules,
};

/// One input, heard so many milliseconds after the one before it, when it is so old.
#[derive(Debug, Clone)]
struct Heard {
    gap: i64,
    age: i64,
    kind: InputKind,
    swept: bool,
}

/// Mostly one session that lives, so that much of it is renewed, and what shows when that seems to have a gap.
fn kind() -> impl Strategy<Value = InputKind> {
    let id = || prop_oneof![6 => Just("a"), 1 => Just("b")];
    prop_oneof![
        8 => id().prop_map(beats),
        1 => Just(beats_on("a", Some(Platform::Desktop))),
        4 => id().prop_map(|id| opened(id, (id == "a").then_some(Platform::Desktop), None)),
        2 => id().prop_map(closes),
        3 => prop_oneof![4 => Just(Some("Chess")), 1 => Just(None)].prop_map(plays),
        1 => Just(joins_voice("v", "Lounge")),
        1 => Just(leaves_voice("v")),
        1 => prop_oneof![2 => Just(Intent::Online), 1 => Just(Intent::Invisible)].prop_map(chooses),
    ]
}

fn heard() -> impl Strategy<Value = Heard> {
    let gap = prop_oneof![6 => 1..20_000_i64, 2 => 20_000..46_000_i64, 1 => 46_000..200_000_i64];
    let kind = prop_oneof![
        20 => (kind(), prop_oneof![3 => Just(0), 1 => 0..45_000_i64]),
        1 => Just((breaks("a"), 0)),
    ];
    (gap, kind, 0..6_u8).prop_map(|(gap, (kind, age), sweep)| {
        let age = if matches!(kind, InputKind::StatusUpdated(_)) { 0 } else { age };
        Heard { gap, age, kind, swept: sweep == 0 }
    })
}

/// Whether it is a heartbeat that the short way takes.
fn is_renewed(user: &mut User, now: Timestamp, at: Timestamp, kind: &InputKind) -> bool {
    let InputKind::Heartbeat { session_id, platform } = kind else { return false };
    user.record.renew(session_id, *platform, at, now, &rules()).is_some()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4 * ProptestConfig::default().cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_renewed_the_short_way_could_have_been_decided_in_full(history in vec(heard(), 1..30)) {
        let (mut short, mut full) = (User::unknown(), User::unknown());
        let mut now = at(0);
        for Heard { gap, age, kind, swept } in &history {
            now = Timestamp::from_millis(now.millis() + gap);
            let at = Timestamp::from_millis(now.millis() - age);
            for user in [&mut short, &mut full].into_iter().filter(|_| *swept) {
                user.swept(now).published();
            }
            let refused = full.tries(now, at, kind.clone()).is_err();
            if !is_renewed(&mut short, now, at, kind) {
                prop_assert_eq!(short.tries(now, at, kind.clone()).is_err(), refused);
            }
            prop_assert_eq!(short.read(now), full.read(now), "{:?} at {}", kind, at);
            prop_assert_eq!(short.own(now), full.own(now), "{:?} at {}", kind, at);
            prop_assert_eq!(short.next_deadline(now), full.next_deadline(now), "{:?} at {}", kind, at);
            short.published();
            full.published();
        }
        assert_alike(&full, &short, now, &history);
    }
}
