//! What is told: which events a change publishes, that consecutive ones differ, and how they wait while nobody can be
//! told.

use presence::domain::{Intent, PENDING_LIMIT, Platform, Status};

use crate::user::{
    User, at, beats, breaks, chooses, closes, joins_voice, leaves_voice, ms, opened, opens, plays, says, version,
};

const STATUS: (bool, bool) = (true, false);
const ACTIVITY: (bool, bool) = (false, true);
const BOTH: (bool, bool) = (true, true);

/// Which events each change publishes.
fn kinds(user: &User) -> Vec<(bool, bool)> {
    user.told().into_iter().map(|(_, status, activity)| (status, activity)).collect()
}

#[test]
fn a_change_of_status_custom_status_or_client_status_publishes_status_changed() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    user.happens(at(1), chooses(Intent::Dnd));
    user.happens(at(2), says(Some("hi")));
    user.happens(at(3), opened("b", Some(Platform::Mobile), None));
    user.happens(at(4), closes("a"));
    user.happens(at(5), closes("b"));
    assert_eq!(kinds(&user), [STATUS; 6]);
    assert!(user.record.pending.iter().all(|change| change.trace == crate::user::trace()));
}

#[test]
fn a_change_of_activity_by_a_visible_user_publishes_activity_updated() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).published();
    user.happens(at(1), plays(Some("Chess")));
    user.happens(at(2), joins_voice("v", "Lounge"));
    user.happens(at(3), leaves_voice("v"));
    user.happens(at(4), plays(None));
    assert_eq!(kinds(&user), [ACTIVITY; 4]);
}

#[test]
fn who_comes_online_with_an_activity_publishes_both_and_who_goes_offline_only_the_status() {
    let mut user = User::unknown();
    user.happens(at(0), joins_voice("v", "Lounge"));
    user.happens(at(1), opens("a")).happens(at(2), chooses(Intent::Invisible)).happens(at(3), chooses(Intent::Online));
    user.happens(at(4), closes("a"));
    assert_eq!(kinds(&user), [BOTH, STATUS, BOTH, STATUS]);
}

#[test]
fn no_visible_change_publishes_no_event() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), says(Some("hi"))).happens(at(2), plays(Some("Chess"))).published();
    let nothing = [
        beats("a"),
        opens("a"),
        opens("b"),
        chooses(Intent::Online),
        says(Some("hi")),
        leaves_voice("v"),
        closes("b"),
        breaks("c"),
    ];
    for (second, kind) in (3..).zip(nothing) {
        user.happens(at(second * 4), kind);
    }
    assert_eq!(user.told(), []);
    let mut offline = User::unknown();
    offline
        .happens(at(0), says(Some("hi")))
        .happens(at(1), plays(Some("Chess")))
        .happens(at(2), joins_voice("v", "Lounge"));
    offline.happens(at(3), closes("a")).happens(at(4), chooses(Intent::Invisible));
    assert_eq!(offline.told(), []);
}

#[test]
fn repeating_an_input_changes_nothing_in_the_record() {
    let inputs = [
        opens("a"),
        joins_voice("v", "Lounge"),
        beats("a"),
        breaks("a"),
        opened("b", None, Some(Intent::Dnd)),
        leaves_voice("v"),
        closes("b"),
    ];
    let mut user = User::unknown();
    for (second, kind) in (0..).zip(inputs.clone()) {
        user.happens(at(second), kind);
    }
    let before = user.swept(at(20)).record.clone();
    for (second, kind) in (0..).zip(inputs) {
        user.hears(at(20), at(second), kind);
        assert_eq!(user.record, before);
    }
}

#[test]
fn a_change_is_told_with_its_own_moment_and_version() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).hears(at(7), at(5), plays(Some("Chess"))).swept(at(99));
    let moments: Vec<_> = user.record.pending.iter().map(|change| (change.at, change.presence.version)).collect();
    assert_eq!(moments, [(at(0), version(at(0))), (at(7), version(at(7))), (at(45), version(at(45)))]);
}

/// Fails if a listener would be told the same twice, beginning from what was published last.
fn assert_consecutive_differ(user: &User, published: Status) {
    let statuses = user.record.pending.iter().filter(|change| change.status);
    let first = statuses.clone().next();
    assert!(first.is_none_or(|first| first.presence.status != published || first.presence.custom_status.is_some()));
    for (one, next) in statuses.clone().zip(statuses.skip(1)) {
        assert!(!one.tells_status_of(&next.presence), "{one:?}\n{next:?}");
    }
    for (one, next) in user.record.pending.iter().zip(user.record.pending.iter().skip(1)) {
        assert!(one.presence.version < next.presence.version);
        assert!(one.status || one.activity);
        assert!(!next.status || !one.tells_status_of(&next.presence), "it is told only if it changed");
    }
}

#[test]
fn consecutive_status_events_differ_also_when_the_activity_changed_in_between() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), plays(Some("Chess"))).happens(at(2), opens("b"));
    user.happens(at(3), plays(Some("Go")))
        .happens(at(4), chooses(Intent::Dnd))
        .happens(at(5), joins_voice("v", "Lounge"));
    assert_eq!(kinds(&user), [STATUS, ACTIVITY, ACTIVITY, STATUS, ACTIVITY]);
    assert_consecutive_differ(&user, Status::Offline);
}

#[test]
fn a_full_queue_begins_where_the_last_telling_ended_and_ends_with_the_latest() {
    let mut user = User::unknown();
    for round in 0..200 {
        let now = at(round * 5);
        user.happens(now, if round % 2 == 0 { opens("a") } else { closes("a") });
        assert!(user.record.pending.len() <= PENDING_LIMIT);
        assert_consecutive_differ(&user, Status::Offline);
        assert_eq!(user.record.pending.last().unwrap().presence, user.read(now));
        assert_eq!(user.told()[0], (version(at(0)), true, false));
    }
}

#[test]
fn a_queue_full_of_activities_tells_no_status_that_was_told_already() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).published();
    for round in 1..=64 {
        user.happens(ms(round * 5), joins_voice(&format!("v{round}"), "Lounge"));
    }
    assert_eq!(kinds(&user), [ACTIVITY; PENDING_LIMIT]);
    user.happens(at(1), closes("a"));
    assert_eq!((user.told().len(), user.told().pop()), (PENDING_LIMIT, Some((version(at(1)), true, false))));
    user.happens(at(2), opens("a"));
    let told = user.told();
    assert!(told.iter().all(|(_, status, _)| !status), "online was told before: {told:?}");
    assert_eq!(user.record.pending.last().unwrap().presence, user.read(at(2)));
}

#[test]
fn a_full_queue_that_comes_back_to_what_was_told_tells_nothing_new() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), plays(Some("Chess"))).published();
    for round in 0..300 {
        let kind = if round % 2 == 0 {
            joins_voice(&format!("v{round}"), "Lounge")
        } else {
            leaves_voice(&format!("v{}", round - 1))
        };
        user.happens(ms(2_000 + round * 5), kind);
        let told = user.told();
        assert!(told.len() <= PENDING_LIMIT && told.iter().all(|(_, status, _)| !status), "{told:?}");
    }
}
