//! Dead letters over a real NATS server.

// The helpers of a test may fail it, and look at the server as anyone would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod nats_server;

use std::collections::BTreeMap;

use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use futures::StreamExt;
use nats_server::{Server, eventually};
use presence::domain::Timestamp;
use presence::events::nats::{DEAD_LETTER_STREAM, NatsDeadLetters, NatsLink, NatsOptions, Streams};
use presence::events::{DeadLetter, DeadLetters};

fn letter(payload: impl Into<Bytes>) -> DeadLetter {
    DeadLetter {
        function: "heartbeat-received".into(),
        reason: "a user id is a hyphenated UUID".into(),
        elements: vec![1, 2, 5],
        subject: "gateway.heartbeat.received".into(),
        message_id: "PRESENCE:17".into(),
        delivered: 3,
        time: Timestamp::from_millis(1_704_110_400_007),
        headers: BTreeMap::from([
            ("Nats-Msg-Id".into(), vec!["theirs".into()]),
            ("k".into(), vec!["a".into(), "b".into()]),
        ]),
        payload: payload.into(),
    }
}

async fn dead_letters(server: &Server) -> NatsDeadLetters {
    let options = NatsOptions::new(server.url().parse().unwrap(), "test", Streams::Ensure);
    NatsDeadLetters::new(NatsLink::connect(options).await.unwrap())
}

async fn kept(server: &Server) -> Vec<StreamMessage> {
    let jetstream = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let stream = jetstream.get_stream(DEAD_LETTER_STREAM).await.unwrap();
    let mut messages = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        messages.push(stream.get_raw_message(sequence).await.unwrap());
    }
    messages
}

fn header<'a>(message: &'a StreamMessage, name: &str) -> Option<&'a str> {
    message.headers.get(name).map(|value| value.as_str())
}

#[tokio::test]
async fn a_letter_is_kept_once_with_the_bytes_as_they_came() {
    let server = Server::jetstream();
    let letters = dead_letters(&server).await;
    let listener = async_nats::connect(server.url()).await.unwrap();
    let mut heard = listener.subscribe("presence.dlq.>").await.unwrap();
    listener.flush().await.unwrap();
    let bytes = b"{\"user_id\": \xff\0\r\n".as_slice();
    letters.put(letter(bytes)).await.unwrap();
    letters.put(letter(bytes)).await.unwrap();
    let kept = kept(&server).await;
    let [message] = kept.as_slice() else { panic!("{}", kept.len()) };
    assert_eq!(message.subject.as_str(), "presence.dlq.heartbeat-received");
    assert_eq!(message.payload, bytes);
    for (name, value) in [
        ("Dlq-Reason", "a user id is a hyphenated UUID"),
        ("Dlq-Stream", "PRESENCE"),
        ("Dlq-Sequence", "17"),
        ("Dlq-Delivered", "3"),
        ("Dlq-Elements", "1-2,5"),
        ("Original-NATS-Msg-Id", "theirs"),
    ] {
        assert_eq!(header(message, name), Some(value), "{name}");
    }
    // The library shows only the last of several values of a kept message's header; a listener gets them all.
    let headers = heard.next().await.unwrap().headers.unwrap();
    let both: Vec<&str> = headers.get_all("Original-k").map(|value| value.as_str()).collect();
    assert_eq!(both, ["a", "b"]);
}

#[tokio::test]
async fn the_largest_message_of_all_is_kept_whole() {
    let server = Server::jetstream();
    let letters = dead_letters(&server).await;
    let bytes: Bytes = (0..1024 * 1024_u32).map(|n| n as u8).collect();
    letters.put(letter(bytes.clone())).await.unwrap();
    let kept = kept(&server).await;
    assert_eq!(kept.iter().map(|part| header(part, "Dlq-Part")).collect::<Vec<_>>(), [Some("1/2"), Some("2/2")]);
    assert!(kept.iter().flat_map(|part| part.payload.to_vec()).eq(bytes));
}

#[tokio::test]
async fn a_letter_that_is_not_known_to_be_kept_is_an_error() {
    let mut server = Server::jetstream();
    let letters = dead_letters(&server).await;
    letters.put(letter("{")).await.unwrap();
    server.kill();
    assert!(letters.put(letter("{")).await.is_err());
    server.restart(&["-js"]);
    let next = || DeadLetter { message_id: "PRESENCE:18".into(), ..letter("{") };
    eventually("it is kept", || async { letters.put(next()).await.is_ok() }).await;
    let kept = kept(&server).await;
    assert_eq!(header(&kept[kept.len() - 1], "Dlq-Sequence"), Some("18"));
}
