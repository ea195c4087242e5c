//! The table of inputs row by row, tombstones, what is dropped, and the limits.

use std::time::Duration;

use presence::domain::{InputKind, Intent, Platform, RateLimited, Status, StatusUpdate, Timestamp};

use crate::user::{User, at, beats, beats_on, breaks, chooses, closes, joins_voice, ms, opened, opens, plays, says};

fn platforms(user: &User, now: Timestamp) -> Vec<Platform> {
    user.read(now).client_status.into_keys().collect()
}

/// Until when a user is online of whom nothing more is heard.
fn online_until(user: &User, now: Timestamp) -> Timestamp {
    let mut now = now;
    assert_ne!(user.status(now), Status::Offline);
    while let Some(next) = user.next_deadline(now) {
        assert!(next > now);
        now = next;
    }
    now
}

#[test]
fn an_update_sets_what_it_names_and_what_it_does_not_name_stays() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), says(Some("hi"))).happens(at(2), plays(Some("Chess")));
    user.happens(at(3), chooses(Intent::Dnd));
    let read = user.read(at(3));
    assert_eq!(read.status, Status::Dnd);
    assert_eq!((read.custom_status.unwrap().as_str(), read.activity.unwrap().name.as_str()), ("hi", "Chess"));
    user.happens(at(4), InputKind::StatusUpdated(StatusUpdate::default()));
    assert_eq!(user.read(at(4)).status, Status::Dnd);
}

#[test]
fn null_clears() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), says(Some("hi"))).happens(at(2), plays(Some("Chess")));
    user.happens(at(3), says(None)).happens(at(4), plays(None));
    let read = user.read(at(4));
    assert_eq!((read.custom_status, read.activity), (None, None));
}

#[test]
fn a_visible_status_without_a_session_sets_a_lease_of_45_s_on_the_web() {
    for (intent, status) in [(Intent::Online, Status::Online), (Intent::Idle, Status::Idle), (Intent::Dnd, Status::Dnd)]
    {
        let mut user = User::unknown();
        user.happens(at(0), chooses(intent));
        assert_eq!((user.status(ms(44_999)), platforms(&user, at(0))), (status, vec![Platform::Web]));
        assert_eq!(user.status(at(45)), Status::Offline);
        user.happens(at(40), chooses(intent));
        assert_eq!(online_until(&user, at(40)), at(85), "each update sets it anew");
    }
}

#[test]
fn what_is_no_visible_status_sets_no_lease() {
    for kind in [chooses(Intent::Invisible), says(Some("hi")), plays(Some("Chess"))] {
        let mut user = User::unknown();
        assert_eq!(user.happens(at(0), kind).status(at(0)), Status::Offline);
    }
}

#[test]
fn a_visible_status_with_a_live_session_sets_no_lease() {
    let mut user = User::unknown();
    user.happens(at(0), opened("a", Some(Platform::Mobile), None)).happens(at(30), chooses(Intent::Dnd));
    assert_eq!((platforms(&user, at(30)), online_until(&user, at(30))), (vec![Platform::Mobile], at(45)));
    let mut lingering = User::unknown();
    lingering.happens(at(0), opens("a")).happens(at(1), breaks("a")).happens(at(2), chooses(Intent::Dnd));
    assert_eq!(online_until(&lingering, at(2)), at(16));
}

#[test]
fn a_lease_ends_when_a_session_opens_or_closes_at_or_after_the_update() {
    for moment in [at(10), at(20)] {
        let mut opens_later = User::unknown();
        opens_later.happens(at(10), chooses(Intent::Online)).happens(moment, opened("a", Some(Platform::Mobile), None));
        assert_eq!(platforms(&opens_later, moment), [Platform::Mobile]);
        for close in [closes("a"), breaks("a")] {
            let mut closes_later = User::unknown();
            closes_later.happens(at(10), chooses(Intent::Online)).happens(moment, close);
            assert_eq!(closes_later.status(moment), Status::Offline);
        }
    }
    let mut closed_before = User::unknown();
    closed_before.happens(at(0), opens("a")).happens(at(9), closes("a")).happens(at(10), chooses(Intent::Online));
    assert_eq!(online_until(&closed_before, at(10)), at(55));
    let mut adopted = User::unknown();
    adopted.happens(at(10), chooses(Intent::Online)).happens(at(20), beats_on("a", Some(Platform::Mobile)));
    assert_eq!(platforms(&adopted, at(20)), [Platform::Mobile, Platform::Web], "a heartbeat neither opens nor closes");
}

#[test]
fn whether_a_lease_counts_does_not_depend_on_what_was_known_when_it_was_set() {
    let mut late_close = User::unknown();
    late_close.happens(at(0), opens("a")).happens(at(10), chooses(Intent::Dnd)).hears(at(12), at(8), closes("a"));
    assert_eq!((late_close.status(at(12)), online_until(&late_close, at(12))), (Status::Dnd, at(55)));
    let mut late_open = User::unknown();
    late_open.happens(at(10), chooses(Intent::Dnd)).hears(at(12), at(5), opened("a", Some(Platform::Mobile), None));
    assert_eq!((platforms(&late_open, at(12)), online_until(&late_open, at(12))), (vec![Platform::Mobile], at(50)));
}

#[test]
fn an_open_makes_the_user_visible_with_their_intent() {
    let mut user = User::unknown();
    assert_eq!(user.happens(at(0), opens("a")).status(at(0)), Status::Online);
    user.happens(at(1), chooses(Intent::Idle)).happens(at(2), closes("a")).happens(at(3), opens("b"));
    assert_eq!(user.status(at(3)), Status::Idle);
}

#[test]
fn the_optional_status_of_an_open_sets_the_intent() {
    let mut user = User::unknown();
    assert_eq!(user.happens(at(0), opened("a", None, Some(Intent::Dnd))).status(at(0)), Status::Dnd);
    user.happens(at(1), opened("b", None, Some(Intent::Invisible)));
    assert_eq!((user.status(at(1)), user.own(at(1)).intent), (Status::Offline, Intent::Invisible));
    user.happens(at(2), opens("c"));
    assert_eq!(user.status(at(2)), Status::Offline, "an open that names none changes none");
}

#[test]
fn a_close_ends_that_session_and_no_other() {
    let mut user = User::unknown();
    user.happens(at(0), opened("a", Some(Platform::Mobile), None))
        .happens(at(1), opens("b"))
        .happens(at(2), closes("a"));
    assert_eq!(platforms(&user, at(2)), [Platform::Web]);
    user.happens(at(3), closes("c"));
    assert_eq!(user.status(at(3)), Status::Online);
    assert_eq!(user.happens(at(4), closes("b")).status(at(4)), Status::Offline);
}

#[test]
fn a_close_code_is_abnormal_when_present_and_not_1000_or_1001() {
    let closed = |code| InputKind::closed("a".parse().unwrap(), code);
    for (code, abnormal) in
        [(None, false), (Some(1000), false), (Some(1001), false), (Some(1006), true), (Some(4009), true)]
    {
        assert_eq!(closed(code), if abnormal { breaks("a") } else { closes("a") }, "{code:?}");
    }
}

#[test]
fn a_session_that_broke_lingers_15_s_but_never_past_its_deadline() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(20), breaks("a"));
    assert_eq!((user.status(ms(34_999)), user.status(at(35))), (Status::Online, Status::Offline));
    let mut late = User::unknown();
    late.happens(at(0), opens("a")).happens(at(40), breaks("a"));
    assert_eq!((late.status(ms(44_999)), late.status(at(45))), (Status::Online, Status::Offline));
}

#[test]
fn a_heartbeat_does_not_prolong_a_session_that_broke() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"))
        .happens(at(20), breaks("a"))
        .happens(at(21), beats("a"))
        .happens(at(34), beats("a"));
    assert_eq!(user.status(at(35)), Status::Offline);
    assert_eq!(user.happens(at(36), beats("a")).status(at(36)), Status::Offline);
}

#[test]
fn a_break_that_comes_late_is_judged_by_the_last_heartbeat_before_it() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    for second in 40..44 {
        user.happens(at(second), beats("a"));
    }
    user.hears(at(44), at(39), breaks("a"));
    assert_eq!(online_until(&user, at(44)), at(45));
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(20), beats("a")).happens(at(40), beats("a")).happens(at(41), beats("a"));
    user.hears(at(44), at(39), breaks("a"));
    assert_eq!(online_until(&user, at(44)), at(54));
}

#[test]
fn a_session_that_broke_ends_at_once_if_any_session_opens_after_it() {
    let mut user = User::unknown();
    user.happens(at(0), opened("a", Some(Platform::Mobile), None))
        .happens(at(20), breaks("a"))
        .happens(at(21), opens("b"));
    assert_eq!(platforms(&user, at(21)), [Platform::Web]);
    let mut before = User::unknown();
    before
        .happens(at(0), opened("a", Some(Platform::Mobile), None))
        .happens(at(20), opens("b"))
        .happens(at(20), breaks("a"));
    assert_eq!(platforms(&before, at(20)), [Platform::Mobile, Platform::Web], "one that opened before does not matter");
}

#[test]
fn a_refresh_publishes_nothing() {
    let mut other = User::unknown();
    other.happens(at(0), opens("a")).published();
    other.happens(at(20), breaks("a")).happens(at(22), opens("b")).swept(at(40));
    assert_eq!(other.told(), []);
    let mut same = User::unknown();
    same.happens(at(0), opens("a")).published();
    same.happens(at(20), breaks("a")).happens(at(22), opens("a")).happens(at(50), beats("a")).swept(at(60));
    assert_eq!(same.told(), []);
}

#[test]
fn a_regular_close_of_a_lingering_session_ends_it() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(20), breaks("a")).happens(at(25), closes("a"));
    assert_eq!(user.status(at(25)), Status::Offline);
}

#[test]
fn a_heartbeat_renews_the_session() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    for beat in 1..20 {
        user.happens(at(beat * 44), beats("a"));
    }
    assert_eq!((user.told().len(), online_until(&user, at(840))), (1, at(836 + 45)));
}

#[test]
fn an_unknown_session_is_adopted_by_its_heartbeat_unless_it_was_closed_already() {
    let mut user = User::unknown();
    assert_eq!(user.happens(at(0), beats("a")).status(at(0)), Status::Online);
    user.happens(at(10), closes("a"));
    for second in [11, 30, 69] {
        assert_eq!(user.happens(at(second), beats("a")).status(at(second)), Status::Offline);
    }
}

#[test]
fn a_tombstone_lasts_60_s_from_the_close_whatever_is_heard_and_swept_meanwhile() {
    for swept in [false, true] {
        let mut user = User::unknown();
        user.happens(at(0), opens("a")).happens(at(10), closes("a")).happens(at(40), beats("a"));
        if swept {
            user.swept(at(69));
        }
        let mut before = user.clone();
        assert_eq!(before.happens(ms(69_999), beats("a")).status(ms(69_999)), Status::Offline);
        assert_eq!(user.happens(at(70), beats("a")).status(at(70)), Status::Online);
    }
}

#[test]
fn opens_and_heartbeats_at_or_before_the_close_are_dropped() {
    for kind in [opens("a"), beats("a")] {
        for late in [at(8), at(10)] {
            let mut user = User::unknown();
            user.happens(at(0), opens("a")).happens(at(10), closes("a")).hears(at(11), late, kind.clone());
            assert_eq!(user.status(at(11)), Status::Offline);
        }
    }
}

#[test]
fn a_later_open_of_the_same_id_starts_anew() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(10), closes("a")).happens(at(11), opens("a"));
    assert_eq!((user.status(at(11)), online_until(&user, at(11))), (Status::Online, at(56)));
    user.happens(at(40), beats("a"));
    assert_eq!(online_until(&user, at(40)), at(85));
}

#[test]
fn a_close_before_the_sessions_open_is_ignored() {
    let mut user = User::unknown();
    user.happens(at(10), opens("a")).hears(at(12), at(9), closes("a")).hears(at(12), at(8), breaks("a"));
    assert_eq!((user.status(at(12)), online_until(&user, at(12))), (Status::Online, at(55)));
    user.hears(at(13), at(10), closes("a"));
    assert_eq!(user.status(at(13)), Status::Offline, "a close at the moment of the open is not before it");
}

#[test]
fn a_close_that_overtakes_its_open_wins() {
    let mut user = User::unknown();
    user.hears(at(12), at(11), closes("a")).hears(at(13), at(10), opens("a")).hears(at(14), at(11), beats("a"));
    assert_eq!((user.status(at(14)), user.statuses_told()), (Status::Offline, vec![]));
}

#[test]
fn a_heartbeat_or_open_older_than_45_s_proves_nothing_and_is_dropped_whole() {
    for kind in [beats("a"), opens("a"), opened("a", None, Some(Intent::Dnd))] {
        let mut user = User::unknown();
        user.swept(at(45));
        let before = user.record.clone();
        user.hears(at(45), at(0), kind.clone());
        assert_eq!(user.record, before, "not even its status counts");
        let mut user = User::unknown();
        user.hears(at(45), ms(1), kind);
        assert_ne!(user.status(at(45)), Status::Offline);
        assert_eq!(user.status(ms(45_001)), Status::Offline);
    }
}

#[test]
fn a_close_is_never_dropped_for_its_age() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    for beat in 1..=4 {
        user.happens(at(beat * 30), beats("a"));
    }
    user.hears(at(150), at(100), closes("a"));
    assert_eq!(user.status(at(150)), Status::Offline);
}

#[test]
fn what_is_said_to_have_happened_in_the_future_happens_now() {
    let mut user = User::unknown();
    user.hears(at(0), at(3600), opens("a"));
    assert_eq!((user.status(at(0)), online_until(&user, at(0))), (Status::Online, at(45)));
    assert_eq!(user.read(at(0)).last_seen, Some(at(0)));
    user.hears(at(1), at(3600), chooses(Intent::Dnd)).hears(at(2), at(2), chooses(Intent::Idle));
    assert_eq!(user.status(at(2)), Status::Idle);
    user.hears(at(3), at(3600), joins_voice("v", "Lounge"));
    assert_eq!(user.began(at(3)), Some(at(3)));
}

#[test]
fn of_more_than_64_sessions_the_stalest_goes_first() {
    let mut user = User::unknown();
    user.happens(at(0), opened("stalest", Some(Platform::Mobile), None));
    user.happens(at(1), opened("renewed", Some(Platform::Desktop), None));
    for number in 2..64 {
        user.happens(at(number / 10 + 2), opens(&format!("s{number}")));
    }
    user.happens(at(10), beats("renewed")).happens(at(11), plays(Some("Chess")));
    assert_eq!(platforms(&user, at(11)), [Platform::Desktop, Platform::Mobile, Platform::Web]);
    user.happens(at(12), opens("one-too-many"));
    assert_eq!(platforms(&user, at(12)), [Platform::Desktop, Platform::Web]);
    assert_eq!(user.activities(at(12)), ["Chess"]);
    assert_eq!(user.record.sessions.len(), 64);
}

#[test]
fn the_65th_session_keeps_neither_tombstones_nor_activities_from_counting() {
    let mut user = User::unknown();
    user.happens(at(0), opens("first")).happens(at(1), plays(Some("Chess"))).happens(at(2), joins_voice("v", "Lounge"));
    for number in 0..64 {
        user.happens(at(3), opens(&format!("s{number}")));
    }
    assert_eq!(user.activities(at(3)), ["Lounge", "Chess"], "what began on a session that went goes on");
    for number in 0..64 {
        user.happens(at(4), closes(&format!("s{number}")));
    }
    assert_eq!(user.status(at(4)), Status::Offline);
    for number in 0..64 {
        user.happens(at(5), beats(&format!("s{number}")));
    }
    assert_eq!(user.status(at(5)), Status::Offline, "each has its tombstone");
}

#[test]
fn the_sixth_update_within_20_s_is_refused_changes_nothing_and_does_not_count() {
    let mut user = User::unknown();
    for second in 0..5 {
        user.happens(at(second), chooses(Intent::Idle));
    }
    let before = user.record.clone();
    for second in [5, 6, 19] {
        let refused = user.tries(at(second), at(second), chooses(Intent::Dnd)).unwrap_err();
        assert_eq!(refused, RateLimited { retry_after: Duration::from_secs(20 - second as u64) });
    }
    user.record.settled_at = before.settled_at;
    assert_eq!(user.record, before);
    user.happens(at(20), chooses(Intent::Dnd));
    let refused = user.tries(at(20), at(20), chooses(Intent::Idle)).unwrap_err();
    assert_eq!(refused, RateLimited { retry_after: Duration::from_secs(1) });
}

#[test]
fn an_update_that_is_decided_again_is_neither_refused_nor_counted_twice() {
    let mut user = User::unknown();
    for second in 0..5 {
        user.happens(at(second), chooses(if second < 4 { Intent::Idle } else { Intent::Dnd }));
    }
    let before = user.record.clone();
    assert_eq!(user.tries(at(5), at(4), chooses(Intent::Dnd)), Ok(()));
    user.record.settled_at = before.settled_at;
    assert_eq!(user.record, before);
}
