//! Hosts whose clocks differ.

use std::collections::BTreeSet;

use presence::events::batch::{BatchResponse, Record};
use presence_tests::{eventually, now_ms, seen};

use crate::world::*;

#[tokio::test]
async fn a_message_has_one_time_by_the_stores_clock_however_far_nats_is_off() {
    for ahead in [-180_000, 30, 180_000] {
        let nats = nats().await;
        let before = now_ms();
        publish(&nats, messages(5)).await;
        let after = now_ms();
        // Each comes a second time, half a second later.
        let again = function(async |call, records: Vec<Record>| {
            Ok(BatchResponse::failed(records.into_iter().filter(|_| call == 0).map(|record| record.message_id)))
        });
        let start = Start { clock_ahead: ahead, ..Start::new(again.clone()) };
        let _first = start.on(&nats).await;
        until_settled(&nats).await;
        let tolerance = 110;
        for record in again.calls().iter().flatten() {
            let time = record.timestamp.unwrap().millis() - ahead;
            assert!((before - tolerance..=after + tolerance).contains(&time), "{ahead}: off by {} ms", time - before);
            let same = again.calls()[0].iter().find(|one| one.message_id == record.message_id).unwrap().timestamp;
            assert_eq!(record.timestamp, same, "{ahead}");
        }
        assert_eq!(again.texts().len(), 10);
    }
}

#[tokio::test]
async fn processes_agree_on_the_time_of_a_message() {
    let nats = nats().await;
    publish(&nats, messages(20)).await;
    let ahead = 61_000;
    // Fails everything, so that the other process gets it too.
    let (one, two) = (function(async |_, _| failed()), willing());
    let first = Start { clock_ahead: ahead, ..Start::new(one.clone()) }.on(&nats).await;
    eventually("every message", SOON, async || {
        let texts: BTreeSet<String> = one.texts().into_iter().collect();
        seen(texts.len() == 20, texts)
    })
    .await;
    first.end().await;
    let _second = Start { clock_ahead: ahead, ..Start::new(two.clone()) }.on(&nats).await;
    until_settled(&nats).await;
    let first = one.calls();
    for record in two.calls().iter().flatten() {
        let same = first.iter().flatten().find(|one| one.message_id == record.message_id).unwrap();
        assert_eq!(record.timestamp, same.timestamp);
    }
    assert_eq!(two.texts().len(), 20);
}
