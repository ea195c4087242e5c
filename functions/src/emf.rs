//! The metrics of a function: under the same names as those of a process, but written to the log, in CloudWatch's embedded
//! metric format, since nobody can ask a function that is frozen.
//!
//! One line holds everything that an invocation counted, except where the format does not allow it: a metric and a label
//! can have one value in a line. Every metric is filed twice, by its labels and without, so that alarms can look at a sum.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{AtomicStorage, Registry};
use presence::config::Config;
use serde_json::{Map, Value, json};

/// The most values that a metric may have in one line.
const VALUES: usize = 100;
/// The most metrics in one line.
const METRICS: usize = 100;

/// Where the metrics of this function are gathered. Lives as long as the process.
#[derive(Clone, Copy)]
pub(crate) struct FunctionMetrics(&'static Embedded);

struct Embedded {
    registry: Registry<Key, AtomicStorage>,
    namespace: String,
}

impl FunctionMetrics {
    /// Gathers from now on, for the namespace that the configuration names; none if it names none, or if somebody else
    /// gathers already.
    pub(crate) fn install(config: &Config) -> Option<Self> {
        let namespace = config.metrics_namespace.clone()?;
        let embedded: &'static Embedded = Box::leak(Box::new(Embedded { registry: Registry::atomic(), namespace }));
        metrics::set_global_recorder(embedded).ok()?;
        Some(Self(embedded))
    }

    /// Writes what was gathered since the last time to the standard output, which the host takes to CloudWatch.
    pub(crate) fn write(self) {
        let lines: String = self.0.drain(now_ms()).iter().map(|line| format!("{line}\n")).collect();
        // There is nobody to tell that nobody can be told.
        let _ = io::stdout().lock().write_all(lines.as_bytes());
    }
}

impl Embedded {
    fn drain(&self, timestamp_ms: u64) -> Vec<Value> {
        let mut lines = Lines::default();
        self.registry.visit_counters(|key, counter| {
            let count = counter.swap(0, Ordering::Relaxed);
            if count > 0 {
                lines.add(key, json!(count));
            }
        });
        self.registry.visit_gauges(|key, gauge| {
            lines.add(key, json!(f64::from_bits(gauge.load(Ordering::Relaxed))));
        });
        self.registry.visit_histograms(|key, histogram| {
            let mut values: Vec<f64> = Vec::new();
            histogram.clear_with(|more| values.extend_from_slice(more));
            for values in values.chunks(VALUES) {
                lines.add(key, json!(values));
            }
        });
        lines.0.into_iter().map(|line| line.document(&self.namespace, timestamp_ms)).collect()
    }
}

/// As few lines as the format allows.
#[derive(Default)]
struct Lines(Vec<Line>);

#[derive(Default)]
struct Line {
    labels: BTreeMap<String, String>,
    values: BTreeMap<String, (Value, Vec<String>)>,
}

impl Lines {
    fn add(&mut self, key: &Key, value: Value) {
        let line = match self.0.iter().position(|line| line.has_room_for(key)) {
            Some(place) => &mut self.0[place],
            None => {
                self.0.push(Line::default());
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        let names = key.labels().map(|label| label.key().to_owned()).collect();
        line.labels.extend(key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())));
        line.values.insert(key.name().to_owned(), (value, names));
    }
}

impl Line {
    fn has_room_for(&self, key: &Key) -> bool {
        let agrees = |label: &metrics::Label| self.labels.get(label.key()).is_none_or(|value| value == label.value());
        self.values.len() < METRICS && !self.values.contains_key(key.name()) && key.labels().all(agrees)
    }

    fn document(self, namespace: &str, timestamp_ms: u64) -> Value {
        let mut document: Map<String, Value> = Map::new();
        let directive = |(name, (_, labels)): (&String, &(Value, Vec<String>))| {
            let dimensions = if labels.is_empty() { json!([[]]) } else { json!([[], labels]) };
            json!({ "Namespace": namespace, "Dimensions": dimensions, "Metrics": [{ "Name": name, "Unit": unit(name) }] })
        };
        let directives: Vec<Value> = self.values.iter().map(directive).collect();
        document.insert("_aws".to_owned(), json!({ "Timestamp": timestamp_ms, "CloudWatchMetrics": directives }));
        document.extend(self.labels.into_iter().map(|(name, value)| (name, Value::from(value))));
        document.extend(self.values.into_iter().map(|(name, (value, _))| (name, value)));
        Value::Object(document)
    }
}

/// CloudWatch's name of the unit, which ours end with.
fn unit(name: &str) -> &'static str {
    if name.ends_with("_seconds") { "Seconds" } else { "Count" }
}

#[expect(clippy::disallowed_methods, reason = "CloudWatch files a line by the clock of its host")]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Recorder for Embedded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.registry.get_or_create_counter(key, |counter| Counter::from_arc(Arc::clone(counter)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.registry.get_or_create_gauge(key, |gauge| Gauge::from_arc(Arc::clone(gauge)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.registry.get_or_create_histogram(key, |histogram| Histogram::from_arc(Arc::clone(histogram)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(count: impl FnOnce()) -> Vec<Value> {
        let embedded = Embedded { registry: Registry::atomic(), namespace: "Presence/test".to_owned() };
        metrics::with_local_recorder(&embedded, count);
        let lines = embedded.drain(1_704_110_400_000);
        assert_eq!(embedded.drain(0), [] as [Value; 0], "what was written is not written again");
        lines
    }

    #[test]
    fn an_invocation_is_one_line_in_the_format_of_cloudwatch() {
        let lines = recorded(|| {
            metrics::counter!("presence_http_requests_total", "route" => "/x", "status" => "2xx").increment(1);
            metrics::histogram!("presence_http_request_duration_seconds", "route" => "/x").record(0.25);
            metrics::histogram!("presence_events_publish_seconds").record(0.5);
        });
        assert_eq!(
            lines,
            [json!({
                "_aws": { "Timestamp": 1_704_110_400_000_u64, "CloudWatchMetrics": [
                    { "Namespace": "Presence/test", "Dimensions": [[]],
                      "Metrics": [{ "Name": "presence_events_publish_seconds", "Unit": "Seconds" }] },
                    { "Namespace": "Presence/test", "Dimensions": [[], ["route"]],
                      "Metrics": [{ "Name": "presence_http_request_duration_seconds", "Unit": "Seconds" }] },
                    { "Namespace": "Presence/test", "Dimensions": [[], ["route", "status"]],
                      "Metrics": [{ "Name": "presence_http_requests_total", "Unit": "Count" }] },
                ] },
                "route": "/x",
                "status": "2xx",
                "presence_http_requests_total": 1,
                "presence_http_request_duration_seconds": [0.25],
                "presence_events_publish_seconds": [0.5],
            })]
        );
    }

    #[test]
    fn labels_that_differ_take_lines_of_their_own() {
        let lines = recorded(|| {
            for operation in ["load", "commit"] {
                metrics::histogram!("presence_store_seconds", "operation" => operation).record(0.001);
            }
            metrics::counter!("presence_store_errors_total", "operation" => "commit", "kind" => "unavailable")
                .increment(2);
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        let commit = lines.iter().find(|line| line["operation"] == "commit").unwrap();
        assert_eq!(commit["presence_store_errors_total"], 2);
        assert!(lines.iter().all(|line| line["presence_store_seconds"] == json!([0.001])), "{lines:?}");
    }

    #[test]
    fn more_values_than_a_line_may_have_take_several() {
        let lines = recorded(|| {
            for _ in 0..250 {
                metrics::histogram!("presence_store_seconds", "operation" => "load").record(1.0);
            }
        });
        let sizes: Vec<usize> =
            lines.iter().map(|line| line["presence_store_seconds"].as_array().unwrap().len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }
}
