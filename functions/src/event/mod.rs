//! What other services tell about users: one file a subscription, and the batch runner that all of them share.

mod batch;
pub mod connection_closed;
pub mod connection_opened;
pub mod heartbeat_received;
#[cfg(test)]
mod hostile;
pub mod payload;
mod plan;
pub mod sweep_timeouts;
#[cfg(test)]
mod testing;
pub mod voice_session_created;
pub mod voice_session_ended;

pub use batch::{EventHandler, Invocation};
pub use payload::Element;
pub use plan::{Disposition, Plan};

use presence::domain::{InputKind, Invalid};

/// One subject, the function that takes its messages, and what it makes of each element.
#[derive(Debug, Clone, Copy)]
pub struct Subscription {
    /// The NATS subject.
    pub subject: &'static str,
    /// The name of the function, which is also that of the consumer and of the dead letters.
    pub function: &'static str,
    /// What an element says happened.
    pub input: fn(Element) -> Result<InputKind, Invalid>,
}

/// All subscriptions of the service. A host that takes messages takes these.
pub const SUBSCRIPTIONS: [Subscription; 5] = [
    connection_opened::SUBSCRIPTION,
    connection_closed::SUBSCRIPTION,
    heartbeat_received::SUBSCRIPTION,
    voice_session_created::SUBSCRIPTION,
    voice_session_ended::SUBSCRIPTION,
];

impl Subscription {
    /// The subscription of a function.
    pub fn of(function: &str) -> Option<Subscription> {
        SUBSCRIPTIONS.into_iter().find(|subscription| subscription.function == function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subjects_and_functions_are_those_of_the_documents() {
        let table = SUBSCRIPTIONS.map(|subscription| (subscription.subject, subscription.function));
        assert_eq!(
            table,
            [
                ("gateway.connection.opened", "connection-opened"),
                ("gateway.connection.closed", "connection-closed"),
                ("gateway.heartbeat.received", "heartbeat-received"),
                ("voice.session.created", "voice-session-created"),
                ("voice.session.ended", "voice-session-ended"),
            ]
        );
        assert_eq!(Subscription::of("heartbeat-received").unwrap().subject, "gateway.heartbeat.received");
        assert!(Subscription::of("update-status").is_none());
    }
}
