//! A batch of messages on its way to a function, and the answer: the contract between whoever takes messages from NATS
//! and whoever processes them, on the wire of a function's invocation and inside one process.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::{Timestamp, Traceparent};

/// Messages of one subject, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Who took the messages: `nats:jetstream`, or `nats:core` where nothing comes twice.
    #[serde(rename = "eventSource", default)]
    pub event_source: String,
    /// The messages.
    #[serde(rename = "Records")]
    pub records: Vec<Record>,
}

/// One message. Fields that a newer release adds are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `<stream>:<sequence>`; the same each time the message comes.
    pub message_id: String,
    /// The subject it was published on.
    pub subject: String,
    /// The bytes of the message; base64 on the wire.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub data: Bytes,
    /// Its headers, each with its values in their order.
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    /// How often it has come, this time included.
    #[serde(default = "once")]
    pub num_delivered: u64,
    /// When it was published, by the store's clock; milliseconds since the epoch on the wire. None means now.
    #[serde(default, serialize_with = "to_millis", deserialize_with = "from_millis")]
    pub timestamp: Option<Timestamp>,
}

/// What became of a batch: the records named here come again, all others are done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// In the order of the batch.
    #[serde(default)]
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// The `errorType` of a function error that says that the store is away. Nothing is known against any record of the
/// batch then: whoever sent it waits, and counts no attempt.
pub const UNAVAILABLE: &str = "Unavailable";

/// A record that could not be processed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// Its message id.
    pub item_identifier: String,
}

impl BatchResponse {
    /// The answer in which these records failed.
    pub fn failed(message_ids: impl IntoIterator<Item = String>) -> Self {
        let failure = |item_identifier| BatchItemFailure { item_identifier };
        Self { batch_item_failures: message_ids.into_iter().map(failure).collect() }
    }
}

impl Record {
    /// The trace that the message belongs to, as W3C or AWS writes it.
    pub fn traceparent(&self) -> Option<Traceparent> {
        let w3c = self.header("traceparent").and_then(Traceparent::parse);
        w3c.or_else(|| self.header("x-amzn-trace-id").and_then(Traceparent::from_xray))
    }

    /// The first value of a header, whatever the case of its name: gateways differ.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?.1;
        values.first().map(String::as_str)
    }
}

fn once() -> u64 {
    1
}

fn to_base64<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    BASE64.decode(text.as_bytes()).map(Bytes::from).map_err(serde::de::Error::custom)
}

fn to_millis<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(Timestamp::millis).serialize(serializer)
}

fn from_millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<i64>::deserialize(deserializer)?.map(Timestamp::from_millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_written_as_the_contract_says_and_read_back() {
        let batch = Batch {
            event_source: "nats:jetstream".into(),
            records: vec![Record {
                message_id: "PRESENCE:17".into(),
                subject: "gateway.heartbeat.received".into(),
                data: Bytes::from_static(b"{\xff"),
                headers: BTreeMap::from([("k".into(), vec!["v".into(), "w".into()])]),
                num_delivered: 2,
                timestamp: Some(Timestamp::from_millis(1_704_110_400_007)),
            }],
        };
        let json = r#"{"eventSource":"nats:jetstream","Records":[{"messageId":"PRESENCE:17","subject":"gateway.heartbeat.received","data":"e/8=","headers":{"k":["v","w"]},"numDelivered":2,"timestamp":1704110400007}]}"#;
        assert_eq!(serde_json::to_string(&batch).unwrap(), json);
        assert_eq!(serde_json::from_str::<Batch>(json).unwrap(), batch);
    }

    #[test]
    fn what_a_newer_release_adds_is_passed_over_and_what_an_invoker_leaves_out_has_a_meaning() {
        let json = r#"{"Records":[{"messageId":"a","subject":"s","data":"","new":{}}],"newer":1}"#;
        let batch: Batch = serde_json::from_str(json).unwrap();
        let record = &batch.records[0];
        assert_eq!((record.num_delivered, record.timestamp, record.data.len()), (1, None, 0));
        for bad in [
            r#"{}"#,
            r#"{"Records":[{"subject":"s","data":""}]}"#,
            r#"{"Records":[{"messageId":"a","subject":"s","data":"*"}]}"#,
        ] {
            assert!(serde_json::from_str::<Batch>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_written_as_the_contract_says() {
        let answer = BatchResponse::failed(["PRESENCE:17".to_owned()]);
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"batchItemFailures":[{"itemIdentifier":"PRESENCE:17"}]}"#
        );
        assert_eq!(serde_json::from_str::<BatchResponse>("{}").unwrap(), BatchResponse::default());
    }

    #[test]
    fn a_header_is_found_whatever_its_case() {
        let json = r#"{"messageId":"a","subject":"s","data":"","headers":{"Traceparent":["t","u"]}}"#;
        let record: Record = serde_json::from_str(json).unwrap();
        assert_eq!(record.header("traceparent"), Some("t"));
        assert_eq!(record.header("tracestate"), None);
    }
}
