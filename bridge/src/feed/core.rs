//! Messages from a queue group, where the server has no JetStream: each goes to one process of the group, once.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{interval, timeout};
use uuid::Uuid;

use super::{End, Feeder};
use crate::held::{Held, Origin};

/// The queue group of all processes of the service.
const QUEUE: &str = "presence";

/// How long NATS may take over a subscription.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often to look whether the server has JetStream by now.
const INTERVAL: Duration = Duration::from_secs(1);

impl Feeder {
    /// Until the shutdown, or until the server has JetStream. While there is no room, messages wait in the buffer of
    /// the client library, which throws away what does not fit in.
    pub(super) async fn feed_from_core(&mut self) -> End {
        let client = self.link.client().clone();
        let subscribing = async {
            let subscriber = client.queue_subscribe(self.mapping.subject.clone(), QUEUE.into()).await?;
            // Returns when the subscription is on its way; what is published after this process is ready finds it.
            client.flush().await.map(|()| subscriber).map_err(async_nats::Error::from)
        };
        let mut subscriber = match timeout(DEADLINE, subscribing).await {
            Ok(Ok(subscriber)) => subscriber,
            Ok(Err(error)) => return End::Trouble(error.to_string()),
            Err(_) => return End::Trouble("NATS takes no subscription".to_owned()),
        };
        self.is_in_place("queue group");

        let subscription: Arc<str> = Arc::from(Uuid::new_v4().to_string());
        let (rooms, most) = self.rooms();
        let shutdown = self.shutdown.clone();
        let mut look = interval(INTERVAL);
        let mut number = 0;
        let mut end = None;
        loop {
            let message = tokio::select! {
                message = subscriber.next() => message,
                () = shutdown.cancelled(), if end.is_none() => {
                    end = Some(End::Shutdown);
                    let _ = timeout(DEADLINE, subscriber.drain()).await;
                    continue;
                }
                _ = look.tick(), if end.is_none() => {
                    if self.has_jetstream_now() == Some(true) {
                        end = Some(End::Changed);
                        let _ = timeout(DEADLINE, subscriber.drain()).await;
                    }
                    continue;
                }
            };
            // After the drain there is an end.
            let Some(message) = message else {
                return end.unwrap_or_else(|| End::Trouble("the connection to NATS is closed".to_owned()));
            };
            let bytes = u32::try_from(message.length.min(most)).unwrap_or(u32::MAX);
            let Ok(room) = rooms.take(1, bytes).await else { return End::Shutdown };
            number += 1;
            let origin = Origin::Core { subscription: subscription.clone(), number };
            if self.to_worker.send(Held::new(origin, message, Some(room))).await.is_err() {
                return End::Shutdown;
            }
        }
    }
}
