//! A gateway connection opened: the user becomes visible with their intent.

use presence::domain::{InputKind, Invalid};
use presence::events::inputs;

use super::{Element, Subscription};

/// `gateway.connection.opened` → `connection-opened`.
pub const SUBSCRIPTION: Subscription =
    Subscription { subject: inputs::CONNECTION_OPENED, function: "connection-opened", input };

fn input(element: Element) -> Result<InputKind, Invalid> {
    let Element { session_id, platform, status, .. } = element;
    Ok(InputKind::Opened { session_id, platform, status })
}

#[cfg(test)]
mod tests {
    use presence::domain::{Intent, Platform, SessionId};

    use super::*;
    use crate::event::testing::element;

    #[test]
    fn it_adds_the_session_and_takes_a_status_along() {
        let opened = element(r#""session_id":"s","platform":"desktop","status":"dnd""#);
        assert_eq!(
            input(opened),
            Ok(InputKind::Opened {
                session_id: "s".parse().unwrap(),
                platform: Some(Platform::Desktop),
                status: Some(Intent::Dnd)
            })
        );
    }

    #[test]
    fn without_a_status_nothing_is_chosen() {
        let nothing = InputKind::Opened { session_id: SessionId::unnamed(), platform: None, status: None };
        assert_eq!(input(element("")), Ok(nothing));
    }
}
