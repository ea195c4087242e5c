//! Histories that are wrong in one thing each: the judge finds it, and nothing else.

use serde_json::{Value, json};

use super::check::{BACK, DIFFER, IN_TIME, KEPT, LAST, ONE_LOOK, ORDER, STUCK, TOLD};
use super::{End, History, Life, Outcome, Read, Sign, Told, Update, check};

const START: i64 = 1_700_000_000_000;
const TIMEOUT: i64 = 4000;

fn presence(version: i64, status: &str) -> Value {
    let client_status = if status == "offline" { json!({}) } else { json!({ "web": status }) };
    json!({
        "user_id": "somebody", "status": status, "custom_status": null, "activity": null, "activities": [],
        "client_status": client_status, "last_seen": null, "version": START + version,
    })
}

fn told(version: i64, status: &str) -> Told {
    let at = START + version + 20;
    Told { at, is_status: true, id: format!("somebody:{version}:status"), presence: presence(version, status) }
}

fn read(at: i64, version: i64, status: &str) -> Read {
    Read { began: START + at, ended: START + at + 5, presence: presence(version, status) }
}

fn done(at: i64, body: Value, version: i64, status: &str) -> Update {
    let outcome = Outcome::Done(presence(version, status));
    Update { began: START + at, ended: START + at + 10, body, outcome }
}

fn own(mut presence: Value, intent: &str) -> Value {
    presence["own"] = json!({ "intent": intent, "custom_status": null, "activity": null });
    presence
}

/// Opens at 0, becomes idle at 1000, is silent, and runs out at 5000.
fn good() -> History {
    let life = Life {
        user: "somebody".to_owned(),
        updates: vec![done(990, json!({ "status": "idle" }), 1000, "idle")],
        signs: vec![Sign { at: START }],
        reads: vec![
            read(100, 0, "online"),
            read(2000, 1000, "idle"),
            read(4999, 1000, "idle"),
            read(5100, 5000, "offline"),
        ],
        told: vec![told(0, "online"), told(1000, "idle"), told(5000, "offline")],
        end: Some(End {
            is_connected: false,
            read: presence(5000, "offline"),
            own: own(presence(5000, "offline"), "idle"),
        }),
    };
    History {
        heartbeat_timeout: TIMEOUT,
        clock_error: 0,
        patience: 5000,
        outages: Vec::new(),
        troubles: Vec::new(),
        losses: Vec::new(),
        lives: vec![life],
    }
}

/// The rules that a good history breaks once this is done to it.
fn broken(spoil: impl FnOnce(&mut Life)) -> Vec<&'static str> {
    let mut history = good();
    spoil(&mut history.lives[0]);
    rules(&history)
}

fn rules(history: &History) -> Vec<&'static str> {
    let mut rules: Vec<_> = check(history).violations.into_iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn a_good_history_has_no_violation_and_tries_every_rule() {
    let verdict = check(&good());
    assert_eq!(verdict.violations, []);
    assert_eq!(verdict.tried.len(), 9, "{:?}", verdict.tried);
    assert_eq!(verdict.delays, [20, 20, 20]);
}

#[test]
fn what_comes_twice_is_no_violation() {
    let twice = |life: &mut Life| {
        life.told.push(told(1000, "idle"));
        life.told.insert(1, told(0, "online"));
    };
    assert!(broken(twice).is_empty());
}

#[test]
fn a_read_that_says_online_after_the_deadline_is_found() {
    // The update at 990 gave a lease of 4000 ms from its answer at the latest.
    assert_eq!(broken(|life| life.reads[2] = read(5002, 1000, "idle")), [IN_TIME]);
    assert_eq!(broken(|life| life.reads.insert(0, read(-50, 0, "online"))), [IN_TIME], "before any sign of life");
}

#[test]
fn events_in_the_wrong_order_are_found() {
    let swapped = |life: &mut Life| {
        life.told.swap(0, 1);
        life.reads.clear();
    };
    assert_eq!(broken(swapped), [ORDER]);
}

#[test]
fn an_id_that_tells_two_things_is_found() {
    let other = |life: &mut Life| {
        let mut again = told(1000, "idle");
        again.presence["last_seen"] = json!("2024-01-01T12:00:00Z");
        life.told.insert(2, again);
    };
    assert_eq!(broken(other), [ORDER]);
}

#[test]
fn consecutive_events_that_tell_the_same_are_found() {
    let again = |life: &mut Life| life.told.insert(2, told(2000, "idle"));
    assert_eq!(
        broken(|life| {
            again(life);
            life.reads.truncate(1);
        }),
        [DIFFER]
    );
    assert_eq!(broken(|life| life.told.insert(0, told(-100, "offline"))), [DIFFER], "everyone begins offline");

    let mut history = good();
    again(&mut history.lives[0]);
    history.lives[0].reads.truncate(1);
    history.outages.push(START + 1900..START + 2100);
    assert!(rules(&history).is_empty(), "a return after an outage of the store may look like what was told last");
}

#[test]
fn a_read_that_goes_back_is_found() {
    assert_eq!(broken(|life| life.reads[2] = read(3000, 0, "online")), [BACK]);
    assert_eq!(broken(|life| life.reads[1] = read(1100, 0, "online")), [BACK], "behind an event");
}

#[test]
fn a_version_that_is_used_twice_is_found() {
    assert_eq!(broken(|life| life.reads[2] = read(3000, 1000, "dnd")), [ONE_LOOK]);
}

#[test]
fn an_acknowledged_change_that_is_never_told_is_found() {
    let lost = |life: &mut Life| {
        life.told.remove(1);
    };
    assert_eq!(broken(lost), [TOLD]);
}

#[test]
fn a_last_event_that_is_not_the_last_state_is_found() {
    let lost = |life: &mut Life| {
        life.told.pop();
    };
    assert_eq!(broken(lost), [LAST]);
}

#[test]
fn a_choice_that_is_lost_is_found_and_one_that_nobody_answered_may_be_either() {
    let forgotten = |life: &mut Life| life.end.as_mut().unwrap().own = own(presence(5000, "offline"), "online");
    assert_eq!(broken(forgotten), [KEPT]);
    let unanswered = |life: &mut Life| {
        forgotten(life);
        let (began, ended) = (START + 1500, START + 1600);
        life.updates.push(Update { began, ended, body: json!({ "status": "online" }), outcome: Outcome::Unknown });
    };
    assert!(broken(unanswered).is_empty());
    let refused = |life: &mut Life| {
        unanswered(life);
        life.updates[1].outcome = Outcome::Refused;
    };
    assert_eq!(broken(refused), [KEPT]);
}

#[test]
fn a_user_who_is_stuck_is_found() {
    assert_eq!(broken(|life| life.end.as_mut().unwrap().is_connected = true), [STUCK]);
}

#[test]
fn after_a_loss_nothing_is_said_of_what_may_be_lost() {
    let mut history = good();
    history.losses.push(START + 900..START + 1500);
    history.lives[0].told.remove(1);
    history.lives[0].reads[2] = read(3000, 0, "online");
    assert!(rules(&history).is_empty());
}
