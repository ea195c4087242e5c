//! A gateway connection closed: that session ends, or lingers if it broke.

use presence::domain::{InputKind, Invalid};
use presence::events::inputs;

use super::{Element, Subscription};

/// `gateway.connection.closed` → `connection-closed`.
pub const SUBSCRIPTION: Subscription =
    Subscription { subject: inputs::CONNECTION_CLOSED, function: "connection-closed", input };

fn input(element: Element) -> Result<InputKind, Invalid> {
    Ok(InputKind::closed(element.session_id, element.close_code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::element;

    fn is_abnormal(fields: &str) -> bool {
        match input(element(fields)) {
            Ok(InputKind::Closed { abnormal, .. }) => abnormal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_ends_the_session_that_it_names() {
        let closed = InputKind::Closed { session_id: "s".parse().unwrap(), abnormal: false };
        assert_eq!(input(element(r#""session_id":"s""#)), Ok(closed));
    }

    #[test]
    fn only_a_close_code_other_than_leaving_is_abnormal() {
        for (fields, abnormal) in [
            ("", false),
            (r#""close_code":null"#, false),
            (r#""close_code":1000"#, false),
            (r#""close_code":1001"#, false),
            (r#""close_code":1006"#, true),
            (r#""close_code":4009"#, true),
            (r#""close_code":0"#, true),
        ] {
            assert_eq!(is_abnormal(fields), abnormal, "{fields}");
        }
    }
}
