//! Short ways to elements and records.

use std::collections::BTreeMap;

use presence::domain::Timestamp;
use presence::events::batch::Record;

use super::Element;
use super::payload;

pub(crate) const USER: &str = "0a1b2c3d-0000-4000-8000-00000000000f";

/// An element of [`USER`] with these fields.
pub(crate) fn element(fields: &str) -> Element {
    let comma = if fields.is_empty() { "" } else { "," };
    let json = format!(r#"{{"user_id":"{USER}"{comma}{fields}}}"#);
    payload::read(json.as_bytes(), Ok).unwrap().good.remove(0)
}

/// The message of this number, published at this time.
pub(crate) fn record(number: u64, millis: i64, data: impl Into<Vec<u8>>) -> Record {
    Record {
        message_id: format!("PRESENCE:{number}"),
        subject: "gateway.heartbeat.received".into(),
        data: data.into().into(),
        headers: BTreeMap::new(),
        num_delivered: 1,
        timestamp: Some(Timestamp::from_millis(millis)),
    }
}
