//! `docs/asyncapi.yaml` against the code and against real messages.

use std::collections::BTreeSet;
use std::sync::Arc;

use presence::config::Config;
use presence::events::batch::{Batch, Record};
use presence::events::{DEAD_LETTER_PREFIX, SUBJECTS};
use presence::{Host, connect};
use presence_functions::event::{EventHandler, SUBSCRIPTIONS, Subscription, payload};
use presence_golden::Host as GoldenHost;
use presence_tests::{DEVELOPMENT_SECRET, Event, JetStream, Nats, Service, Store, now_ms};
use serde_json::{Map, Value, json};

use crate::document::{Document, faults};

const ID: &str = "5f0c7d3e-8a41-4a52-9d3c-2f6e1b7a9c04";

/// The message interface as documented.
struct Messages {
    document: Document,
}

/// One operation: a direction, a subject, and the message on it.
struct Operation<'a> {
    action: &'a str,
    address: &'a str,
    description: &'a str,
    message: &'a Value,
}

impl Messages {
    fn read() -> Self {
        Self { document: Document::read("docs/asyncapi.yaml") }
    }

    fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        self.document.members("/operations").map(|(_, operation)| {
            let channel = self.document.resolve(&operation["channel"]);
            let [message] = operation["messages"].as_array().unwrap().as_slice() else { panic!("one message each") };
            Operation {
                action: operation["action"].as_str().unwrap(),
                address: channel["address"].as_str().unwrap(),
                description: operation["description"].as_str().unwrap(),
                message: self.document.resolve(message),
            }
        })
    }

    fn of(&self, subject: &str) -> Operation<'_> {
        let is_it = |address: &str| match address.strip_suffix("{function}") {
            Some(prefix) => subject.starts_with(prefix),
            None => subject == address,
        };
        self.operations().find(|operation| is_it(operation.address)).unwrap_or_else(|| panic!("{subject} is unknown"))
    }

    /// What is wrong with a message that was published. Its bytes are JSON unless they are said to be anything.
    fn faults(&self, event: &Event) -> Option<String> {
        let message = self.of(&event.subject).message;
        let mut headers = Map::new();
        for (name, value) in &event.headers {
            assert!(headers.insert(name.clone(), value.as_str().into()).is_none(), "{name} is there twice");
        }
        let payload = match message.get("contentType") {
            Some(_) => Value::String(event.payload.clone()),
            None => event.frame(),
        };
        self.faults_of(message, &Value::Object(headers), &payload)
    }

    fn faults_of(&self, message: &Value, headers: &Value, payload: &Value) -> Option<String> {
        let wrong_headers = faults(&self.document.validator(&message["headers"]), headers);
        let wrong_payload = faults(&self.document.validator(&message["payload"]), payload);
        wrong_headers.or(wrong_payload)
    }
}

#[test]
fn the_documented_subjects_are_those_of_the_code() {
    let messages = Messages::read();
    let subjects = |action: &'static str| -> BTreeSet<String> {
        let operations = messages.operations().filter(|operation| operation.action == action);
        operations.map(|operation| operation.address.to_owned()).collect()
    };
    assert_eq!(subjects("receive"), SUBSCRIPTIONS.map(|subscription| subscription.subject.to_owned()).into());
    let dead_letters = format!("{DEAD_LETTER_PREFIX}.{{function}}");
    assert_eq!(subjects("send"), SUBJECTS.iter().map(|&subject| subject.to_owned()).chain([dead_letters]).collect());
}

#[test]
fn each_subscription_names_its_function_and_each_function_has_dead_letters() {
    let messages = Messages::read();
    for subscription in SUBSCRIPTIONS {
        let description = messages.of(subscription.subject).description;
        assert!(description.contains(&format!("`{}`", subscription.function)), "{description}");
    }
    let functions = messages.document.at("/channels/deadLetters/parameters/function/enum");
    assert_eq!(*functions, json!(SUBSCRIPTIONS.map(|subscription| subscription.function)));
}

#[test]
fn the_examples_are_what_their_schemas_allow() {
    let messages = Messages::read();
    for operation in messages.operations() {
        let examples = operation.message["examples"].as_array().unwrap();
        assert!(!examples.is_empty(), "{} has no example", operation.address);
        for example in examples {
            let headers = example.get("headers").cloned().unwrap_or_else(|| json!({}));
            let faults = messages.faults_of(operation.message, &headers, &example["payload"]);
            assert_eq!(faults, None, "{}: {}", operation.address, example["name"]);
        }
    }
}

/// Elements at the edges of every rule.
fn elements() -> Vec<Value> {
    let mut elements = vec![json!({}), json!({ "user_id": ID }), json!([ID]), json!(null), json!("x"), json!(7)];
    for id in [json!(null), json!(""), json!(ID.to_uppercase()), json!(ID.replace('-', "")), json!(1)] {
        elements.extend([json!({ "user_id": id }), json!({ "user_id": ID, "channel_id": id })]);
    }
    let with = |name: &str, value: Value| {
        let mut element = json!({ "user_id": ID, "unknown": { "field": [1] } });
        element[name] = value;
        element
    };
    let long = "x".repeat(64);
    for text in ["", "a", "A-Z_a.b:9", "a b", "ä", "a\n", &long, &format!("{long}x")] {
        elements.push(with("session_id", json!(text)));
    }
    for word in ["desktop", "mobile", "web", "online", "idle", "dnd", "offline", "invisible", "Web", ""] {
        elements.extend([with("platform", json!(word)), with("status", json!(word))]);
    }
    for code in [json!(0), json!(1000), json!(65535), json!(65536), json!(-1), json!(1.5), json!("1000")] {
        elements.push(with("close_code", code));
    }
    for name in ["", "  ", "\t\n", "Lounge", "two\nlines", &"é".repeat(128), &"é".repeat(129), "\u{feff}"] {
        elements.push(with("channel_name", json!(name)));
    }
    for time in [
        json!(0),
        json!(-1),
        json!(1704110400),
        json!(1704110400.5),
        json!(1704110400000_i64),
        json!(1e300),
        json!("2024-01-01T12:00:00Z"),
        json!("2024-01-01T12:00:00.123456+02:00"),
        json!("1970-01-01T00:00:00Z"),
        json!("1969-12-31T23:59:59Z"),
        json!("9999-12-31T23:59:59Z"),
        json!("2024-01-01"),
        json!("1704110400"),
        json!(""),
    ] {
        elements.push(with("timestamp", time));
    }
    for name in ["session_id", "platform", "status", "close_code", "channel_id", "channel_name", "timestamp"] {
        elements.extend([json!(null), json!([]), json!({}), json!(true)].map(|value| with(name, value)));
    }
    elements
}

#[test]
fn a_message_is_taken_exactly_if_its_schema_allows_it() {
    let messages = Messages::read();
    for subscription in SUBSCRIPTIONS {
        let schema = &messages.of(subscription.subject).message["payload"];
        let validator = messages.document.validator(schema);
        let mut cases = elements();
        cases.extend([json!([]), json!([{ "user_id": ID }, { "user_id": ID }]), json!([{ "user_id": ID }, 7])]);
        cases.extend([10_000, 10_001].map(|count| json!(vec![json!({ "user_id": ID }); count])));
        for case in cases {
            let read = payload::read(case.to_string().as_bytes(), subscription.input);
            let taken = read.is_ok_and(|payload| payload.bad.is_empty());
            let faults = faults(&validator, &case);
            let case = case.to_string().chars().take(200).collect::<String>();
            assert_eq!(taken, faults.is_none(), "{}: {case}: {faults:?}", subscription.subject);
        }
    }
}

fn record(subscription: Subscription, sequence: usize, payload: impl Into<Vec<u8>>) -> Record {
    Record {
        message_id: format!("PRESENCE:{sequence}"),
        subject: subscription.subject.to_owned(),
        data: payload.into().into(),
        headers: [("Nats-Msg-Id".to_owned(), vec!["a".to_owned()]), ("k".to_owned(), vec!["v".to_owned()])].into(),
        num_delivered: 2,
        timestamp: Some(presence::domain::Timestamp::from_millis(now_ms())),
    }
}

#[tokio::test]
async fn every_message_that_is_published_is_documented_and_every_documented_one_is_published() {
    let messages = Messages::read();
    let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let service = Service::start(&store, &nats).await;
    let mut events = nats.events().await;

    // All that clients can cause.
    for case in presence_golden::cases().unwrap().iter().filter(|case| case.runs_on(GoldenHost::Service)) {
        case.run(DEVELOPMENT_SECRET, async |request| service.exchange(request).await).await.unwrap();
    }
    // The examples of what others tell, and what of theirs can't be read.
    let cluster = if store.is_cluster() { "on" } else { "off" };
    let variables = [("NATS_URL", nats.url()), ("REDIS_URL", store.url()), ("REDIS_CLUSTER", cluster.to_owned())];
    let lookup = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.clone());
    let connected = connect(&Config::from_lookup(lookup).unwrap(), Host::Process).await.unwrap();
    let handler = EventHandler::new(Arc::clone(&connected.service), connected.carrier.dead_letters());
    for subscription in SUBSCRIPTIONS {
        let examples = messages.of(subscription.subject).message["examples"].as_array().unwrap().clone();
        let mut payloads: Vec<Vec<u8>> = examples.iter().map(|one| one["payload"].to_string().into_bytes()).collect();
        let readable = payloads.len();
        payloads.extend([b"{\xff".to_vec(), b"{}".to_vec(), format!(r#"[7,{{"user_id":"{ID}"}},8,9]"#).into()]);
        let records = payloads.into_iter().enumerate().map(|(index, bytes)| record(subscription, index, bytes));
        let batch = Batch { event_source: "nats:jetstream".to_owned(), records: records.collect() };
        let answer = handler.handle(subscription, &batch).await.unwrap();
        assert!(answer.batch_item_failures.is_empty(), "{answer:?}");
        let letters = nats.stream("PRESENCE_DLQ").await;
        let letters = letters.iter().filter(|letter| letter.subject.ends_with(subscription.function)).count();
        assert_eq!(letters, batch.records.len() - readable, "the examples of {} can be read", subscription.subject);
    }

    let published = events.so_far().await;
    let wrong: Vec<String> = published
        .iter()
        .filter_map(|event| messages.faults(event).map(|faults| format!("{}: {faults}: {event:?}", event.subject)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n  {}", wrong.len(), published.len(), wrong.join("\n  "));
    let seen: BTreeSet<&str> = published.iter().map(|event| messages.of(&event.subject).address).collect();
    let documented = messages.operations().filter(|operation| operation.action == "send");
    assert_eq!(seen, documented.map(|operation| operation.address).collect());
}
