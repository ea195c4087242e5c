//! Without JetStream: queue groups, and nobody who keeps a message but the bridge itself.

use std::collections::HashSet;
use std::time::Duration;

use presence::events::batch::{BatchResponse, Record};
use presence_bridge::{Options, TargetError};
use presence_tests::{JetStream, Nats, eventually, now_ms, seen};

use crate::world::*;

async fn until_processed(functions: &[&Function], count: usize) {
    eventually("all messages", SOON, async || {
        let texts: HashSet<String> = functions.iter().flat_map(|function| function.texts()).collect();
        seen(texts.len() >= count, texts.len())
    })
    .await;
}

#[tokio::test]
async fn bridges_share_the_messages_as_a_queue_group() {
    let nats = Nats::start(JetStream::Off).await;
    let (one, two) = (willing(), willing());
    let _first = Start::new(one.clone()).on(&nats).await;
    let _second = Start::new(two.clone()).on(&nats).await;
    publish(&nats, messages(300)).await;
    until_processed(&[&one, &two], 300).await;
    assert_eq!(one.texts().len() + two.texts().len(), 300, "each once");
    assert!(one.texts().len() > 50 && two.texts().len() > 50, "{} and {}", one.texts().len(), two.texts().len());
}

#[tokio::test]
async fn messages_wait_in_the_process_while_the_function_is_away_and_keep_their_time() {
    let nats = Nats::start(JetStream::Off).await;
    let function =
        function(async |call, _| if call < 4 { Err(TargetError::Unavailable("away".to_owned())) } else { done() });
    let _running = Start::new(function.clone()).on(&nats).await;
    let before = now_ms();
    publish(&nats, messages(50)).await;
    let after = now_ms();
    until_processed(&[&function], 50).await;
    function.until_called(5).await;
    for record in function.calls().iter().flatten() {
        let time = record.timestamp.unwrap().millis();
        assert!((before - 5..=after + 50).contains(&time), "when it came, not when it is offered");
        assert_eq!(record.num_delivered, 1);
    }
}

#[tokio::test]
async fn a_record_that_fails_comes_again_from_the_process_until_it_is_hopeless() {
    let nats = Nats::start(JetStream::Off).await;
    let mut letters = nats.subscribe("presence.dlq.>").await;
    let function = function(async |_, records: Vec<Record>| {
        let bad = records.iter().filter(|record| text(record).contains("message 3"));
        Ok(BatchResponse::failed(bad.map(|record| record.message_id.clone())))
    });
    let twice = Options { maximum_retry_attempts: Some(1), ..Options::default() };
    let _running = Start::with(function.clone(), twice).on(&nats).await;
    publish(&nats, messages(9)).await;
    let letter = letters.next().await;
    assert_eq!(letter.payload, messages(9)[3]);
    assert_eq!(letter.header("Dlq-Reason"), Some("the function did not process it"));
    let offered: Vec<u64> = function
        .calls()
        .iter()
        .flatten()
        .filter(|record| text(record).contains("message 3"))
        .map(|record| record.num_delivered)
        .collect();
    assert_eq!(offered, [1, 2]);
}

#[tokio::test]
async fn a_shutdown_processes_what_nobody_else_has() {
    let nats = Nats::start(JetStream::Off).await;
    let function = function(async |_, _| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        done()
    });
    let options = Options { batch_size: 5, maximum_concurrency: 1, ..Options::default() };
    let running = Start::with(function.clone(), options).on(&nats).await;
    publish(&nats, messages(60)).await;
    function.until_called(1).await;
    running.end().await;
    assert_eq!(function.texts(), messages(60));
}
