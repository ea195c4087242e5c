//! Messages that could not be processed, kept whole for someone to look at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::PublishError;
use crate::domain::Timestamp;

/// The subjects of dead letters; the function that could not process a message is the next token.
pub const DEAD_LETTER_PREFIX: &str = "presence.dlq";

/// Each header of the dead message, under its own name with this before it.
const ORIGINAL: &str = "Original-";

/// The longest reason and the longest header value that a letter carries, in characters.
const VALUE_LIMIT: usize = 512;

/// Keeps dead letters. Implementations: the NATS stream of dead letters, and memory.
#[async_trait]
pub trait DeadLetters: Send + Sync + 'static {
    /// Keeps the letter, and returns only when it is known to be kept. Ends within a bounded time. A letter with the
    /// same function and message id may be kept once only.
    async fn put(&self, letter: DeadLetter) -> Result<(), PublishError>;
}

/// A message that a function could not process, with the reason and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The function that was to process it, for example `heartbeat-received`.
    pub function: String,
    /// What is wrong with it: a sentence that names the rule, never a secret.
    pub reason: String,
    /// Which elements of its array are bad, from 0, ascending; empty when the message is bad as a whole.
    pub elements: Vec<usize>,
    /// The subject on which it came.
    pub subject: String,
    /// Which message it is: `<stream>:<sequence>`.
    pub message_id: String,
    /// How often it was delivered.
    pub delivered: u64,
    /// When it was published.
    pub time: Timestamp,
    /// Its headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its bytes.
    pub payload: Bytes,
}

impl DeadLetter {
    /// The subject of the letter: `presence.dlq.<function>`.
    pub fn dead_letter_subject(&self) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let function: String = self.function.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
        let function = if function.is_empty() { "unknown" } else { &function };
        format!("{DEAD_LETTER_PREFIX}.{function}")
    }

    /// The same for every telling of the same letter.
    pub fn id(&self) -> String {
        header_value(&format!("{}:{}", self.function, self.message_id))
    }

    /// The headers that say why and whence. Names and values are fit for the wire.
    pub fn own_headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("Nats-Msg-Id", self.id()),
            ("Dlq-Function", header_value(&self.function)),
            ("Dlq-Reason", header_value(&self.reason)),
            ("Dlq-Subject", header_value(&self.subject)),
            ("Dlq-Message-Id", header_value(&self.message_id)),
            ("Dlq-Delivered", self.delivered.to_string()),
            ("Dlq-Time", self.time.to_string()),
        ];
        if let Some((stream, sequence)) = self.message_id.rsplit_once(':')
            && sequence.parse::<u64>().is_ok()
        {
            headers.push(("Dlq-Stream", header_value(stream)));
            headers.push(("Dlq-Sequence", sequence.to_owned()));
        }
        if !self.elements.is_empty() {
            headers.push(("Dlq-Elements", ranges(&self.elements)));
        }
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The dead message's own headers, renamed so that they have no effect here: `Original-<name>`. `Nats-` becomes
    /// `NATS-`, because NATS servers before 2.10 lose sight of their own `Nats-Msg-Id` where another name ends so.
    pub fn original_headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (name, values) in &self.headers {
            let fits = name.len() <= VALUE_LIMIT && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
            if fits {
                let name = format!("{ORIGINAL}{}", name.replace("Nats-", "NATS-"));
                headers.extend(values.iter().map(|value| (name.clone(), header_value(value))));
            }
        }
        headers
    }
}

/// One line, bounded, without control characters.
fn header_value(text: &str) -> String {
    text.chars().take(VALUE_LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `[0, 3, 4, 5, 9]` as `0,3-5,9`: ten thousand indexes must fit into a header.
fn ranges(ascending: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &index in ascending {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == index => *end = index,
            _ => runs.push((index, index)),
        }
    }
    let words: Vec<String> = runs
        .iter()
        .map(|(start, end)| if start == end { start.to_string() } else { format!("{start}-{end}") })
        .collect();
    words.join(",")
}

/// Dead letters in memory, for a service without NATS and for tests: the latest [`MemoryDeadLetters::CAPACITY`].
#[derive(Debug, Default)]
pub struct MemoryDeadLetters {
    letters: Mutex<VecDeque<(String, DeadLetter)>>,
}

impl MemoryDeadLetters {
    /// How many letters are held; older ones go first.
    pub const CAPACITY: usize = 1000;

    /// The letters held, oldest first.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, letter)| letter.clone()).collect()
    }
}

#[async_trait]
impl DeadLetters for MemoryDeadLetters {
    async fn put(&self, letter: DeadLetter) -> Result<(), PublishError> {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let id = letter.id();
        if letters.iter().all(|(held, _)| *held != id) {
            if letters.len() == Self::CAPACITY {
                letters.pop_front();
            }
            letters.push_back((id, letter));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            function: "heartbeat-received".into(),
            reason: "a user id is a hyphenated UUID".into(),
            elements: vec![0, 3, 4, 5, 9],
            subject: "gateway.heartbeat.received".into(),
            message_id: "PRESENCE:17".into(),
            delivered: 2,
            time: Timestamp::from_millis(1_704_110_400_007),
            headers: BTreeMap::new(),
            payload: Bytes::from_static(b"{"),
        }
    }

    fn value(headers: &[(String, String)], name: &str) -> Option<String> {
        headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    #[test]
    fn a_letter_says_why_and_whence() {
        let headers = letter().own_headers();
        assert_eq!(letter().dead_letter_subject(), "presence.dlq.heartbeat-received");
        for (name, expected) in [
            ("Nats-Msg-Id", "heartbeat-received:PRESENCE:17"),
            ("Dlq-Function", "heartbeat-received"),
            ("Dlq-Reason", "a user id is a hyphenated UUID"),
            ("Dlq-Subject", "gateway.heartbeat.received"),
            ("Dlq-Message-Id", "PRESENCE:17"),
            ("Dlq-Stream", "PRESENCE"),
            ("Dlq-Sequence", "17"),
            ("Dlq-Delivered", "2"),
            ("Dlq-Time", "2024-01-01T12:00:00.007Z"),
            ("Dlq-Elements", "0,3-5,9"),
        ] {
            assert_eq!(value(&headers, name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_letter_of_a_bad_message_names_no_elements_and_one_outside_a_stream_no_sequence() {
        let headers = DeadLetter { elements: vec![], message_id: "core:5Zk".into(), ..letter() }.own_headers();
        for name in ["Dlq-Elements", "Dlq-Stream", "Dlq-Sequence"] {
            assert_eq!(value(&headers, name), None, "{name}");
        }
    }

    #[test]
    fn hostile_text_cannot_break_out_of_a_header() {
        let mut headers = BTreeMap::new();
        headers.insert("Nats-Msg-Id".to_owned(), vec!["a\r\nNats-Rollup: all".to_owned(), "b".to_owned()]);
        headers.insert("bad name".to_owned(), vec!["x".to_owned()]);
        headers.insert("bad:name".to_owned(), vec!["x".to_owned()]);
        headers.insert("bad\r\nname".to_owned(), vec!["x".to_owned()]);
        let hostile = DeadLetter {
            function: "a.b >*\r\n".into(),
            reason: format!("line\nline{}", "é".repeat(1000)),
            message_id: "x\r\ny".into(),
            headers,
            ..letter()
        };
        assert_eq!(hostile.dead_letter_subject(), "presence.dlq.a_b_____");
        let own = hostile.own_headers();
        assert!(own.iter().all(|(_, value)| !value.contains(['\r', '\n']) && value.chars().count() <= VALUE_LIMIT));
        let original = hostile.original_headers();
        let expected = [("Original-NATS-Msg-Id", "a  Nats-Rollup: all"), ("Original-NATS-Msg-Id", "b")];
        assert_eq!(original, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn ten_thousand_bad_elements_fit_into_a_header() {
        assert_eq!(ranges(&(0..10_000).collect::<Vec<_>>()), "0-9999");
        assert!(ranges(&(0..10_000).step_by(2).collect::<Vec<_>>()).len() < 25_000);
    }

    #[tokio::test]
    async fn memory_holds_a_letter_once_and_the_latest_only() {
        let held = MemoryDeadLetters::default();
        for sequence in 0..=MemoryDeadLetters::CAPACITY {
            for _ in 0..2 {
                held.put(DeadLetter { message_id: format!("PRESENCE:{sequence}"), ..letter() }).await.unwrap();
            }
        }
        let letters = held.letters();
        assert_eq!(letters.len(), MemoryDeadLetters::CAPACITY);
        assert_eq!(letters[0].message_id, "PRESENCE:1");
    }
}
