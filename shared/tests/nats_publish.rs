//! Events over a real NATS server: what arrives, and what becomes of them when the server goes away.

// The helpers of a test may fail it, and look at the server as anyone would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod nats_server;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures::StreamExt;
use nats_server::proxy::Proxy;
use nats_server::{Server, eventually};
use presence::domain::{Presence, Status, Timestamp, UserId};
use presence::events::nats::{EVENT_STREAM, NatsLink, NatsOptions, NatsPublisher, Streams};
use presence::events::{Event, EventKind, EventPublisher, SUBJECTS, Traceparent};
use uuid::Uuid;

/// Well under the time that a publish may take, and well over what an answer at once takes on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(700);

fn user() -> UserId {
    UserId::new(Uuid::new_v4())
}

fn status_event(user: UserId, version: u64) -> Event {
    let presence = Presence {
        user_id: user,
        status: Status::Dnd,
        custom_status: Some("ünïcode \u{1F600}".parse().unwrap()),
        activity: None,
        activities: vec![],
        client_status: BTreeMap::new(),
        last_seen: Some(Timestamp::from_millis(1_704_110_400_007)),
        version,
        own: None,
    };
    Event::presence(EventKind::Status, &presence, Timestamp::from_millis(1_704_110_400_007), Traceparent::generate())
}

fn typing_event() -> Event {
    let channel = Uuid::new_v4().to_string().parse().unwrap();
    Event::typing(user(), channel, Timestamp::from_millis(1_704_110_400_007), Traceparent::generate())
}

async fn link(url: &str, streams: Streams) -> NatsLink {
    NatsLink::connect(NatsOptions::new(url.parse().unwrap(), "test", streams)).await.unwrap()
}

async fn publisher(url: &str) -> NatsPublisher {
    NatsPublisher::new(link(url, Streams::Ensure).await)
}

async fn ready(publisher: &NatsPublisher) {
    eventually("the publisher is ready", || publisher.is_ready()).await;
}

async fn published(publisher: &NatsPublisher, events: &[Event]) {
    for result in publisher.publish(events).await {
        result.unwrap();
    }
}

fn headers(map: &async_nats::HeaderMap) -> BTreeSet<(String, String)> {
    map.iter().flat_map(|(name, values)| values.iter().map(|v| (name.to_string(), v.to_string()))).collect()
}

fn expected_headers(event: &Event) -> BTreeSet<(String, String)> {
    event.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn kept(url: &str) -> Vec<jetstream::message::StreamMessage> {
    let jetstream = jetstream::new(async_nats::connect(url).await.unwrap());
    let stream = jetstream.get_stream(EVENT_STREAM).await.unwrap();
    let state = &stream.cached_info().state;
    let mut messages = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        messages.push(stream.get_raw_message(sequence).await.unwrap());
    }
    messages
}

async fn kept_ids(url: &str) -> Vec<String> {
    kept(url).await.iter().map(|message| message.headers.get("Nats-Msg-Id").unwrap().to_string()).collect()
}

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}

#[tokio::test]
async fn an_event_is_kept_by_the_stream_byte_for_byte_with_its_headers() {
    let server = Server::jetstream();
    let publisher = publisher(&server.url()).await;
    let events = [status_event(user(), 7), typing_event()];
    published(&publisher, &events).await;
    let kept = kept(&server.url()).await;
    assert_eq!(kept.len(), 2);
    for (message, event) in kept.iter().zip(&events) {
        assert_eq!(message.subject.as_str(), event.kind.subject());
        assert_eq!(message.payload, event.frame);
        assert_eq!(headers(&message.headers), expected_headers(event));
    }
}

#[tokio::test]
async fn without_jetstream_an_event_reaches_who_listens_byte_for_byte_and_in_order() {
    let server = Server::core();
    let listener = async_nats::connect(server.url()).await.unwrap();
    let mut subscription = listener.subscribe("presence.>").await.unwrap();
    listener.flush().await.unwrap();
    let publisher = publisher(&server.url()).await;
    let user = user();
    let events: Vec<Event> = (0..2000).map(|version| status_event(user, version)).collect();
    published(&publisher, &events).await;
    for event in &events {
        let message = subscription.next().await.unwrap();
        assert_eq!(message.payload, event.frame);
        assert_eq!(headers(&message.headers.unwrap()), expected_headers(event));
    }
}

#[tokio::test]
async fn the_stream_keeps_the_order_of_publication_and_each_event_once() {
    let server = Server::jetstream();
    let publisher = publisher(&server.url()).await;
    let user = user();
    let events: Vec<Event> = (0..2000).map(|version| status_event(user, version)).collect();
    published(&publisher, &events).await;
    published(&publisher, &events).await;
    assert_eq!(kept_ids(&server.url()).await, ids(&events));
}

#[tokio::test]
async fn more_than_may_be_in_flight_is_published_by_many_at_once_over_one_connection() {
    let server = Server::jetstream();
    let publisher = publisher(&server.url()).await;
    ready(&publisher).await;
    let batches: Vec<Vec<Event>> =
        (0..20).map(|_| (0..300).map(|version| status_event(user(), version)).collect()).collect();
    let results = futures::future::join_all(batches.iter().map(|batch| publisher.publish(batch))).await;
    assert!(results.iter().flatten().all(Result::is_ok));
    let expected: BTreeSet<String> = batches.iter().flat_map(|batch| ids(batch)).collect();
    assert_eq!(expected.len(), 6_000);
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    assert_eq!(jetstream.get_stream(EVENT_STREAM).await.unwrap().cached_info().state.messages, 6_000);
}

#[tokio::test]
async fn while_the_server_is_away_publishing_fails_at_once_and_sends_nothing_later() {
    let mut server = Server::jetstream();
    let publisher = publisher(&server.url()).await;
    let before = [status_event(user(), 1)];
    published(&publisher, &before).await;

    server.kill();
    eventually("the loss is noticed", || async { !publisher.is_ready().await }).await;
    let started = Instant::now();
    for _ in 0..20 {
        let results = publisher.publish(&[status_event(user(), 2), typing_event()]).await;
        assert!(results.len() == 2 && results.iter().all(Result::is_err));
    }
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());

    server.restart(&["-js"]);
    ready(&publisher).await;
    let after = [status_event(user(), 3)];
    published(&publisher, &after).await;
    assert_eq!(kept_ids(&server.url()).await, [ids(&before), ids(&after)].concat());
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_holds_up_nothing() {
    let mut server = Server::jetstream();
    server.kill();
    let started = Instant::now();
    let publisher = publisher(&server.url()).await;
    assert!(started.elapsed() < AT_ONCE);
    assert!(publisher.publish(&[typing_event()]).await[0].is_err());
    assert!(!publisher.is_ready().await);
    server.restart(&["-js"]);
    ready(&publisher).await;
    published(&publisher, &[typing_event()]).await;
}

#[tokio::test]
async fn the_first_publish_waits_for_the_first_connection() {
    let server = Server::jetstream();
    let publisher = publisher(&server.url()).await;
    published(&publisher, &[typing_event()]).await;
}

#[tokio::test]
async fn a_connection_that_died_in_silence_costs_one_publish() {
    let server = Server::jetstream();
    let proxy = Proxy::start(server.port()).await;
    let publisher = publisher(&proxy.url()).await;
    published(&publisher, &[typing_event()]).await;
    proxy.silence();
    let started = Instant::now();
    assert!(publisher.publish(&[typing_event()]).await[0].is_err());
    // The publish takes its time, and the order to connect anew at most as much again.
    assert!(started.elapsed() < Duration::from_millis(3500), "{:?}", started.elapsed());
    let event = typing_event();
    published(&publisher, std::slice::from_ref(&event)).await;
    assert!(kept_ids(&server.url()).await.contains(&event.id));
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_publish_costs_nothing_and_nothing_is_kept_twice() {
    let server = Server::jetstream();
    let proxy = Proxy::start(server.port()).await;
    let publisher = publisher(&proxy.url()).await;
    published(&publisher, &[typing_event()]).await;
    // The server takes the event, and the answer is lost with the connection.
    proxy.swallow_answers();
    let event = typing_event();
    let (results, ()) = tokio::join!(publisher.publish(std::slice::from_ref(&event)), async {
        eventually("the server has it", || async { kept_ids(&server.url()).await.contains(&event.id) }).await;
        proxy.cut();
    });
    assert!(results[0].is_ok(), "{results:?}");
    assert_eq!(kept_ids(&server.url()).await.iter().filter(|id| **id == event.id).count(), 1);
}

#[tokio::test]
async fn a_deleted_stream_is_made_again_and_nothing_published_meanwhile_is_lost() {
    let server = Server::jetstream();
    let publisher = publisher(&server.url()).await;
    published(&publisher, &[typing_event()]).await;
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    jetstream.delete_stream(EVENT_STREAM).await.unwrap();
    let events = [typing_event(), typing_event()];
    eventually("the stream is back", || async { publisher.publish(&events).await.iter().all(Result::is_ok) }).await;
    assert_eq!(kept_ids(&server.url()).await, ids(&events));
}

#[tokio::test]
async fn a_function_creates_no_stream_and_publishes_once_a_host_has() {
    let server = Server::jetstream();
    let function = NatsPublisher::new(link(&server.url(), Streams::Expect).await);
    assert!(function.publish(&[typing_event()]).await[0].is_err());
    let started = Instant::now();
    assert!(function.publish(&[typing_event()]).await[0].is_err());
    assert!(started.elapsed() < AT_ONCE);
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    assert!(jetstream.get_stream(EVENT_STREAM).await.is_err());

    ready(&publisher(&server.url()).await).await;
    eventually("the function publishes", || async { function.publish(&[typing_event()]).await[0].is_ok() }).await;
}

#[tokio::test]
async fn a_lost_jetstream_is_waited_for_then_done_without_and_taken_up_again() {
    let mut server = Server::jetstream();
    let mut options = NatsOptions::new(server.url().parse().unwrap(), "test", Streams::Ensure);
    options.jetstream_grace = Duration::from_secs(2);
    let publisher = NatsPublisher::new(NatsLink::connect(options).await.unwrap());
    published(&publisher, &[typing_event()]).await;

    server.restart(&[]);
    let listener = async_nats::connect(server.url()).await.unwrap();
    let mut subscription = listener.subscribe("presence.>").await.unwrap();
    listener.flush().await.unwrap();
    assert!(publisher.publish(&[typing_event()]).await[0].is_err(), "within the grace nothing counts as published");
    ready(&publisher).await;
    let event = typing_event();
    published(&publisher, std::slice::from_ref(&event)).await;
    // What was refused may have been heard all the same; what counts as published must have been.
    while subscription.next().await.unwrap().payload != event.frame {}

    server.restart(&["-js"]);
    eventually("it is kept again", || async {
        let event = typing_event();
        publisher.publish(std::slice::from_ref(&event)).await[0].is_ok()
            && kept_ids(&server.url()).await.contains(&event.id)
    })
    .await;
}

#[tokio::test]
async fn an_operators_stream_is_used_and_left_as_it_is() {
    let server = Server::jetstream();
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let subjects = ["presence.status.*", "presence.activity.*", "presence.typing.*"].map(str::to_owned).to_vec();
    let own = jetstream::stream::Config {
        name: "PRESENCE_EVENTS".into(),
        subjects: subjects.clone(),
        max_messages: 5,
        ..Default::default()
    };
    jetstream.create_stream(own).await.unwrap();
    let publisher = publisher(&server.url()).await;
    published(&publisher, &[typing_event()]).await;
    let config = jetstream.get_stream("PRESENCE_EVENTS").await.unwrap().cached_info().config.clone();
    assert_eq!((config.max_messages, config.subjects), (5, subjects));
    for name in ["PRESENCE", "PRESENCE_DLQ"] {
        let config = jetstream.get_stream(name).await.unwrap().cached_info().config.clone();
        assert!(config.max_bytes > 0 && !config.max_age.is_zero(), "{name}");
    }
}

#[tokio::test]
async fn subjects_that_another_stream_keeps_are_published_all_the_same() {
    let server = Server::jetstream();
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let own = jetstream::stream::Config {
        name: "EVERYTHING".into(),
        subjects: SUBJECTS.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    jetstream.create_stream(own).await.unwrap();
    published(&publisher(&server.url()).await, &[typing_event()]).await;
    assert_eq!(jetstream.get_stream("EVERYTHING").await.unwrap().cached_info().state.messages, 1);
}

#[tokio::test]
async fn credentials_of_the_url_are_used_and_wrong_ones_never_work() {
    for (flags, right, wrong) in [
        (["--user", "presence", "--pass", "p:w@/"].as_slice(), "presence:p%3Aw%40%2F", "presence:wrong"),
        (["--auth", "t0ken"].as_slice(), "t0ken", "wrong"),
    ] {
        let server = Server::start(flags);
        let url = |credentials: &str| format!("nats://{credentials}@127.0.0.1:{}", server.port());
        published(&publisher(&url(right)).await, &[typing_event()]).await;
        for bad in [url(wrong), server.url()] {
            let refused = publisher(&bad).await;
            assert!(refused.publish(&[typing_event()]).await[0].is_err());
            assert!(!refused.is_ready().await);
        }
    }
}

#[tokio::test]
async fn nothing_to_publish_takes_no_server() {
    let mut server = Server::core();
    server.kill();
    assert!(publisher(&server.url()).await.publish(&[]).await.is_empty());
}
