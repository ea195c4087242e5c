//! Events as a gateway hears them over NATS: every one while there is a connection, and a word where some may be missing.

use async_nats::Subscriber;
use bytes::Bytes;
use futures::stream::{SelectAll, StreamExt, select_all};
use tokio::sync::watch;

use super::link::NatsLink;
use crate::events::{PublishError, SUBJECTS};

/// One subscriber's place in the stream of events.
pub struct NatsSubscription {
    link: NatsLink,
    messages: SelectAll<Subscriber>,
    gaps: watch::Receiver<u64>,
    /// Something may have been missed, and nobody was told yet.
    missed: bool,
}

/// What a subscriber gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsReceived {
    /// The payload of an event: a gateway frame, if its publisher is one of ours.
    Frame(Bytes),
    /// From here on every event comes; some before may be missing. Read in bulk what must not be missed. Comes first of
    /// all, and again after each break.
    Gap,
}

impl NatsLink {
    /// Events from the first [`NatsReceived::Gap`] on. Returns at once, whether there is a connection or not.
    pub async fn subscribe(&self) -> Result<NatsSubscription, PublishError> {
        let gaps = self.gaps();
        let mut subscribers = Vec::with_capacity(SUBJECTS.len());
        for subject in SUBJECTS {
            let subscriber = self.client().subscribe(subject).await;
            subscribers.push(subscriber.map_err(|error| PublishError(error.to_string()))?);
        }
        Ok(NatsSubscription { link: self.clone(), messages: select_all(subscribers), gaps, missed: true })
    }
}

impl NatsSubscription {
    /// Waits for what comes next; none once the connection is closed for good. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<NatsReceived> {
        loop {
            if self.missed {
                // Later breaks are told by themselves.
                self.gaps.mark_unchanged();
                self.link.settled().await;
                self.missed = false;
                return Some(NatsReceived::Gap);
            }
            tokio::select! {
                biased;
                changed = self.gaps.changed() => {
                    changed.ok()?;
                    self.missed = true;
                }
                message = self.messages.next() => return message.map(|message| NatsReceived::Frame(message.payload)),
            }
        }
    }
}

impl std::fmt::Debug for NatsSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsSubscription").field("missed", &self.missed).finish_non_exhaustive()
    }
}
