//! Records that fail, and what becomes of them and of the others.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use presence::events::batch::{BatchResponse, Record};
use presence_bridge::{OnFailure, Options, TargetError};

use crate::world::*;

fn is_poison(record: &Record) -> bool {
    text(record).contains("poison")
}

fn poison_among(good: usize) -> Vec<String> {
    let mut all = messages(good);
    all.insert(good / 3, of(u128::MAX, "poison"));
    all
}

/// How often each text was given to the function.
fn counts(function: &Function) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    function.texts().into_iter().for_each(|text| *counts.entry(text).or_default() += 1);
    counts
}

/// Waits for so many messages to be there: on a busy machine they may not come together.
fn in_one_batch(batch_size: usize) -> Options {
    Options { batch_size, maximum_batching_window: Duration::from_secs(2), ..Options::default() }
}

#[tokio::test]
async fn of_a_hundred_with_one_poison_the_others_are_done_and_the_poison_is_kept_whole() {
    let nats = nats().await;
    let all = poison_among(99);
    publish(&nats, all.clone()).await;
    let function =
        function(async |_, records: Vec<Record>| if records.iter().any(is_poison) { failed() } else { done() });
    let once = Options { maximum_retry_attempts: Some(1), ..Options::default() };
    let _running = Start::with(function.clone(), once).on(&nats).await;

    let letters = dead_letters(&nats, 1).await;
    until_settled(&nats).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].subject, format!("presence.dlq.{FUNCTION}"));
    assert_eq!(letters[0].payload, of(u128::MAX, "poison"), "the original bytes");
    assert_eq!(letters[0].header("Dlq-Reason"), Some("failed: as the test wants"));
    assert_eq!(letters[0].header("Dlq-Subject"), Some(SUBJECT));
    assert_eq!(letters[0].header("Dlq-Message-Id"), Some(format!("{STREAM}:{}", 99 / 3 + 1).as_str()));
    assert_eq!(letters[0].header("Dlq-Delivered"), Some("2"), "a first attempt and one more");

    let good: HashSet<String> =
        function.calls().iter().filter(|call| !call.iter().any(is_poison)).flatten().map(text).collect();
    assert_eq!(good.len(), 99, "all others were processed");
    let poisoned: Vec<usize> =
        function.calls().iter().filter(|call| call.iter().any(is_poison)).map(Vec::len).collect();
    assert_eq!(poisoned.iter().filter(|size| **size == 1).count(), 2, "{poisoned:?}");
    assert!(poisoned.len() <= 2 + 7, "halving finds it, and then it goes alone: {poisoned:?}");
}

#[tokio::test]
async fn a_record_that_the_function_names_comes_again_alone_and_the_others_are_done() {
    let nats = nats().await;
    publish(&nats, messages(10)).await;
    let function = function(async |call, records: Vec<Record>| {
        let named = records.iter().filter(|record| call == 0 && text(record).contains("message 4"));
        Ok(BatchResponse::failed(named.map(|record| record.message_id.clone())))
    });
    let _running = Start::with(function.clone(), in_one_batch(10)).on(&nats).await;
    until_settled(&nats).await;
    let calls = function.calls();
    assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [10, 1]);
    assert_eq!(text(&calls[1][0]), messages(10)[4]);
    assert_eq!(calls[1][0].num_delivered, 2);
    assert_eq!(calls[1][0].message_id, calls[0][4].message_id);
    assert_eq!(calls[1][0].timestamp, calls[0][4].timestamp, "it has one time, however often it comes");
}

#[tokio::test]
async fn without_bisecting_a_batch_that_fails_comes_again_as_it_was() {
    let nats = nats().await;
    publish(&nats, messages(4)).await;
    let function = function(async |call, _| if call == 0 { failed() } else { done() });
    let whole = Options { bisect_batch_on_function_error: false, ..in_one_batch(4) };
    let _running = Start::with(function.clone(), whole).on(&nats).await;
    until_settled(&nats).await;
    assert_eq!(function.calls()[0].len(), 4);
    assert!(counts(&function).values().all(|count| *count == 2));
}

#[tokio::test]
async fn a_function_that_hangs_on_a_record_holds_up_the_others_for_a_bounded_time() {
    let nats = nats().await;
    publish(&nats, poison_among(7)).await;
    let function = function(async |_, records: Vec<Record>| {
        if records.iter().any(is_poison) {
            std::future::pending::<()>().await;
        }
        done()
    });
    let impatient = Options {
        invocation_timeout: Duration::from_millis(300),
        maximum_retry_attempts: Some(0),
        ..Options::default()
    };
    let _running = Start::with(function.clone(), impatient).on(&nats).await;
    let letters = dead_letters(&nats, 1).await;
    until_settled(&nats).await;
    assert_eq!(letters[0].header("Dlq-Reason"), Some("no answer in time"));
    assert_eq!(letters[0].payload, of(u128::MAX, "poison"));
    assert_eq!(letters.len(), 1);
}

#[tokio::test]
async fn a_function_that_panics_or_answers_nonsense_has_failed() {
    let nats = nats().await;
    publish(&nats, messages(3)).await;
    let function = function(async |call, _| match call {
        0 => panic!("as the test wants"),
        1 => Ok(BatchResponse::failed(["PRESENCE:4711".to_owned()])),
        _ => done(),
    });
    let _running = Start::with(function.clone(), in_one_batch(3)).on(&nats).await;
    until_settled(&nats).await;
    let sizes: Vec<usize> = function.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes[..2], [3, 1], "halved after the panic");
    let last: HashSet<String> = function.calls()[2..].iter().flatten().map(text).collect();
    assert_eq!(last.len(), 3, "and nothing was taken for done that was not");
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_the_function_is_halved_and_a_record_that_is_goes_to_the_dead_letters() {
    let nats = nats().await;
    publish(&nats, poison_among(9)).await;
    let function = function(async |_, records: Vec<Record>| {
        if records.len() > 3 || records.iter().any(is_poison) {
            return Err(TargetError::Refused("too large".to_owned()));
        }
        done()
    });
    let never_bisect = Options { bisect_batch_on_function_error: false, ..Options::default() };
    let _running = Start::with(function.clone(), never_bisect).on(&nats).await;
    let letters = dead_letters(&nats, 1).await;
    until_settled(&nats).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("Dlq-Reason"), Some("refused: too large"), "at once, for it would never do");
    assert!(counts(&function)[&of(u128::MAX, "poison")] <= 5);
}

#[tokio::test]
async fn records_that_are_too_old_are_not_offered() {
    for (on_failure, letters) in [(OnFailure::DeadLetter, 3), (OnFailure::Discard, 0)] {
        let nats = nats().await;
        publish(&nats, messages(3)).await;
        let function = willing();
        let young = Options { maximum_record_age: Some(Duration::from_secs(60)), on_failure, ..Options::default() };
        // Every message is older than this.
        let none = Options { maximum_record_age: Some(Duration::ZERO), ..young };
        let running = Start::with(function.clone(), none).on(&nats).await;
        until_settled(&nats).await;
        assert!(function.calls().is_empty());
        let kept = nats.stream("PRESENCE_DLQ").await;
        assert_eq!(kept.len(), letters);
        assert!(kept.iter().all(|letter| letter.header("Dlq-Reason") == Some("older than 0 s")));
        running.end().await;

        publish(&nats, messages(3)).await;
        let _running = Start::with(function.clone(), young).on(&nats).await;
        until_settled(&nats).await;
        assert_eq!(function.texts(), messages(3), "what is young enough is");
    }
}
