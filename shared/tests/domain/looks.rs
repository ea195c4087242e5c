//! What others see of a user: sessions, intent, visible status, custom status and activities, sentence by sentence.

use presence::domain::{ActivityKind, InputKind, Intent, Platform, Status, StatusUpdate, Timestamp};

use crate::user::{
    User, at, beats, beats_on, breaks, chooses, closes, joins_voice, leaves_voice, ms, opened, opens, playing, plays,
    says,
};

#[test]
fn a_user_has_any_number_of_sessions() {
    let mut user = User::unknown();
    for number in 0..10 {
        user.happens(at(number), opens(&format!("s{number}")));
    }
    for number in 0..9 {
        user.happens(at(20), closes(&format!("s{number}")));
        assert_eq!(user.status(at(20)), Status::Online);
    }
    user.happens(at(20), closes("s9"));
    assert_eq!(user.status(at(20)), Status::Offline);
}

#[test]
fn a_session_has_a_platform_which_is_web_if_nobody_says() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), opened("b", Some(Platform::Mobile), None));
    user.happens(at(2), beats_on("c", Some(Platform::Desktop)));
    let platforms: Vec<Platform> = user.read(at(2)).client_status.into_keys().collect();
    assert_eq!(platforms, [Platform::Desktop, Platform::Mobile, Platform::Web]);
}

#[test]
fn a_session_is_live_until_45_s_after_its_heartbeat_and_not_one_millisecond_longer() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(30), beats("a"));
    assert_eq!(user.status(ms(74_999)), Status::Online);
    assert_eq!(user.status(at(75)), Status::Offline);
}

#[test]
fn the_intent_is_the_status_chosen_last_and_online_if_none_was() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    assert_eq!(user.own(at(0)).intent, Intent::Online);
    for (second, intent) in [(1, Intent::Idle), (2, Intent::Dnd), (3, Intent::Invisible), (4, Intent::Online)] {
        user.happens(at(second), chooses(intent));
        assert_eq!(user.own(at(second)).intent, intent);
    }
}

#[test]
fn the_intent_survives_reconnects_and_restarts() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), chooses(Intent::Dnd)).happens(at(2), closes("a"));
    user.happens(at(3), opens("b"));
    assert_eq!(user.status(at(3)), Status::Dnd);
    let mut restarted = User { record: user.record.profile() };
    restarted.happens(at(100), opens("c"));
    assert_eq!(restarted.status(at(100)), Status::Dnd);
}

#[test]
fn the_later_choice_wins_not_the_later_arrival() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(20), chooses(Intent::Dnd));
    user.hears(at(21), at(19), opened("b", None, Some(Intent::Idle)));
    assert_eq!(user.status(at(21)), Status::Dnd);
    user.hears(at(22), at(21), opened("b", None, Some(Intent::Idle)));
    assert_eq!(user.status(at(22)), Status::Idle);
}

#[test]
fn of_two_updates_in_one_millisecond_the_one_answered_last_counts() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"));
    for (choice, status) in [
        (Intent::Invisible, Status::Offline),
        (Intent::Online, Status::Online),
        (Intent::Dnd, Status::Dnd),
        (Intent::Idle, Status::Idle),
    ] {
        user.happens(at(1), chooses(choice));
        assert_eq!(user.status(at(1)), status);
    }
}

#[test]
fn of_two_opens_in_one_millisecond_the_same_one_counts_in_any_order_and_again() {
    let (online, invisible) = (opened("a", None, Some(Intent::Online)), opened("b", None, Some(Intent::Invisible)));
    let mut one = User::unknown();
    one.happens(at(0), online.clone()).happens(at(0), invisible.clone());
    let mut other = User::unknown();
    other.happens(at(0), invisible.clone()).happens(at(0), online.clone()).happens(at(0), online);
    assert_eq!((one.status(at(0)), other.status(at(0))), (Status::Offline, Status::Offline));
}

#[test]
fn offline_as_a_choice_means_invisible_connected_or_not() {
    let mut connected = User::unknown();
    connected.happens(at(0), opens("a")).happens(at(1), chooses("offline".parse().unwrap()));
    assert_eq!(connected.status(at(1)), Status::Offline);
    let mut unconnected = User::unknown();
    unconnected.happens(at(1), chooses("invisible".parse().unwrap())).happens(at(2), opens("a"));
    assert_eq!(unconnected.status(at(2)), Status::Offline);
}

#[test]
fn invisible_never_appears_on_output() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), chooses(Intent::Invisible));
    let mut presence = user.read(at(1));
    presence.own = Some(user.own(at(1)));
    let text = serde_json::to_string(&presence).unwrap();
    assert!(text.contains(r#""intent":"offline""#) && !text.contains("invisible"), "{text}");
}

#[test]
fn no_one_becomes_visible_by_staying_away() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), chooses(Intent::Invisible)).happens(at(2), closes("a"));
    let a_year = 365 * 24 * 60 * 60;
    user.swept(at(a_year)).happens(at(a_year), opens("b"));
    assert_eq!(user.status(at(a_year)), Status::Offline);
    let mut forgotten = User { record: user.record.profile() };
    forgotten.happens(at(2 * a_year), opens("c"));
    assert_eq!(forgotten.status(at(2 * a_year)), Status::Offline);
}

#[test]
fn the_visible_status_is_the_intent_of_a_connected_user() {
    for (intent, status) in [
        (Intent::Online, Status::Online),
        (Intent::Idle, Status::Idle),
        (Intent::Dnd, Status::Dnd),
        (Intent::Invisible, Status::Offline),
    ] {
        let mut user = User::unknown();
        user.happens(at(0), opened("a", None, Some(intent)));
        assert_eq!(user.status(at(0)), status);
        user.happens(at(1), closes("a"));
        assert_eq!(user.status(at(1)), Status::Offline);
    }
}

#[test]
fn a_custom_status_survives_reconnects_and_is_shown_only_while_visible() {
    let mut user = User::unknown();
    let shown = |user: &User, second| user.read(at(second)).custom_status.map(|text| text.to_string());
    user.happens(at(0), says(Some("At work")));
    assert_eq!(shown(&user, 0), None);
    assert_eq!(user.own(at(0)).custom_status.unwrap().as_str(), "At work");
    user.happens(at(1), opens("a"));
    assert_eq!(shown(&user, 1).as_deref(), Some("At work"));
    user.happens(at(2), chooses(Intent::Invisible));
    assert_eq!(shown(&user, 2), None);
    user.happens(at(3), chooses(Intent::Dnd)).happens(at(4), closes("a"));
    assert_eq!(shown(&user, 4), None);
    let mut restarted = User { record: user.record.profile() };
    restarted.happens(at(5), opens("b"));
    assert_eq!(shown(&restarted, 5).as_deref(), Some("At work"));
}

#[test]
fn the_server_sets_started_at_and_keeps_it_when_the_same_activity_is_sent_again() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), plays(Some("Chess")));
    let activity = user.read(at(1)).activity.unwrap();
    assert_eq!((activity.kind, activity.name.as_str(), activity.started_at), (ActivityKind::Playing, "Chess", at(1)));
    user.published().happens(at(9), plays(Some("Chess")));
    assert_eq!((user.began(at(9)), user.told()), (Some(at(1)), vec![]));
    user.happens(at(10), plays(Some("Go")));
    assert_eq!(user.began(at(10)), Some(at(10)));
    let streaming = presence::domain::ActivityUpdate { kind: ActivityKind::Streaming, ..playing("Go") };
    let update = StatusUpdate { activity: Some(Some(streaming)), ..StatusUpdate::default() };
    user.happens(at(30), InputKind::StatusUpdated(update));
    assert_eq!(user.began(at(30)), Some(at(30)), "another type is another activity");
}

#[test]
fn a_user_has_one_activity_of_their_own_and_one_from_voice_and_shows_the_one_that_began_last() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), plays(Some("Chess"))).happens(at(2), joins_voice("v", "Lounge"));
    assert_eq!(user.activities(at(2)), ["Lounge", "Chess"]);
    assert_eq!(user.read(at(2)).activity.unwrap().name.as_str(), "Lounge");
    user.happens(at(3), plays(Some("Go")));
    assert_eq!(user.activities(at(3)), ["Go", "Lounge"]);
    assert_eq!(user.read(at(3)).activity.unwrap().name.as_str(), "Go");
    user.happens(at(4), joins_voice("w", "Stage")).happens(at(5), plays(None));
    assert_eq!(user.activities(at(5)), ["Stage"]);
}

#[test]
fn both_activities_end_when_no_session_is_left() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), plays(Some("Chess"))).happens(at(2), joins_voice("v", "Lounge"));
    user.happens(at(3), opens("b")).happens(at(4), closes("a"));
    assert_eq!(user.activities(at(4)), ["Lounge", "Chess"], "another session carries them on");
    user.happens(at(5), closes("b")).happens(at(6), opens("c"));
    assert_eq!(user.activities(at(6)), [""; 0]);
    user.happens(at(7), plays(Some("Chess")));
    assert_eq!(user.began(at(7)), Some(at(7)), "after a visit the same activity is a new one");
}

#[test]
fn activities_go_on_from_session_to_session_for_as_long_as_there_is_one() {
    let mut user = User::unknown();
    user.happens(at(0), opens("s0")).happens(at(1), plays(Some("Chess"))).happens(at(2), joins_voice("v", "Lounge"));
    for hour in 1..20 {
        user.happens(at(hour * 40), opens(&format!("s{hour}")));
        user.happens(at(hour * 40 + 1), closes(&format!("s{}", hour - 1)));
    }
    assert_eq!(user.activities(at(780)), ["Lounge", "Chess"]);
    assert_eq!(user.read(at(780)).activities[1].started_at, at(1));
}

#[test]
fn an_activity_that_began_on_a_lease_goes_on_with_the_session_after_it() {
    let mut user = User::unknown();
    let activity = Some(Some(playing("Chess")));
    let update = StatusUpdate { status: Some(Intent::Online), activity, ..StatusUpdate::default() };
    user.happens(at(0), InputKind::StatusUpdated(update)).happens(at(40), opens("a"));
    for beat in 1..10 {
        user.happens(at(40 + beat * 30), beats("a"));
    }
    assert_eq!((user.activities(at(310)), user.began(at(310))), (vec!["Chess".to_owned()], Some(at(0))));
}

#[test]
fn invisibility_only_hides_activities_and_they_start_anew_when_it_ends() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), plays(Some("Chess"))).happens(at(2), joins_voice("v", "Lounge"));
    user.happens(at(3), chooses(Intent::Invisible));
    assert_eq!(user.activities(at(3)), [""; 0]);
    assert_eq!(user.own(at(3)).activity.unwrap().started_at, at(1));
    user.happens(at(9), chooses(Intent::Dnd));
    assert_eq!(user.activities(at(9)), ["Chess", "Lounge"]);
    assert!(user.read(at(9)).activities.iter().all(|activity| activity.started_at == at(9)));
    user.happens(at(10), chooses(Intent::Idle)).happens(at(24), plays(Some("Chess")));
    assert_eq!(user.began(at(24)), Some(at(9)), "the run of visible choices goes on");
}

#[test]
fn the_voice_activity_ends_with_its_voice_session() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), joins_voice("v", "Lounge"));
    let activity = user.read(at(1)).activity.unwrap();
    assert_eq!((activity.kind, activity.name.as_str()), (ActivityKind::Listening, "Lounge"));
    user.happens(at(2), leaves_voice("v"));
    assert_eq!(user.activities(at(2)), [""; 0]);
    user.happens(at(3), joins_voice("v", "Lounge"));
    assert_eq!(user.began(at(3)), Some(at(3)), "who comes back into voice begins anew");
}

#[test]
fn a_voice_session_that_is_announced_again_keeps_its_beginning() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), joins_voice("v", "Lounge")).published();
    user.happens(at(9), joins_voice("v", "Lounge"));
    assert_eq!((user.began(at(9)), user.told()), (Some(at(1)), vec![]));
    user.hears(at(10), at(5), leaves_voice("v"));
    assert_eq!(user.began(at(10)), Some(at(9)), "it had ended in between");
    user.happens(at(11), joins_voice("v", "Stage"));
    assert_eq!(user.began(at(11)), Some(at(11)), "another channel is another activity");
}

#[test]
fn the_end_of_another_voice_session_changes_nothing() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a"))
        .happens(at(1), joins_voice("v", "Lounge"))
        .happens(at(2), joins_voice("w", "Stage"));
    user.published().happens(at(3), leaves_voice("v"));
    assert_eq!((user.activities(at(3)), user.told()), (vec!["Stage".to_owned()], vec![]));
    user.happens(at(4), leaves_voice("w"));
    assert_eq!(user.activities(at(4)), [""; 0], "the one before it does not come back");
}

#[test]
fn an_end_of_voice_that_overtakes_its_beginning_wins_also_at_the_same_moment() {
    for ended in [at(5), at(6)] {
        let mut user = User::unknown();
        user.happens(at(0), opens("a")).hears(at(7), ended, leaves_voice("v")).hears(
            at(8),
            at(5),
            joins_voice("v", "Lounge"),
        );
        assert_eq!(user.activities(at(8)), [""; 0]);
    }
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).hears(at(7), at(4), leaves_voice("v")).hears(
        at(8),
        at(5),
        joins_voice("v", "Lounge"),
    );
    assert_eq!(user.activities(at(8)), ["Lounge"], "an end before the beginning is that of an earlier one");
}

#[test]
fn a_beginning_of_voice_that_comes_again_after_its_end_does_not_count() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), joins_voice("v", "Lounge")).happens(at(2), leaves_voice("v"));
    for beat in 1..20 {
        user.happens(at(beat * 30), beats("a"));
    }
    user.hears(at(580), at(1), joins_voice("v", "Lounge"));
    assert_eq!(user.activities(at(580)), [""; 0]);
}

#[test]
fn a_voice_event_before_its_users_session_is_held_for_45_s() {
    let shows = |opened_at: Timestamp| {
        let mut user = User::unknown();
        user.happens(at(0), joins_voice("v", "Lounge"));
        assert_eq!(user.status(at(1)), Status::Offline, "voice is no session");
        user.happens(opened_at, opens("a"));
        (user.activities(opened_at).len(), user.began(opened_at))
    };
    assert_eq!(shows(ms(44_999)), (1, Some(at(0))));
    assert_eq!(shows(at(45)), (0, None));
    let mut ended = User::unknown();
    ended.happens(at(0), joins_voice("v", "Lounge")).happens(at(1), leaves_voice("v")).happens(at(2), opens("a"));
    assert_eq!(ended.activities(at(2)), [""; 0]);
}

#[test]
fn a_refresh_carries_activities_on() {
    let mut user = User::unknown();
    user.happens(at(0), opens("a")).happens(at(1), plays(Some("Chess"))).published();
    user.happens(at(2), breaks("a")).happens(at(4), opens("b"));
    assert_eq!((user.activities(at(4)), user.told()), (vec!["Chess".to_owned()], vec![]));
    assert_eq!(user.began(at(4)), Some(at(1)));
}
