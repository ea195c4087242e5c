//! A record stays bounded, whatever it hears.

use presence::domain::{InputKind, Intent, PENDING_LIMIT, SESSION_LIMIT, Session, Timestamp, UPDATE_LIMIT};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::user::{User, at, beats, breaks, chooses, closes, joins_voice, leaves_voice, ms, opened, opens, plays};

/// How many facts of one kind a record keeps beside the latest.
const EARLIER: usize = 32;

/// How many updates there can be while a lease is remembered, which is 165 s.
const LEASES: usize = 9 * UPDATE_LIMIT;

fn assert_bounded(user: &User, now: Timestamp) {
    let record = &user.record;
    assert!(record.sessions.len() <= 2 * SESSION_LIMIT, "{} sessions", record.sessions.len());
    assert!(record.sessions.values().all(|session: &Session| session.earlier.len() <= EARLIER));
    assert!(record.earlier_choices.len() <= EARLIER && record.earlier_voices.len() <= EARLIER);
    assert!(record.earlier_leases.len() <= LEASES, "{} leases", record.earlier_leases.len());
    assert!(record.voice_ended.len() <= SESSION_LIMIT + 1, "{} ended", record.voice_ended.len());
    assert!(record.updates.len() <= UPDATE_LIMIT && record.pending.len() <= PENDING_LIMIT);
    assert!(user.read(now).client_status.len() <= 3);
}

fn hostile() -> impl Strategy<Value = InputKind> {
    let id = || (0..300_u32).prop_map(|number| format!("s{number}"));
    let few = || (0..3_u32).prop_map(|number| format!("s{number}"));
    let id = move || prop_oneof![1 => id(), 1 => few()];
    let intent = prop_oneof![Just(None), Just(Some(Intent::Online)), Just(Some(Intent::Invisible))];
    prop_oneof![
        (id(), intent).prop_map(|(id, intent)| opened(&id, None, intent)),
        id().prop_map(|id| beats(&id)),
        id().prop_map(|id| breaks(&id)),
        id().prop_map(|id| closes(&id)),
        id().prop_map(|id| joins_voice(&id, "Lounge")),
        id().prop_map(|id| leaves_voice(&id)),
        Just(chooses(Intent::Dnd)),
        Just(plays(Some("Chess"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_stays_bounded_under_hostile_input(
        inputs in vec((hostile(), 0..2_000_i64, prop_oneof![3 => Just(0), 1 => -100_000..100_000_i64]), 800),
    ) {
        let mut user = User::unknown();
        let mut now = 0;
        let mut version = 0;
        for (kind, gap, off) in inputs {
            now += gap / 10;
            let _refused = user.tries(ms(now), ms(now + off), kind);
            assert_bounded(&user, ms(now));
            prop_assert!(user.record.version >= version);
            version = user.record.version;
        }
        user.swept(ms(now + 600_000));
        prop_assert!(user.record.sessions.is_empty());
        prop_assert!(user.record.voice_ended.is_empty() && user.record.voice.is_none());
    }
}

#[test]
fn a_session_that_flaps_every_millisecond_stays_small_and_right() {
    let mut user = User::unknown();
    for round in 0..500 {
        user.happens(ms(round * 4), opens("a")).happens(ms(round * 4 + 1), beats("a"));
        user.happens(ms(round * 4 + 2), breaks("a")).happens(ms(round * 4 + 3), closes("a"));
        assert_bounded(&user, ms(round * 4 + 3));
    }
    assert_eq!(user.next_deadline(at(2)), None);
    user.happens(at(3), opens("a"));
    assert_eq!(user.next_deadline(at(3)), Some(at(48)));
}

#[test]
fn heartbeats_every_millisecond_leave_nothing_behind() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    for beat in 0..2_000 {
        user.happens(ms(beat), beats("a"));
    }
    assert!(user.record.sessions.values().all(|session| session.earlier.len() <= 1));
}

#[test]
fn a_user_of_long_standing_is_as_small_as_a_new_one() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), chooses(Intent::Dnd)).happens(at(2), plays(Some("Chess")));
    user.happens(at(3), joins_voice("v", "Lounge")).happens(at(4), joins_voice("v", "Lounge"));
    for hour in 1..200 {
        let now = hour * 3_600;
        for beat in (now - 3_600..now).step_by(30) {
            user.record.sessions.values_mut().for_each(|session| session.touch(at(beat)));
        }
        user.happens(at(now - 20), opens("b")).happens(at(now - 10), closes("b")).happens(at(now), opens("a"));
    }
    user.published().swept(at(199 * 3_600 + 10));
    user.happens(at(199 * 3_600 + 30), beats("a")).swept(at(199 * 3_600 + 100));
    let record = &user.record;
    assert!(record.sessions.len() <= 2);
    assert!(record.sessions.values().all(|session| session.earlier.len() <= 3), "{record:#?}");
    assert!(record.earlier_choices.is_empty() && record.earlier_voices.is_empty() && record.earlier_leases.is_empty());
    assert_eq!(user.activities(at(199 * 3_600 + 31)), [""; 0], "it ended at its deadline");
}
