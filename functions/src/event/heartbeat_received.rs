//! A gateway heard a client's heartbeat: the session lives on. A gateway may report thousands in one message.

use presence::domain::{InputKind, Invalid};
use presence::events::inputs;

use super::{Element, Subscription};

/// `gateway.heartbeat.received` → `heartbeat-received`.
pub const SUBSCRIPTION: Subscription =
    Subscription { subject: inputs::HEARTBEAT_RECEIVED, function: "heartbeat-received", input };

fn input(element: Element) -> Result<InputKind, Invalid> {
    let Element { session_id, platform, .. } = element;
    Ok(InputKind::Heartbeat { session_id, platform })
}

#[cfg(test)]
mod tests {
    use presence::domain::Platform;

    use super::*;
    use crate::event::testing::element;

    #[test]
    fn it_renews_the_session_and_says_where_it_runs_in_case_nobody_knows_it() {
        let heartbeat = InputKind::Heartbeat { session_id: "s".parse().unwrap(), platform: Some(Platform::Mobile) };
        assert_eq!(input(element(r#""session_id":"s","platform":"mobile""#)), Ok(heartbeat));
    }

    #[test]
    fn a_status_in_a_heartbeat_chooses_nothing() {
        assert_eq!(input(element(r#""status":"dnd""#)), input(element("")));
    }
}
