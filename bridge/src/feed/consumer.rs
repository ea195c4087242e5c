//! The durable consumer of a subscription: found, made, or told what is wrong with it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, Context, ErrorCode};
use presence::events::nats::INPUT_STREAM;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::options::EventSourceMapping;

/// How long the stream waits for a word before it delivers a message again: what a process that crashed had taken. Well
/// below what a client's heartbeat may be late.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(5);

/// How many messages of a subscription may be out without a word, over all processes, those included that wait for their
/// next attempt.
const MAX_ACK_PENDING: i64 = 50_000;

/// Who sees to it that the consumers exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumers {
    /// They are made where they are missing, also when one is deleted later. A consumer that exists is never changed:
    /// its limits are the operator's.
    Ensure,
    /// An operator makes them. What is missing is told.
    Expect,
}

/// A consumer that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Usable {
    /// Which life of the stream it reads.
    pub(super) life: u64,
    pub(super) ack_wait: Duration,
    /// All before this is settled.
    pub(super) floor: u64,
    /// What an operator should know about it.
    pub(super) notes: Vec<String>,
}

#[derive(Deserialize)]
struct StreamInfo {
    created: String,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    config: ConsumerConfig,
    ack_floor: Floor,
}

#[derive(Deserialize)]
struct Floor {
    #[serde(default)]
    stream_seq: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConsumerConfig {
    ack_policy: String,
    /// In nanoseconds.
    ack_wait: u64,
    deliver_subject: String,
    filter_subject: String,
    filter_subjects: Vec<String>,
    max_deliver: i64,
    headers_only: bool,
}

/// Looks for the consumer and makes it if it is missing and ours to make. `floor` is what is known to be settled from
/// before, if it has to be made again.
pub(super) async fn look(
    jetstream: &Context,
    mapping: &EventSourceMapping,
    consumers: Consumers,
    floor: Option<(u64, u64)>,
) -> Result<Usable, String> {
    let name = &mapping.function;
    let stream = match request::<StreamInfo>(jetstream, format!("STREAM.INFO.{INPUT_STREAM}")).await? {
        Ok(stream) => stream,
        Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            return Err(format!("stream {INPUT_STREAM} does not exist"));
        }
        Err(error) => return Err(format!("stream {INPUT_STREAM}: {error}")),
    };
    let life = hash(&stream.created);
    let info = async || request::<ConsumerInfo>(jetstream, format!("CONSUMER.INFO.{INPUT_STREAM}.{name}")).await;
    let is_missing = |error: &jetstream::Error| error.error_code() == ErrorCode::CONSUMER_NOT_FOUND;
    let found = match info().await? {
        Err(error) if is_missing(&error) && consumers == Consumers::Ensure => {
            let floor = floor.filter(|(known_life, _)| *known_life == life).map(|(_, sequence)| sequence);
            make(jetstream, mapping, floor).await?;
            info().await?
        }
        found => found,
    };
    match found {
        Ok(found) => {
            let notes = judge(&found.config, mapping)?;
            let ack_wait = Duration::from_nanos(found.config.ack_wait);
            Ok(Usable { life, ack_wait, floor: found.ack_floor.stream_seq, notes })
        }
        Err(error) if is_missing(&error) => Err(format!(
            "consumer {name} of stream {INPUT_STREAM} does not exist: it takes a durable pull consumer with explicit \
             acknowledgement, filter subject {} and no limit of deliveries",
            mapping.subject
        )),
        Err(error) => Err(format!("consumer {name} of stream {INPUT_STREAM}: {error}")),
    }
}

/// Asks JetStream. Its own errors are an answer.
async fn request<T: DeserializeOwned>(
    jetstream: &Context,
    subject: String,
) -> Result<Result<T, jetstream::Error>, String> {
    match jetstream.request(subject, &json!({})).await {
        Ok(Response::Ok(answer)) => Ok(Ok(answer)),
        Ok(Response::Err { error }) => Ok(Err(error)),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Err("JetStream is away".to_owned()),
        Err(error) => Err(format!("JetStream does not answer: {error}")),
    }
}

async fn make(jetstream: &Context, mapping: &EventSourceMapping, floor: Option<u64>) -> Result<(), String> {
    let name = &mapping.function;
    let config = pull::Config {
        durable_name: Some(name.clone()),
        description: Some(format!("Messages for the function {name}")),
        // Everything that is kept: what took effect already changes nothing when it comes again.
        deliver_policy: match floor {
            Some(settled) => DeliverPolicy::ByStartSequence { start_sequence: settled + 1 },
            None => DeliverPolicy::All,
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Attempts are counted here, because most deliveries that fail are nobody's fault.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        filter_subject: mapping.subject.clone(),
        ..pull::Config::default()
    };
    match jetstream.create_consumer_on_stream(config, INPUT_STREAM).await {
        Ok(_) => {
            tracing::info!(consumer = name, stream = INPUT_STREAM, "consumer created");
            Ok(())
        }
        Err(error) => Err(format!("consumer {name} of stream {INPUT_STREAM} can't be created: {error}")),
    }
}

/// What is odd about a consumer that exists; an error if it can't be used.
fn judge(config: &ConsumerConfig, mapping: &EventSourceMapping) -> Result<Vec<String>, String> {
    let name = &mapping.function;
    let unusable = |reason: &str| Err(format!("consumer {name} of stream {INPUT_STREAM} {reason}"));
    if !config.deliver_subject.is_empty() {
        return unusable("pushes its messages; it takes a pull consumer");
    }
    if config.ack_policy != "explicit" {
        return unusable("does not wait for each acknowledgement; it takes the policy `explicit`");
    }
    if config.headers_only {
        return unusable("delivers headers only; it takes whole messages");
    }
    let filters: Vec<&str> = std::iter::once(config.filter_subject.as_str())
        .chain(config.filter_subjects.iter().map(String::as_str))
        .filter(|filter| !filter.is_empty())
        .collect();
    if filters != [mapping.subject.as_str()] {
        return unusable(&format!("delivers {filters:?}; it takes the filter subject {}", mapping.subject));
    }
    let mut notes = Vec::new();
    if config.max_deliver > 0 {
        let limit = config.max_deliver;
        notes.push(format!("consumer {name} gives up messages after {limit} deliveries: they are lost without a word"));
    }
    Ok(notes)
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn mapping() -> EventSourceMapping {
        EventSourceMapping { subject: "a.b".into(), function: "f".into(), options: Options::default() }
    }

    fn judged(json: &str) -> Result<Vec<String>, String> {
        judge(&serde_json::from_str(json).unwrap(), &mapping())
    }

    #[test]
    fn a_consumer_of_an_operator_is_taken_if_it_can_be_used() {
        assert_eq!(judged(r#"{"ack_policy":"explicit","filter_subject":"a.b","max_deliver":-1}"#), Ok(vec![]));
        assert_eq!(judged(r#"{"ack_policy":"explicit","filter_subjects":["a.b"],"new":1}"#), Ok(vec![]));
        let notes = judged(r#"{"ack_policy":"explicit","filter_subject":"a.b","max_deliver":5}"#).unwrap();
        assert!(notes[0].contains("after 5 deliveries"), "{notes:?}");
    }

    #[test]
    fn a_consumer_that_cannot_be_used_is_refused_by_what_is_wrong_with_it() {
        for (json, words) in [
            (r#"{"ack_policy":"explicit","filter_subject":"a.b","deliver_subject":"x"}"#, "a pull consumer"),
            (r#"{"ack_policy":"none","filter_subject":"a.b"}"#, "`explicit`"),
            (r#"{"ack_policy":"explicit"}"#, "filter subject a.b"),
            (r#"{"ack_policy":"explicit","filter_subject":"a.>"}"#, "a.>"),
            (r#"{"ack_policy":"explicit","filter_subject":"a.b","headers_only":true}"#, "whole messages"),
        ] {
            let reason = judged(json).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }
}
