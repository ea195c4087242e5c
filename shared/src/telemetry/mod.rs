//! Logs: JSON for machines, plain text for a terminal. Always to standard error, so that standard output stays for
//! what a program is asked for. And spans, for a collector, where one is configured.

mod spans;

use std::io::{self, IsTerminal};

use opentelemetry_sdk::trace::Tracer;
use tracing::Subscriber;
use tracing::dispatcher::{self, Dispatch};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use spans::{OtlpConfig, SPANS, SpansError, continue_trace, flush, flush_until, link_trace};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people; in colour on a terminal.
    Text,
}

/// Which log lines are wanted: directives as `info` or `info,presence=debug`, readable by type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// Sends the logs of this process to standard error from now on, and its spans to the collector, if there is one, as
/// those of `service`. The first call counts; later ones change nothing and say so.
pub fn init(
    format: LogFormat,
    filter: &LogFilter,
    collector: Option<&OtlpConfig>,
    service: &str,
) -> Result<bool, SpansError> {
    let tracer = collector.map(|collector| spans::tracer(collector, service)).transpose()?;
    Ok(dispatcher::set_global_default(dispatch(lines(format, filter, io::stderr), tracer)).is_ok())
}

/// Where logs and spans go. Without a collector its layer is left out and not just `None`, which would want every span:
/// each of them would be made and kept, for nobody.
fn dispatch(lines: Box<dyn Layer<Registry> + Send + Sync>, tracer: Option<Tracer>) -> Dispatch {
    let lines = Registry::default().with(lines);
    let Some(tracer) = tracer else { return Dispatch::new(lines) };
    let spans = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
    let spans = spans.with_tracked_inactivity(false).with_filter(filter_fn(|metadata| metadata.target() == SPANS));
    Dispatch::new(lines.with(spans))
}

/// The lines of the log.
fn lines<S, W>(format: LogFormat, filter: &LogFilter, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let terminal = io::stderr().is_terminal();
    let wanted = EnvFilter::new(&filter.0).and(filter_fn(|metadata| metadata.target() != SPANS));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    if format == LogFormat::Json || (format == LogFormat::Auto && !terminal) {
        layer.json().flatten_event(true).with_current_span(true).with_span_list(false).with_filter(wanted).boxed()
    } else {
        layer.with_ansi(terminal).with_filter(wanted).boxed()
    }
}

impl LogFormat {
    /// By its name in `LOG_FORMAT`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Some(LogFormat::Auto),
            "json" => Some(LogFormat::Json),
            "text" => Some(LogFormat::Text),
            _ => None,
        }
    }
}

impl LogFilter {
    /// As written in `RUST_LOG`.
    pub fn parse(text: &str) -> Option<Self> {
        EnvFilter::try_new(text).is_ok().then(|| Self(text.to_owned()))
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> Vec<String> {
        let written = Lines::default();
        let writer = written.clone();
        let filter = LogFilter::parse(filter).unwrap();
        dispatcher::with_default(&dispatch(lines(format, &filter, move || writer.clone()), None), log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_json_line_is_one_object_with_its_fields_at_the_top() {
        let lines = logged(LogFormat::Json, "info", || {
            let span = tracing::info_span!("request", request_id = "r-1");
            span.in_scope(|| tracing::warn!(count = 3, "line one\nline two"));
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "line one\nline two");
        assert_eq!(line["count"], 3);
        assert_eq!(line["span"]["request_id"], "r-1");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_text_line_is_no_json_and_keeps_control_characters_from_the_terminal() {
        let lines = logged(LogFormat::Text, "info", || tracing::info!("hello {}", "\u{1b}[31mred"));
        assert!(serde_json::from_str::<serde_json::Value>(&lines[0]).is_err());
        assert!(lines[0].contains("hello"), "{lines:?}");
        assert!(!lines[0].contains("\u{1b}[31mred"), "{lines:?}");
    }

    #[test]
    fn the_filter_chooses_by_level_and_target() {
        let log = || {
            tracing::debug!(target: "presence", "wanted");
            tracing::debug!(target: "elsewhere", "unwanted");
        };
        assert_eq!(logged(LogFormat::Json, "info,presence=debug", log).len(), 1);
        assert_eq!(logged(LogFormat::Json, "info", log).len(), 0);
    }

    #[test]
    fn without_a_collector_no_span_is_made_for_one() {
        let wanted = |span: &tracing::Span| {
            let metadata = span.metadata().unwrap();
            !dispatch(lines(LogFormat::Json, &LogFilter::default(), io::sink), None)
                .register_callsite(metadata)
                .is_never()
        };
        // A bare registry makes every span.
        dispatcher::with_default(&Dispatch::new(Registry::default()), || {
            assert!(!wanted(&tracing::info_span!(target: SPANS, "request")));
            assert!(wanted(&tracing::info_span!("request")), "and the log has its own");
        });
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_none() {
        assert_eq!(LogFilter::parse("presence=loud"), None);
        assert_eq!(LogFilter::parse("info,presence=debug"), Some(LogFilter("info,presence=debug".to_owned())));
    }

    #[test]
    fn a_second_start_changes_nothing() {
        let init = |format| init(format, &LogFilter::default(), None, "test").unwrap();
        init(LogFormat::Json);
        assert!(!init(LogFormat::Text));
    }
}
