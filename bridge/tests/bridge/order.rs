//! One user's messages.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use presence::events::batch::Record;
use presence_bridge::Options;

use crate::world::*;

/// The user and the number of a message.
fn parts(record: &Record) -> (String, usize) {
    let json: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
    let number = json["note"].as_str().unwrap().parse().unwrap();
    (json["user_id"].as_str().unwrap().to_owned(), number)
}

#[tokio::test]
async fn one_users_messages_are_offered_in_their_order_and_never_at_the_same_time() {
    const USERS: usize = 7;
    const MESSAGES: usize = 700;
    let nats = nats().await;
    publish(&nats, (0..MESSAGES).map(|number| of((number % USERS) as u128, &number.to_string()))).await;
    let at_work: Arc<Mutex<HashSet<String>>> = Arc::default();
    let most: Arc<AtomicUsize> = Arc::default();
    let seen_most = most.clone();
    let function = function(move |_, records: Vec<Record>| {
        let (at_work, most) = (at_work.clone(), most.clone());
        async move {
            let users: HashSet<String> = records.iter().map(|record| parts(record).0).collect();
            for user in &users {
                assert!(at_work.lock().unwrap().insert(user.clone()), "{user} is in two batches at once");
            }
            let now_at_work = at_work.lock().unwrap().len();
            most.fetch_max(now_at_work, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
            at_work.lock().unwrap().retain(|user| !users.contains(user));
            done()
        }
    });
    let options = Options { batch_size: 3, maximum_concurrency: 8, ..Options::default() };
    let _running = Start::with(function.clone(), options).on(&nats).await;
    until_settled(&nats).await;

    let mut last: HashMap<String, usize> = HashMap::new();
    for (user, number) in function.calls().iter().flatten().map(parts) {
        let before = last.insert(user, number);
        assert!(before.is_none_or(|before| before < number), "{before:?} before {number}");
    }
    assert_eq!(function.texts().len(), MESSAGES, "each once");
    assert!(seen_most.load(Ordering::Relaxed) > 3, "and users at the same time");
}
