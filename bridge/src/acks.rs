//! Tells the stream what became of its messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, Subject};
use bytes::Bytes;
use tokio::time::timeout;

use crate::held::{Held, Origin};

/// How long telling may take. It is a write into a buffer, except while the connection is down; then the messages come
/// again.
const DEADLINE: Duration = Duration::from_secs(2);

/// Acknowledges deliveries. One that does not arrive is no loss: the message comes again.
#[derive(Debug, Clone)]
pub(crate) struct Acks {
    client: Client,
    /// Which life of the stream is the present one.
    life: Arc<AtomicU64>,
}

impl Acks {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, life: Arc::new(AtomicU64::new(0)) }
    }

    /// The stream that is there now is this one. What was delivered by another is not acknowledged any more: its
    /// numbers mean other messages now.
    pub(crate) fn set_life(&self, life: u64) {
        self.life.store(life, Ordering::Relaxed);
    }

    /// They are done.
    pub(crate) async fn done(&self, messages: &[Arc<Held>]) {
        self.tell(self.words(messages.iter().map(|held| (held, AckKind::Ack)))).await;
    }

    /// They are over without being done: they are with the dead letters.
    pub(crate) async fn over(&self, messages: &[Arc<Held>]) {
        self.tell(self.words(messages.iter().map(|held| (held, AckKind::Term)))).await;
    }

    /// They are to come again after a while, here or elsewhere.
    pub(crate) async fn later(&self, messages: &[(Arc<Held>, Duration)]) {
        self.tell(self.words(messages.iter().map(|(held, delay)| (held, AckKind::Nak(Some(*delay)))))).await;
    }

    /// They are still held: they are not to come again yet.
    pub(crate) async fn in_progress(&self, messages: &[Arc<Held>]) {
        self.tell(self.words(messages.iter().map(|held| (held, AckKind::Progress)))).await;
    }

    /// Waits until all that was told is on its way.
    pub(crate) async fn flush(&self) {
        let _ = timeout(DEADLINE, self.client.flush()).await;
    }

    fn words<'a>(&self, messages: impl Iterator<Item = (&'a Arc<Held>, AckKind)>) -> Vec<(Subject, Bytes)> {
        let life = self.life.load(Ordering::Relaxed);
        let word = |(held, kind): (&Arc<Held>, AckKind)| match &held.origin {
            Origin::Stream(delivery) if delivery.life == life => Some((delivery.reply.clone(), Bytes::from(kind))),
            _ => None,
        };
        messages.filter_map(word).collect()
    }

    async fn tell(&self, words: Vec<(Subject, Bytes)>) {
        let telling = async {
            for (reply, word) in words {
                self.client.publish(reply, word).await?;
            }
            Ok::<(), async_nats::PublishError>(())
        };
        match timeout(DEADLINE, telling).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "messages are not acknowledged and come again"),
            Err(_) => tracing::debug!("messages are not acknowledged in time and come again"),
        }
    }
}
