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

    /// The same trace as AWS writes it in `X-Amzn-Trace-Id` (`Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=1`), if that
    /// is well formed. Where it names no parent, one is made up: then the trace began with whoever wrote it.
    pub fn from_xray(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let named = text.split(';').map(str::trim).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            named.map(str::trim)
        };
        let (epoch, unique) = field("Root")?.strip_prefix("1-")?.split_once('-')?;
        let made_up = || Uuid::new_v4().simple().to_string()[..16].to_owned();
        let parent = field("Parent").map_or_else(made_up, str::to_owned);
        let flags = if field("Sampled") == Some("0") { "00" } else { "01" };
        (epoch.len() == 8).then(|| Self::parse(&format!("00-{epoch}{unique}-{parent}-{flags}")))?
    }

    /// The id of the trace: 32 hexadecimal digits, the same for everything that one request causes.
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }

    /// A new trace, for a change that nobody's request caused.
    pub fn generate() -> Self {
        let (trace, (parent, _)) = (Uuid::new_v4().simple(), Uuid::new_v4().as_u64_pair());
        Self(format!("00-{trace}-{parent:016x}-01").into())
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
    fn the_trace_of_aws_is_the_same_trace() {
        let root = "Root=1-5759e988-bd862e3fe1be46a994272793";
        let trace = Traceparent::from_xray(&format!("{root};Parent=53995c3f42cd8ad8;Sampled=1")).unwrap();
        assert_eq!(trace.as_str(), "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01");
        assert_eq!(trace.trace_id(), "5759e988bd862e3fe1be46a994272793");
        let unsampled =
            Traceparent::from_xray(&format!("Self=1-0-0; {root}; Parent=53995c3f42cd8ad8; Sampled=0;Lineage=a:0"));
        assert!(unsampled.unwrap().as_str().ends_with("-53995c3f42cd8ad8-00"));
        assert_eq!(Traceparent::from_xray(root).unwrap().trace_id(), trace.trace_id());
        for bad in
            ["", "Root=", "Root=1-5759e988", "Root=1-5759e98-bd862e3fe1be46a9942727930", "Parent=53995c3f42cd8ad8"]
        {
            assert_eq!(Traceparent::from_xray(bad), None, "{bad}");
        }
    }

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
