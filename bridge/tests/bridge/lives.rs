//! Bridges, consumers and servers that end, and others that go on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use presence_bridge::{Consumers, Options};
use presence_tests::{JetStream, Nats, eventually, seen};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::world::*;

/// A function that works only as often as it is let.
fn held_up(gate: &Arc<Semaphore>) -> Arc<Function> {
    let gate = gate.clone();
    function(move |_, _| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            done()
        }
    })
}

fn distinct(functions: &[&Function]) -> usize {
    functions.iter().flat_map(|function| function.texts()).collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_under_way_and_hands_back_the_rest_at_once() {
    let nats = nats().await;
    publish(&nats, messages(50)).await;
    let gate = Arc::new(Semaphore::new(0));
    let first = held_up(&gate);
    let options = Options { batch_size: 5, maximum_concurrency: 2, ..Options::default() };
    let running = Start::with(first.clone(), options).on(&nats).await;
    first.until_called(2).await;
    running.shutdown.cancel();
    // Those that wait are handed back while the two batches are still under way.
    eventually("the rest to be handed back", SOON, async || {
        let pending = consumer(&nats).await.num_redelivered;
        seen(pending > 0 || consumer(&nats).await.num_ack_pending <= 15, pending)
    })
    .await;
    gate.add_permits(1000);
    running.end().await;
    assert_eq!(first.calls().len(), 2, "nothing is begun after the word");

    let ended = Instant::now();
    let second = willing();
    let _running = Start::with(second.clone(), options).on(&nats).await;
    until_settled(&nats).await;
    assert!(ended.elapsed() < Duration::from_secs(4), "sooner than the stream would deliver again by itself");
    assert_eq!(second.texts().len(), 40, "what was finished does not come again");
    assert_eq!(distinct(&[&first, &second]), 50);
}

#[tokio::test]
async fn a_shutdown_ends_in_time_even_if_the_function_never_answers() {
    let nats = nats().await;
    publish(&nats, messages(8)).await;
    let stuck = held_up(&Arc::new(Semaphore::new(0)));
    let start = Start { drain_time: Duration::from_secs(1), ..Start::new(stuck.clone()) };
    let running = start.on(&nats).await;
    stuck.until_called(1).await;
    let began = Instant::now();
    running.end().await;
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    let second = willing();
    let _running = Start::new(second.clone()).on(&nats).await;
    until_settled(&nats).await;
    assert_eq!(distinct(&[&second]), 8, "what was under way comes again");
}

#[tokio::test]
async fn what_a_bridge_had_that_vanished_comes_to_another() {
    let nats = nats().await;
    publish(&nats, messages(8)).await;
    let stuck = held_up(&Arc::new(Semaphore::new(0)));
    let vanishing = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let start = Start::new(stuck.clone());
    let (sender, running) = tokio::sync::oneshot::channel();
    let url = nats.url();
    vanishing.spawn(async move {
        let _ = sender.send(start.unready_at(&url).await);
    });
    let _first = running.await.unwrap();
    stuck.until_called(1).await;
    vanishing.shutdown_background();

    let second = willing();
    let _running = Start::new(second.clone()).on(&nats).await;
    until_settled(&nats).await;
    assert_eq!(distinct(&[&second]), 8);
}

#[tokio::test]
async fn two_bridges_share_the_messages() {
    let nats = nats().await;
    let slowly = || {
        function(async |_, _| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            done()
        })
    };
    let (one, two) = (slowly(), slowly());
    let options = Options { batch_size: 5, maximum_concurrency: 1, ..Options::default() };
    let _first = Start::with(one.clone(), options).on(&nats).await;
    let _second = Start::with(two.clone(), options).on(&nats).await;
    publish(&nats, messages(400)).await;
    until_settled(&nats).await;
    assert_eq!((one.texts().len() + two.texts().len(), distinct(&[&one, &two])), (400, 400), "each once");
    assert!(one.texts().len() > 50 && two.texts().len() > 50, "{} and {}", one.texts().len(), two.texts().len());
}

#[tokio::test]
async fn a_consumer_that_is_deleted_is_made_again_where_it_was() {
    let nats = nats().await;
    let function = willing();
    let running = Start::new(function.clone()).on(&nats).await;
    publish(&nats, messages(20)).await;
    until_settled(&nats).await;
    async_nats::jetstream::new(nats.connect().await).delete_consumer_from_stream(FUNCTION, STREAM).await.unwrap();
    publish(&nats, messages(30).split_off(20)).await;
    eventually("the rest", SOON, async || {
        let distinct = distinct(&[&function]);
        seen(distinct == 30, distinct)
    })
    .await;
    until_settled(&nats).await;
    running.until_ready().await;
}

#[tokio::test]
async fn a_bridge_that_may_not_make_its_consumer_waits_for_it() {
    let nats = nats().await;
    publish(&nats, messages(3)).await;
    let function = willing();
    let start = Start { consumers: Consumers::Expect, ..Start::new(function.clone()) };
    let running = start.unready_on(&nats).await;
    let jetstream = async_nats::jetstream::new(nats.connect().await);
    let mut missing = running.bridge.readiness().missing();
    eventually("to be told what is missing", SOON, async || {
        missing = running.bridge.readiness().missing();
        seen(missing.iter().any(|reason| reason.contains("does not exist")), missing.clone())
    })
    .await;
    assert!(missing[0].starts_with("consumer heartbeat-received of stream PRESENCE"), "{missing:?}");
    assert!(!running.bridge.readiness().is_ready());
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some(FUNCTION.into()),
        filter_subject: SUBJECT.into(),
        ..Default::default()
    };
    jetstream.create_consumer_on_stream(config, STREAM).await.unwrap();
    running.until_ready().await;
    until_settled(&nats).await;
    assert_eq!(function.texts(), messages(3));
    assert!(running.bridge.readiness().missing().is_empty());
}

#[tokio::test]
async fn a_bridge_that_starts_before_nats_waits_for_it() {
    let mut nats = Nats::stopped(JetStream::On);
    let function = willing();
    let running = Start::new(function.clone()).unready_on(&nats).await;
    assert!(!running.bridge.readiness().is_ready());
    nats.restart().await;
    running.until_ready().await;
    publish(&nats, messages(3)).await;
    until_settled(&nats).await;
    assert_eq!(function.texts(), messages(3));
}

#[tokio::test]
async fn a_nats_that_restarts_under_load_loses_nothing() {
    let mut nats = nats().await;
    publish(&nats, messages(3000)).await;
    let function = function(async |_, _| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        done()
    });
    let options = Options { batch_size: 20, maximum_concurrency: 2, ..Options::default() };
    let running = Start::with(function.clone(), options).on(&nats).await;
    for calls in [10, 40, 70] {
        function.until_called(calls).await;
        nats.kill();
        nats.restart().await;
    }
    until_settled(&nats).await;
    running.until_ready().await;
    assert_eq!(distinct(&[&function]), 3000);
    assert!(nats.stream("PRESENCE_DLQ").await.is_empty());
}
