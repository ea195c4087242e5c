//! The JetStream streams of the service: what they capture, how much they keep, and who creates them.

use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use serde::Deserialize;

use crate::events::{DEAD_LETTER_PREFIX, SUBJECTS};

/// The stream of everything that happens to users: `gateway.>` and `voice.>`.
pub const INPUT_STREAM: &str = "PRESENCE";
/// The stream of everything that is told about users: [`SUBJECTS`].
pub const EVENT_STREAM: &str = "PRESENCE_EVENTS";
/// The stream of dead letters: `presence.dlq.>`.
pub const DEAD_LETTER_STREAM: &str = "PRESENCE_DLQ";

/// Who sees to it that the streams exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Long-running hosts create the ones that are missing, also when one is deleted later. A stream that exists is
    /// never changed: its limits and replicas are the operator's.
    Ensure,
    /// Hosts whose operator makes them create none, and tell which are missing. Nothing is published without the one of
    /// the events.
    Provisioned,
    /// Functions find them created; until then they publish nothing.
    Expect,
}

/// What a server's JetStream looks like.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The streams are there. The notes tell an operator what looks odd about them.
    Streams { notes: Vec<String> },
    /// The server, or the account, has no JetStream.
    NoJetStream,
    /// It has one that can't be used now.
    Trouble(String),
}

const MIB: i64 = 1024 * 1024;
const HOUR: Duration = Duration::from_secs(3600);

/// In the order in which they are looked for. File storage, so that they survive a restart of the server; the oldest
/// messages go first, so that a consumer that is gone for good can't stop anyone.
fn definitions() -> [Config; 3] {
    let owned = |subjects: &[&str]| subjects.iter().map(|&subject| subject.to_owned()).collect();
    let stream = |name: &str, subjects: Vec<String>, max_age: Duration, max_bytes: i64| Config {
        name: name.to_owned(),
        subjects,
        max_age,
        max_bytes,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: 1,
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    };
    [
        // Whoever missed an hour of events reads in bulk.
        stream(EVENT_STREAM, owned(&SUBJECTS), HOUR, 256 * MIB),
        // Only ends of voice sessions and choices are worth more than HEARTBEAT_TIMEOUT; 1 GiB holds 20 minutes of
        // heartbeats of 100,000 users.
        stream(INPUT_STREAM, owned(&["gateway.>", "voice.>"]), HOUR, 1024 * MIB),
        // Long enough for someone to come back from a holiday.
        stream(DEAD_LETTER_STREAM, vec![format!("{DEAD_LETTER_PREFIX}.>")], 24 * 14 * HOUR, 128 * MIB),
    ]
}

/// Looks at the server, and creates what is missing if that is ours to do.
pub(super) async fn inspect(jetstream: &Context, streams: Streams) -> Found {
    let mut notes = Vec::new();
    for definition in definitions() {
        if streams == Streams::Expect && definition.name != EVENT_STREAM {
            continue;
        }
        let seen = match look(jetstream, &definition).await {
            Seen::Missing if streams == Streams::Ensure => create(jetstream, &definition).await,
            seen => seen,
        };
        match seen {
            Seen::Present { note } => notes.extend(note),
            Seen::Missing if definition.name != EVENT_STREAM => {
                notes.push(format!("stream {} does not exist", definition.name));
            }
            Seen::Missing => return Found::Trouble(format!("stream {} does not exist", definition.name)),
            Seen::NoJetStream => return Found::NoJetStream,
            Seen::Trouble(reason) => return Found::Trouble(format!("stream {}: {reason}", definition.name)),
        }
    }
    Found::Streams { notes }
}

/// What one stream looks like.
enum Seen {
    Present { note: Option<String> },
    Missing,
    NoJetStream,
    Trouble(String),
}

#[derive(Deserialize)]
struct Described {
    config: DescribedConfig,
}

#[derive(Deserialize)]
struct DescribedConfig {
    #[serde(default)]
    subjects: Vec<String>,
}

async fn look(jetstream: &Context, definition: &Config) -> Seen {
    let name = &definition.name;
    match jetstream.request::<_, _, Response<Described>>(format!("STREAM.INFO.{name}"), &()).await {
        Ok(Response::Ok(stream)) => {
            let captured = |wanted: &String| stream.config.subjects.iter().any(|subject| covers(subject, wanted));
            let missing: Vec<&str> = definition.subjects.iter().filter(|s| !captured(s)).map(String::as_str).collect();
            let note = || format!("stream {name} exists but does not capture {}", missing.join(", "));
            Seen::Present { note: (!missing.is_empty()).then(note) }
        }
        Ok(Response::Err { error }) => match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND => Seen::Missing,
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => Seen::NoJetStream,
            _ => Seen::Trouble(error.to_string()),
        },
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Seen::NoJetStream,
        Err(error) => Seen::Trouble(error.to_string()),
    }
}

async fn create(jetstream: &Context, definition: &Config) -> Seen {
    let name = &definition.name;
    let Err(error) = jetstream.create_stream(definition.clone()).await else {
        tracing::info!(stream = name, "stream created");
        return Seen::Present { note: None };
    };
    match error.kind() {
        CreateStreamErrorKind::JetStream(cause) => match cause.error_code() {
            // Another host was faster.
            ErrorCode::STREAM_NAME_EXIST => Seen::Present { note: None },
            // An operator's own stream has them: whoever publishes gets its acknowledgement.
            ErrorCode::STREAM_SUBJECT_OVERLAP => {
                Seen::Present { note: Some(format!("another stream captures the subjects of stream {name}")) }
            }
            _ => Seen::Trouble(format!("can't be created: {cause}")),
        },
        other => Seen::Trouble(format!("can't be created: {other}")),
    }
}

/// Whether every subject that `wanted` matches is matched by `pattern`.
fn covers(pattern: &str, wanted: &str) -> bool {
    let (mut pattern, mut wanted) = (pattern.split('.'), wanted.split('.'));
    loop {
        match (pattern.next(), wanted.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(ours), Some(theirs)) if ours == theirs => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_it_matches_and_nothing_more() {
        for (pattern, wanted) in
            [("a.b", "a.b"), ("a.*", "a.b"), ("a.>", "a.b.c"), ("a.>", "a.>"), (">", "a"), ("*.*", "a.*")]
        {
            assert!(covers(pattern, wanted), "{pattern} {wanted}");
        }
        for (pattern, wanted) in
            [("a.b", "a.c"), ("a.*", "a.>"), ("a.*", "a.b.c"), ("a.>", "a"), ("a.b", "a.*"), ("a", "a.b")]
        {
            assert!(!covers(pattern, wanted), "{pattern} {wanted}");
        }
    }

    #[test]
    fn the_streams_capture_every_subject_of_the_service_once() {
        let patterns: Vec<String> = definitions().into_iter().flat_map(|stream| stream.subjects).collect();
        let inputs = ["gateway.connection.opened", "gateway.heartbeat.received", "voice.session.ended"];
        for subject in SUBJECTS.iter().chain(&inputs).chain(&["presence.dlq.heartbeat-received"]) {
            assert_eq!(patterns.iter().filter(|pattern| covers(pattern, subject)).count(), 1, "{subject}");
        }
    }
}
