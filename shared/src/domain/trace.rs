//! Which request or message caused a change.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A W3C trace context `traceparent`, version 00: it ties an event to the request or message that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Traceparent(Box<str>);

impl Traceparent {
    /// The one that a request carries, if it is well formed.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, parent, flags] = parts.as_slice() else { return None };
        let shape = version.len() == 2 && trace.len() == 32 && parent.len() == 16 && flags.len() == 2;
        let zero = |part: &str| part.bytes().all(|b| b == b'0');
        let valid = shape && parts.iter().all(|p| lower_hex(p)) && *version == "00" && !zero(trace) && !zero(parent);
        valid.then(|| Self(text.into()))
    }

    /// A new trace, for a change that nobody's request caused.
    pub fn generate() -> Self {
        let (trace, parent) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
        Self(format!("00-{trace}-{}-01", &parent[..16]).into())
    }

    /// The text of the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_taken_only_when_well_formed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Traceparent::parse(good).unwrap().as_str(), good);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
        let generated = Traceparent::generate();
        assert_eq!(Traceparent::parse(generated.as_str()), Some(generated));
    }
}
