//! How a gateway talks to the rest: the way in for what happens to connections ([`Inputs`]) and the way out for events
//! ([`Events`]), over NATS or inside one process.

mod embedded;
mod nats;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use presence::{Carrier, PresenceService};

use crate::report::Happened;

/// Carries what happened to connections to whoever decides about presence.
#[async_trait]
pub(crate) trait Inputs: Send + Sync {
    /// Tells it all, in its order, and gives back what is not known to have arrived and has to be told again. Ends
    /// within a bounded time.
    async fn tell(&self, happened: Vec<Happened>) -> Vec<Happened>;
}

/// Brings events.
#[async_trait]
pub(crate) trait Events: Send {
    /// Waits for what comes next; none once nothing will come any more.
    async fn next(&mut self) -> Option<Heard>;
}

/// What comes from [`Events`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The frame of an event.
    Frame(Bytes),
    /// Events before this may be missing; all after it come. The first of all that is heard.
    Gap,
}

/// The way in over a carrier.
pub(crate) fn inputs(carrier: &Carrier, service: Arc<PresenceService>) -> Box<dyn Inputs> {
    match carrier {
        Carrier::Embedded(_) => Box::new(embedded::Decisions::new(service)),
        Carrier::Nats(link) => Box::new(nats::Messages::new(link.clone())),
    }
}

/// The way out over a carrier.
pub(crate) fn events(carrier: &Carrier) -> Box<dyn Events> {
    match carrier {
        Carrier::Embedded(bus) => Box::new(embedded::Subscription::new(bus)),
        Carrier::Nats(link) => Box::new(nats::Subscription::new(link.clone())),
    }
}
