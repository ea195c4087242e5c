//! Messages and batches as nobody sends them: what can't be read becomes a dead letter, holds up nothing and ends
//! nothing.

use std::sync::Arc;

use presence::PresenceService;
use presence::domain::Rules;
use presence::events::batch::{Batch, BatchResponse};
use presence::events::{MemoryBus, MemoryDeadLetters};
use presence::store::MemoryStore;
use presence_corpus::hostile;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::testing::record;
use super::{EventHandler, SUBSCRIPTIONS};

fn handle(function: usize, batch: &Batch) -> (BatchResponse, Arc<MemoryDeadLetters>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rules = Rules::default();
    let service = PresenceService::new(Arc::new(MemoryStore::new(rules)), Arc::new(MemoryBus::new()), rules);
    let letters = Arc::new(MemoryDeadLetters::default());
    let handler = EventHandler::new(Arc::new(service), letters.clone());
    (runtime.block_on(handler.handle(SUBSCRIPTIONS[function], batch)).unwrap(), letters)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_message_counts_or_is_kept_as_it_came(
        function in 0..SUBSCRIPTIONS.len(),
        messages in vec(hostile("message"), 1..4),
        millis in select(vec![0, 1_704_110_400_007, i64::MAX, i64::MIN]),
    ) {
        let records = (1..).zip(&messages).map(|(number, message)| record(number, millis, message.clone()));
        let batch = Batch { event_source: "nats:jetstream".into(), records: records.collect() };
        let (response, letters) = handle(function, &batch);
        prop_assert_eq!(response, BatchResponse::default());
        for letter in letters.letters() {
            prop_assert!(messages.iter().any(|message| message == &letter.payload), "{:?}", letter);
        }
    }

    #[test]
    fn any_invocation_is_a_batch_or_is_not(function in 0..SUBSCRIPTIONS.len(), bytes in hostile("batch")) {
        if let Ok(batch) = serde_json::from_slice::<Batch>(&bytes) {
            prop_assert_eq!(handle(function, &batch).0, BatchResponse::default());
            let again: Batch = serde_json::from_slice(&serde_json::to_vec(&batch).unwrap()).unwrap();
            prop_assert_eq!(again, batch);
        }
    }

    #[test]
    fn any_answer_of_a_function_is_one_or_is_not(bytes in hostile("invocation")) {
        if let Ok(response) = serde_json::from_slice::<BatchResponse>(&bytes) {
            let again: BatchResponse = serde_json::from_slice(&serde_json::to_vec(&response).unwrap()).unwrap();
            prop_assert_eq!(again, response);
        }
    }
}
