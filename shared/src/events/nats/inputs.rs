//! Telling over NATS what happened to users, as a gateway does.

use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;

use super::link::NatsLink;
use super::send::Outgoing;
use crate::domain::Traceparent;
use crate::events::PublishError;

impl NatsLink {
    /// Tells on a subject of [`inputs`](crate::events::inputs). Ok says that the server is known to have the message;
    /// of any other its fate is unknown, and it may be told again. Ends within a bounded time.
    pub async fn tell(&self, subject: &str, traceparent: &Traceparent, payload: Bytes) -> Result<(), PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", "application/json");
        headers.insert("traceparent", HeaderValue::from(traceparent.to_string()));
        let message = Outgoing { subject: subject.into(), headers, payload };
        self.send(&[message], Outgoing::clone).await.pop().unwrap_or(Ok(()))
    }
}
