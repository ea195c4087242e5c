//! Events over NATS.

use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use async_trait::async_trait;
use tokio::time::Instant;
use tracing::Instrument;

use super::link::NatsLink;
use super::send::Outgoing;
use crate::events::{Event, EventPublisher, PublishError};
use crate::metrics::{EVENTS_FAILED, EVENTS_PUBLISHED, EVENTS_SECONDS};
use crate::telemetry::SPANS;

/// Publishes events on their subjects. With JetStream an event counts as published when the stream has it; a second
/// telling within two minutes is recognised by its id and kept once.
#[derive(Debug, Clone)]
pub struct NatsPublisher {
    link: NatsLink,
}

impl NatsPublisher {
    /// A publisher over this connection.
    pub fn new(link: NatsLink) -> Self {
        Self { link }
    }
}

#[async_trait]
impl EventPublisher for NatsPublisher {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        if events.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        let span = tracing::info_span!(target: SPANS, "publish", otel.kind = "producer", events = events.len());
        let results = self.link.send(events, message).instrument(span).await;
        metrics::histogram!(EVENTS_SECONDS).record(started.elapsed());
        count(events, &results);
        results
    }

    async fn is_ready(&self) -> bool {
        self.link.is_ready()
    }
}

fn message(event: &Event) -> Outgoing {
    let mut headers = HeaderMap::new();
    for (name, value) in event.headers() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    Outgoing { subject: Subject::from_static(event.kind.subject()), headers, payload: event.frame.clone() }
}

fn count(events: &[Event], results: &[Result<(), PublishError>]) {
    let mut failures = 0_usize;
    for (event, result) in events.iter().zip(results) {
        let subject = event.kind.subject();
        match result {
            Ok(()) => metrics::counter!(EVENTS_PUBLISHED, "subject" => subject).increment(1),
            Err(_) => {
                metrics::counter!(EVENTS_FAILED, "subject" => subject).increment(1);
                failures += 1;
            }
        }
    }
    if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
        tracing::warn!(failures, events = events.len(), %error, "events not known to be published");
    }
}
