//! `last_seen`, versions, and the truth of a read, sentence by sentence.

use std::time::Duration;

use presence::domain::{Intent, Status, Timestamp};

use crate::user::{User, at, beats, chooses, closes, ms, opened, opens, plays, rules, says, version};

fn last_seen(user: &User, now: Timestamp) -> Option<Timestamp> {
    user.read(now).last_seen
}

#[test]
fn a_user_never_seen_is_offline_without_last_seen() {
    let read = User::unknown().read(at(0));
    assert_eq!((read.status, read.last_seen, read.version), (Status::Offline, None, 0));
}

#[test]
fn last_seen_is_the_last_open_heartbeat_close_or_status_update() {
    let mut user = User::unknown();
    for (second, kind) in
        [(1, opens("a")), (2, beats("a")), (3, chooses(Intent::Dnd)), (4, says(None)), (5, closes("a"))]
    {
        user.happens(at(second), kind);
        assert_eq!(last_seen(&user, at(second)), Some(at(second)));
    }
    assert_eq!(last_seen(&user, at(60)), Some(at(5)));
}

#[test]
fn last_seen_never_goes_back() {
    let mut user = User::unknown();
    user.happens(at(10), opens("a"));
    for kind in [beats("b"), closes("b"), opens("c"), opened("d", None, Some(Intent::Invisible))] {
        user.hears(at(11), at(5), kind);
        assert_eq!(last_seen(&user, at(11)), Some(at(10)));
    }
    user.hears(at(12), at(8), opened("d", None, Some(Intent::Online)));
    assert_eq!((user.status(at(12)), last_seen(&user, at(12))), (Status::Online, Some(at(10))));
}

#[test]
fn last_seen_is_frozen_when_invisibility_begins_and_goes_on_when_it_ends() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(5), chooses(Intent::Invisible));
    for (second, kind) in
        [(6, beats("a")), (7, chooses(Intent::Invisible)), (8, says(Some("hi"))), (9, closes("a")), (10, opens("b"))]
    {
        user.happens(at(second), kind);
        assert_eq!(last_seen(&user, at(second)), Some(at(5)));
    }
    user.happens(at(11), chooses(Intent::Online));
    assert_eq!(last_seen(&user, at(11)), Some(at(11)));
}

#[test]
fn a_choice_of_invisible_that_comes_late_does_not_take_last_seen_back() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(9), beats("a"));
    user.hears(at(10), at(5), opened("b", None, Some(Intent::Invisible)));
    assert_eq!((user.status(at(10)), last_seen(&user, at(10))), (Status::Offline, Some(at(9))));
}

#[test]
fn last_seen_is_kept_for_last_seen_ttl_after_the_user_is_gone() {
    let ttl = rules().last_seen_ttl;
    let before = |moment: Timestamp| moment - Duration::from_millis(1);
    let mut closed = User::unknown();
    closed.happens(at(0), opens("a")).happens(at(9), closes("a"));
    let mut ran_out = User::unknown();
    ran_out.happens(at(9), opens("a"));
    let mut invisible = User::unknown();
    invisible.happens(at(0), opens("a")).happens(at(9), chooses(Intent::Invisible));
    for (user, gone) in [(&mut closed, at(9)), (&mut ran_out, at(54)), (&mut invisible, at(9))] {
        for swept in [false, true] {
            if swept {
                user.swept(at(500));
            }
            assert_eq!(last_seen(user, before(gone + ttl)), Some(at(9)));
            let read = user.read(gone + ttl);
            assert_eq!((read.last_seen, read.version), (None, 0), "like a user never seen");
        }
        assert!(user.record.remembered_until(&rules()) >= Some(gone + ttl));
    }
}

#[test]
fn the_version_is_the_moment_of_the_change_or_one_more_than_before() {
    let mut user = User::unknown();
    user.happens(at(1), opens("a"));
    assert_eq!(user.read(at(1)).version, version(at(1)));
    user.happens(at(1), chooses(Intent::Dnd)).happens(at(1), chooses(Intent::Idle));
    assert_eq!(user.read(at(1)).version, version(at(1)) + 2);
    user.happens(at(2), beats("a"));
    assert_eq!(user.read(at(2)).version, version(at(1)) + 2, "a heartbeat is no visible change");
    user.happens(at(3), plays(Some("Chess")));
    assert_eq!(user.read(at(3)).version, version(at(3)));
    user.happens(at(4), says(Some("hi")));
    assert_eq!(user.read(at(4)).version, version(at(4)));
}

#[test]
fn the_version_stays_monotonic_when_the_store_lost_its_last_writes() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    let backup = user.clone();
    user.happens(at(1), chooses(Intent::Dnd)).happens(at(1), chooses(Intent::Idle));
    let told = user.read(at(1)).version;
    let mut restored = backup;
    restored.happens(at(5), says(Some("hi")));
    assert!(restored.read(at(5)).version > told);
}

#[test]
fn the_version_of_an_expiry_is_its_deadline_also_in_a_read_before_the_sweep() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    let read = user.read(at(100));
    assert_eq!((read.status, read.version), (Status::Offline, version(at(45))));
    user.swept(at(200));
    assert_eq!((user.read(at(200)), user.told()[1].0), (read, version(at(45))));

    let mut ahead = User::unknown();
    ahead.record.version = version(at(90));
    ahead.happens(at(0), opens("a"));
    assert_eq!(ahead.read(at(45)).version, version(at(90)) + 2);
}

#[test]
fn each_deadline_has_its_own_version() {
    let mut user = User::unknown();
    user.happens(at(0), opened("a", Some(presence::domain::Platform::Mobile), None)).happens(at(9), opens("b"));
    user.published().swept(at(100));
    assert_eq!(user.told(), [(version(at(45)), true, false), (version(at(54)), true, false)]);
}

#[test]
fn renewing_a_session_after_its_deadline_is_a_visible_change() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(46), beats("a"));
    assert_eq!(user.statuses_told(), [Status::Online, Status::Offline, Status::Online]);
    let versions: Vec<u64> = user.told().iter().map(|change| change.0).collect();
    assert_eq!(versions, [version(at(0)), version(at(45)), version(at(46))]);
}

#[test]
fn a_read_never_says_online_after_the_deadline_also_if_nobody_sweeps() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    for later in [45_000, 45_001, 60_000, 3_600_000] {
        let read = user.read(ms(later));
        assert_eq!((read.status, read.client_status.len()), (Status::Offline, 0));
    }
}

#[test]
fn a_clock_that_is_behind_another_takes_nothing_back() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).swept(ms(45_003));
    assert_eq!(user.status(ms(44_999)), Status::Offline, "it was told already");
    user.hears(ms(44_999), ms(44_999), chooses(Intent::Dnd)).swept(at(60));
    assert_eq!(user.statuses_told(), [Status::Online, Status::Offline]);
}

#[test]
fn a_user_whose_record_the_store_lost_is_told_offline_at_their_deadline() {
    let lost = |deadline: Timestamp| {
        let mut user = User::unknown();
        user.record.lapsed = Some(deadline);
        user
    };
    let mut user = lost(at(45));
    let read = user.read(at(100));
    assert_eq!((read.status, read.version, read.last_seen), (Status::Offline, version(at(45)), Some(at(0))));
    user.swept(at(200));
    assert_eq!((user.read(at(200)), user.statuses_told()), (read, vec![Status::Offline]));
    user.swept(at(201));
    assert_eq!(user.statuses_told().len(), 1, "and only once");

    let mut early = lost(at(45));
    early.swept(at(30));
    let read = early.read(at(30));
    assert_eq!((read.version, read.last_seen), (version(at(30)), Some(at(0))), "a read shows no session any more");
    early.happens(at(31), beats("a"));
    assert_eq!(early.statuses_told(), [Status::Offline, Status::Online]);

    let mut told = lost(at(45));
    told.record.version = version(at(45));
    assert_eq!(told.swept(at(60)).statuses_told(), []);

    let mut invisible = User::unknown();
    invisible.happens(at(0), chooses(Intent::Invisible));
    invisible.record.lapsed = Some(at(45));
    let before = invisible.read(at(44));
    assert_eq!(invisible.swept(at(60)).statuses_told(), []);
    assert_eq!(invisible.read(at(60)), before);
}
