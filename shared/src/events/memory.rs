//! The embedded bus: events inside one process, for a service without NATS and for tests. Keeps nothing.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{Event, EventPublisher, PublishError};

/// How many events a subscriber may fall behind before it misses the oldest.
pub const CAPACITY: usize = 16_384;

/// Carries events to every subscriber of this process. Publishers never wait: a subscriber that falls more than the
/// capacity behind is told how many events it missed.
#[derive(Debug, Clone)]
pub struct MemoryBus {
    sender: broadcast::Sender<Arc<Event>>,
}

/// One subscriber's place in the stream of events, from the moment it subscribed.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<Event>>,
}

/// What a subscriber gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The next event, in the order of publication.
    Event(Arc<Event>),
    /// So many events were missed; the next one is the oldest still held. Read in bulk what must not be missed.
    Lagged(u64),
}

impl MemoryBus {
    /// A bus that holds [`CAPACITY`] events for slow subscribers.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// A bus that holds at least `events` events (and at least one) for slow subscribers.
    pub fn with_capacity(events: usize) -> Self {
        Self { sender: broadcast::channel(events.max(1)).0 }
    }

    /// Events from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription { receiver: self.sender.subscribe() }
    }
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscription {
    /// Waits for what comes next; none once the last handle of the bus is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Received> {
        match self.receiver.recv().await {
            Ok(event) => Some(Received::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Received::Lagged(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[async_trait]
impl EventPublisher for MemoryBus {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        for event in events {
            // It fails only while nobody subscribes: then everyone who listens has it.
            let _ = self.sender.send(Arc::new(event.clone()));
        }
        vec![Ok(()); events.len()]
    }

    async fn is_ready(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::events::Traceparent;

    fn typing(millis: i64) -> Event {
        Event::typing(
            "00000000-0000-4000-8000-000000000001".parse().unwrap(),
            "00000000-0000-4000-8000-000000000002".parse().unwrap(),
            Timestamp::from_millis(millis),
            Traceparent::generate(),
        )
    }

    async fn event(subscription: &mut Subscription) -> Event {
        match subscription.next().await {
            Some(Received::Event(event)) => Event::clone(&event),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn every_subscriber_gets_every_event_in_order() {
        let bus = MemoryBus::new();
        let (mut first, mut second) = (bus.subscribe(), bus.subscribe());
        let events = [typing(1), typing(2), typing(3)];
        let results = bus.publish(&events).await;
        assert!(results.len() == 3 && results.iter().all(Result::is_ok));
        for expected in &events {
            assert_eq!(&event(&mut first).await, expected);
            assert_eq!(&event(&mut second).await, expected);
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed_and_goes_on() {
        let bus = MemoryBus::with_capacity(2);
        let mut slow = bus.subscribe();
        let events = [typing(1), typing(2), typing(3), typing(4), typing(5)];
        bus.publish(&events).await;
        assert_eq!(slow.next().await, Some(Received::Lagged(3)));
        assert_eq!(event(&mut slow).await, events[3]);
        assert_eq!(event(&mut slow).await, events[4]);
    }

    #[tokio::test]
    async fn publishing_to_nobody_succeeds_and_the_end_of_the_bus_is_seen() {
        let bus = MemoryBus::new();
        assert!(bus.publish(&[typing(1)]).await[0].is_ok());
        let mut late = bus.subscribe();
        drop(bus);
        assert_eq!(late.next().await, None);
    }
}
