//! Functions that are away, or take no more, or are slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use presence_bridge::{Options, TargetError};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::world::*;

#[tokio::test]
async fn a_function_that_is_away_costs_no_attempt_and_no_place() {
    const AWAY_FOR: usize = 6;
    let nats = nats().await;
    publish(&nats, messages(30)).await;
    let function = function(
        async |call, _| {
            if call < AWAY_FOR { Err(TargetError::Unavailable("away".to_owned())) } else { done() }
        },
    );
    let options = Options { batch_size: 10, maximum_retry_attempts: Some(0), ..Options::default() };
    let _running = Start::with(function.clone(), options).on(&nats).await;
    until_settled(&nats).await;
    let processed: Vec<String> = function.calls()[AWAY_FOR..].iter().flatten().map(text).collect();
    assert_eq!(processed, messages(30), "each once, and in order");
    assert!(function.calls().iter().flatten().all(|record| record.num_delivered == 1), "they waited in the process");
    assert!(nats.stream("PRESENCE_DLQ").await.is_empty());
}

#[tokio::test]
async fn a_function_that_throttles_is_offered_less_and_gets_all_in_the_end() {
    let nats = nats().await;
    publish(&nats, messages(60)).await;
    let room = Arc::new(Semaphore::new(2));
    let refusals = Arc::new(AtomicUsize::new(0));
    let seen_refusals = refusals.clone();
    let function = function(move |_, _| {
        let (room, refusals) = (room.clone(), refusals.clone());
        async move {
            let Ok(_place) = room.try_acquire() else {
                refusals.fetch_add(1, Ordering::Relaxed);
                return Err(TargetError::Throttled { retry_after: None });
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
            done()
        }
    });
    let options =
        Options { batch_size: 1, maximum_concurrency: 20, maximum_retry_attempts: Some(0), ..Options::default() };
    let _running = Start::with(function.clone(), options).on(&nats).await;
    until_settled(&nats).await;
    let refusals = seen_refusals.load(Ordering::Relaxed);
    assert!(nats.stream("PRESENCE_DLQ").await.is_empty(), "a throttle is no attempt");
    assert_eq!(function.calls().len() - refusals, 60);
    assert!((18..=90).contains(&refusals), "at first nearly all of the twenty, and then few: {refusals}");
}

#[tokio::test]
async fn a_function_that_says_when_to_come_again_is_not_called_before() {
    let nats = nats().await;
    publish(&nats, messages(1)).await;
    let wait = Duration::from_millis(1500);
    let called_at = Arc::new(std::sync::Mutex::new(Vec::new()));
    let calls = called_at.clone();
    let function = function(move |call, _| {
        calls.lock().unwrap().push(Instant::now());
        async move { if call == 0 { Err(TargetError::Throttled { retry_after: Some(wait) }) } else { done() } }
    });
    let _running = Start::new(function.clone()).on(&nats).await;
    until_settled(&nats).await;
    let called_at = called_at.lock().unwrap().clone();
    assert_eq!(called_at.len(), 2);
    assert!(called_at[1] - called_at[0] >= wait);
}

#[tokio::test]
async fn what_takes_longer_than_the_stream_waits_is_still_delivered_once() {
    let nats = nats().await;
    // An operator's consumer, which waits for a second only.
    let jetstream = async_nats::jetstream::new(nats.connect().await);
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some(FUNCTION.into()),
        filter_subject: SUBJECT.into(),
        ack_wait: Duration::from_secs(1),
        ..Default::default()
    };
    jetstream.create_consumer_on_stream(config, STREAM).await.unwrap();
    publish(&nats, messages(3)).await;
    let function = function(async |_, _| {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        done()
    });
    // The others wait for their turn all that time.
    let one_by_one = Options { batch_size: 1, maximum_concurrency: 1, ..Options::default() };
    let _running = Start::with(function.clone(), one_by_one).on(&nats).await;
    until_settled(&nats).await;
    assert_eq!(function.texts(), messages(3));
}

#[tokio::test]
async fn a_batch_waits_for_its_window_or_until_it_is_full() {
    let nats = nats().await;
    let function = willing();
    let patient = Options { batch_size: 5, maximum_batching_window: Duration::from_secs(2), ..Options::default() };
    let _running = Start::with(function.clone(), patient).on(&nats).await;
    let began = Instant::now();
    publish(&nats, messages(7)).await;
    function.until_called(1).await;
    assert!(began.elapsed() < Duration::from_millis(1500), "a full batch waits for nothing");
    function.until_called(2).await;
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(function.calls().iter().map(Vec::len).collect::<Vec<_>>(), [5, 2]);
}

#[tokio::test]
async fn what_is_held_is_bounded_while_the_function_is_slow() {
    let nats = nats().await;
    publish(&nats, messages(500)).await;
    let open = Arc::new(Semaphore::new(0));
    let gate = open.clone();
    let function = function(move |_, _| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            done()
        }
    });
    let options = Options { batch_size: 10, maximum_concurrency: 2, ..Options::default() };
    let _running = Start::with(function.clone(), options).on(&nats).await;
    function.until_called(2).await;
    let info = consumer(&nats).await;
    assert!(info.num_ack_pending <= 30, "two batches and one that waits: {}", info.num_ack_pending);
    open.add_permits(1000);
    until_settled(&nats).await;
    assert_eq!(function.texts().len(), 500);
}

#[tokio::test]
async fn large_messages_come_in_batches_that_the_function_takes() {
    let nats = nats().await;
    let large = |number: usize| of(number as u128, &"x".repeat(900_000 + number));
    for number in 0..12 {
        publish(&nats, [large(number)]).await;
    }
    let function = willing();
    let _running = Start::new(function.clone()).on(&nats).await;
    until_settled(&nats).await;
    let mut lengths: Vec<usize> = function.texts().iter().map(String::len).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, (0..12).map(|number| large(number).len()).collect::<Vec<_>>());
    let limit = Options::default().batch_bytes;
    for call in function.calls() {
        assert!(call.iter().map(|record| record.data.len()).sum::<usize>() <= limit);
    }
}
