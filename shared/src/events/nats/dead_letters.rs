//! Dead letters over NATS.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use async_trait::async_trait;
use bytes::Bytes;

use super::link::NatsLink;
use super::send::Outgoing;
use crate::events::{DeadLetter, DeadLetters, PublishError};
use crate::metrics::DEAD_LETTERS;

/// Keeps dead letters in the stream of dead letters, on `presence.dlq.<function>`.
#[derive(Debug, Clone)]
pub struct NatsDeadLetters {
    link: NatsLink,
}

impl NatsDeadLetters {
    /// Dead letters over this connection.
    pub fn new(link: NatsLink) -> Self {
        Self { link }
    }
}

#[async_trait]
impl DeadLetters for NatsDeadLetters {
    async fn put(&self, letter: DeadLetter) -> Result<(), PublishError> {
        let parts = parts(&letter, self.link.client().max_payload());
        let result =
            self.link.send(&parts, Outgoing::clone).await.into_iter().collect::<Result<Vec<()>, PublishError>>();
        let outcome = if result.is_ok() { "kept" } else { "failed" };
        let function = letter.function.clone();
        metrics::counter!(DEAD_LETTERS, "function" => function, "outcome" => outcome).increment(1);
        let DeadLetter { function, message_id, reason, .. } = letter;
        tracing::warn!(function, message_id, reason, outcome, "message goes to the dead letters");
        result.map(|_| ())
    }
}

/// The letter as messages that the server takes: one, except where the dead message itself was as large as a message
/// may be. Then its bytes come in several, each saying which part it is.
fn parts(letter: &DeadLetter, max_payload: usize) -> Vec<Outgoing> {
    let own = letter.own_headers();
    let mut original = letter.original_headers();
    if size(&own) + size(&original) > max_payload / 2 {
        original = vec![("Dlq-Headers-Dropped".to_owned(), original.len().to_string())];
    }
    let headers: Vec<_> = own.into_iter().chain(original).collect();
    // Our own headers stay far below a quarter: a run of bad elements takes six bytes, the good one after it fifty.
    let room = max_payload.saturating_sub(size(&headers)).max(max_payload / 4);
    if letter.payload.len() <= room {
        return vec![message(letter, &headers, letter.payload.clone(), None)];
    }
    let chunk = room.saturating_sub(PART_HEADER).max(PART_HEADER);
    let count = letter.payload.len().div_ceil(chunk);
    let part = |index: usize| {
        let (start, end) = (index * chunk, ((index + 1) * chunk).min(letter.payload.len()));
        message(letter, &headers, letter.payload.slice(start..end), Some((index + 1, count)))
    };
    (0..count).map(part).collect()
}

/// Room for what tells one part from another.
const PART_HEADER: usize = 128;

fn message(
    letter: &DeadLetter,
    headers: &[(String, String)],
    payload: Bytes,
    part: Option<(usize, usize)>,
) -> Outgoing {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        // Both are made for the wire; the checked way is taken because the other one panics.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            map.append(name, value);
        }
    }
    if let Some((number, count)) = part {
        map.insert("Dlq-Part", format!("{number}/{count}"));
        map.insert("Nats-Msg-Id", format!("{}:{number}/{count}", letter.id()));
    }
    Outgoing { subject: letter.dead_letter_subject().into(), headers: map, payload }
}

/// How many bytes headers take on the wire.
fn size(headers: &[(String, String)]) -> usize {
    let fields: usize = headers.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum();
    fields + "NATS/1.0\r\n\r\n".len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::Timestamp;

    fn letter(payload: Vec<u8>, headers: BTreeMap<String, Vec<String>>) -> DeadLetter {
        DeadLetter {
            function: "heartbeat-received".into(),
            reason: "not JSON".into(),
            elements: vec![],
            subject: "gateway.heartbeat.received".into(),
            message_id: "PRESENCE:17".into(),
            delivered: 1,
            time: Timestamp::from_millis(0),
            headers,
            payload: payload.into(),
        }
    }

    fn wire_size(part: &Outgoing) -> usize {
        let headers: Vec<(String, String)> = part
            .headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
            .collect();
        size(&headers) + part.payload.len()
    }

    #[test]
    fn a_letter_that_fits_is_one_message_with_the_bytes_as_they_came() {
        let parts = parts(&letter(b"{\0\xff".to_vec(), BTreeMap::new()), 1024);
        assert_eq!(parts.len(), 1);
        assert_eq!(&parts[0].payload[..], b"{\0\xff");
        assert!(parts[0].headers.get("Dlq-Part").is_none());
    }

    #[test]
    fn a_message_as_large_as_any_is_kept_whole_in_parts() {
        let bytes: Vec<u8> = (0..4096_u32).map(|n| n as u8).collect();
        let parts = parts(&letter(bytes.clone(), BTreeMap::new()), 4096);
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().all(|part| wire_size(part) <= 4096));
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.payload.to_vec()).collect();
        assert_eq!(joined, bytes);
        let id = |part: &Outgoing| part.headers.get("Nats-Msg-Id").unwrap().to_string();
        assert_eq!(id(&parts[1]), "heartbeat-received:PRESENCE:17:2/2");
        assert_eq!(parts[0].headers.get("Dlq-Part").unwrap().as_str(), "1/2");
    }

    #[test]
    fn headers_that_leave_no_room_are_dropped_and_counted() {
        let headers = (0..20).map(|n| (format!("H{n}"), vec!["x".repeat(100)])).collect();
        let parts = parts(&letter(b"{".to_vec(), headers), 2048);
        assert_eq!(parts[0].headers.get("Dlq-Headers-Dropped").unwrap().as_str(), "20");
        assert!(parts.iter().all(|part| wire_size(part) <= 2048));
    }
}
