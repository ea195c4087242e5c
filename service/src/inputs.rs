//! What others tell about users over NATS, taken and processed in this process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use presence::events::batch::{Batch, BatchResponse};
use presence::events::nats::NatsLink;
use presence::{Carrier, ErrorKind, PresenceService};
use presence_bridge::{Bridge, Consumers, EventSourceMapping, Options, Parts, Target, TargetError};
use presence_functions::event::{EventHandler, SUBSCRIPTIONS, Subscription};
use tokio_util::sync::CancellationToken;

/// How long a shutdown waits for batches that are being decided: less than it waits for requests.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Starts to take the messages of every subscription, until `shutdown`; none without NATS, where nobody could tell
/// anything.
pub(crate) fn start(carrier: &Carrier, service: Arc<PresenceService>, shutdown: CancellationToken) -> Option<Bridge> {
    let Carrier::Nats(link) = carrier else { return None };
    let dead_letters = carrier.dead_letters();
    let target = Arc::new(InProcess { handler: EventHandler::new(service.clone(), dead_letters.clone()) });
    let parts = Parts {
        link: NatsLink::clone(link),
        service,
        dead_letters,
        target,
        consumers: Consumers::Ensure,
        drain_time: DRAIN_TIME,
    };
    let mapping = |Subscription { subject, function, .. }| EventSourceMapping {
        subject: subject.to_owned(),
        function: function.to_owned(),
        options: Options::in_process(),
    };
    Some(Bridge::start(parts, SUBSCRIPTIONS.map(mapping).into(), shutdown))
}

/// The event functions, without a wire in between.
struct InProcess {
    handler: EventHandler,
}

#[async_trait]
impl Target for InProcess {
    async fn invoke(&self, function: &str, batch: Batch) -> Result<BatchResponse, TargetError> {
        let Some(subscription) = Subscription::of(function) else {
            return Err(TargetError::Unavailable(format!("there is no function {function}")));
        };
        self.handler.handle(subscription, &batch).await.map_err(|error| match error.kind() {
            ErrorKind::Unavailable => TargetError::Unavailable(error.to_string()),
            ErrorKind::Internal | ErrorKind::RateLimited { .. } => TargetError::Failed(error.to_string()),
        })
    }
}
