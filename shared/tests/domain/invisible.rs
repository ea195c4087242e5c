//! Promise 7: an invisible user's trace equals that of one who went offline when invisibility began, byte for byte.

use std::time::Duration;

use presence::domain::{Cause, InputKind, Intent, Pending, StatusUpdate, Timestamp};
use proptest::prelude::*;

use crate::history::{Happening, arrivals, moments, timely, untimely};
use crate::user::{User, at, beats, chooses, closes, joins_voice, leaves_voice, opened, opens, plays, rules, says};

/// Everything that others can get hold of.
fn trace(user: &User, now: Timestamp) -> String {
    let read = user.read(now);
    // What caused a change is told to operators alone.
    let told =
        user.record.pending.iter().cloned().map(|change| Pending { from: None, cause: Cause::Unknown, ..change });
    serde_json::to_string(&(read, told.collect::<Vec<_>>(), user.next_deadline(now))).unwrap()
}

/// On one platform, so that going offline is one change, however many sessions end.
fn on_the_web(kind: InputKind) -> InputKind {
    match kind {
        InputKind::Opened { session_id, status, .. } => InputKind::Opened { session_id, platform: None, status },
        InputKind::Heartbeat { session_id, .. } => InputKind::Heartbeat { session_id, platform: None },
        other => other,
    }
}

/// Nothing that ends the invisibility.
fn hidden(kind: InputKind) -> InputKind {
    let invisible = |status: Option<Intent>| status.map(|_| Intent::Invisible);
    match kind {
        InputKind::Opened { session_id, platform, status } => {
            InputKind::Opened { session_id, platform, status: invisible(status) }
        }
        InputKind::StatusUpdated(update) => {
            InputKind::StatusUpdated(StatusUpdate { status: invisible(update.status), ..update })
        }
        other => other,
    }
}

/// Two users with the same history, one of whom became invisible and the other went offline, both at `since` and heard
/// of at `now`. None if the first was refused.
fn twins(before: &[Happening], since: Timestamp, now: Timestamp, by_update: bool) -> Option<(User, User)> {
    let mut invisible = User::unknown();
    for (at, happening) in moments(before) {
        let _refused = invisible.tries(at, at, on_the_web(happening.kind.clone()));
    }
    let mut offline = invisible.clone();
    for id in ["a", "b", "c"] {
        offline.hears(now, since, closes(id));
    }
    let invisible_by = if by_update { chooses(Intent::Invisible) } else { opened("d", None, Some(Intent::Invisible)) };
    invisible.tries(now, since, invisible_by).ok()?;
    Some((invisible, offline))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_an_invisible_user_does_looks_like_having_gone_offline_when_invisibility_began(
        before in timely(20),
        after in prop_oneof![untimely(30), timely(30)],
        (pause, late, by_update) in (1..50_000_i64, prop_oneof![Just(0), 0..45_000_i64], any::<bool>()),
        later in 0..200_000_i64,
    ) {
        let last = moments(&before).last().map_or(at(0), |(at, _)| at);
        let since = Timestamp::from_millis(last.millis() + pause);
        let heard = Timestamp::from_millis(since.millis() + if by_update { 0 } else { late });
        let Some((mut invisible, mut offline)) = twins(&before, since, heard, by_update) else { return Ok(()) };
        prop_assert_eq!(trace(&invisible, heard), trace(&offline, heard));

        let shift = heard.millis() - at(0).millis();
        let mut now = heard;
        for mut arrival in arrivals(&after) {
            arrival.at = Timestamp::from_millis(arrival.at.millis() + shift);
            arrival.heard_at = Timestamp::from_millis(arrival.heard_at.millis() + shift);
            arrival.kind = hidden(arrival.kind);
            now = arrival.heard_at;
            invisible.arrives(&arrival);
            prop_assert_eq!(trace(&invisible, now), trace(&offline, now), "after {:?}", arrival);
        }
        let ttl = rules().last_seen_ttl;
        let gone = [ttl - Duration::from_millis(1), ttl, ttl + Duration::from_secs(3600)].map(|ttl| since + ttl);
        for moment in [Timestamp::from_millis(now.millis() + later)].into_iter().chain(gone) {
            prop_assert_eq!(trace(&invisible, moment), trace(&offline, moment), "{}", moment);
            invisible.swept(moment);
            prop_assert_eq!(trace(&invisible, moment), trace(&offline, moment), "{} swept", moment);
        }
        offline.swept(gone[2]);
        prop_assert_eq!(trace(&invisible, gone[2]), trace(&offline, gone[2]));
    }
}

#[test]
fn nothing_that_an_invisible_user_does_is_told() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), chooses(Intent::Invisible)).published();
    let before = user.read(at(1));
    let hidden = [
        says(Some("hi")),
        plays(Some("Chess")),
        joins_voice("v", "Lounge"),
        opens("b"),
        beats("a"),
        leaves_voice("v"),
        closes("a"),
        closes("b"),
    ];
    for (second, kind) in (2..).zip(hidden) {
        user.happens(at(second * 3), kind);
        assert_eq!((user.read(at(second * 3)), user.told()), (before.clone(), vec![]));
    }
    user.swept(at(300));
    assert_eq!((user.read(at(300)), user.told()), (before, vec![]));
    assert_eq!(user.next_deadline(at(300)), None);
}

#[test]
fn only_the_own_reads_of_an_invisible_user_differ() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), chooses(Intent::Invisible));
    user.happens(at(2), says(Some("hi"))).happens(at(3), plays(Some("Chess")));
    let own = user.own(at(3));
    assert_eq!((own.intent, own.custom_status.unwrap().as_str()), (Intent::Invisible, "hi"));
    assert_eq!(own.activity.unwrap().name.as_str(), "Chess");
    assert_eq!(user.read(at(3)).own, None);
}

#[test]
fn whoever_was_invisible_comes_back_with_a_version_above_all_others() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), chooses(Intent::Invisible));
    let hidden = user.read(at(1)).version;
    user.happens(at(2), beats("a")).happens(at(3), chooses(Intent::Online));
    assert!(user.read(at(3)).version > hidden);
}
