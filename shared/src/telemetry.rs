//! Logs: JSON for machines, plain text for a terminal. Always to standard error, so that standard output stays for
//! what a program is asked for.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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

/// Sends the logs of this process to standard error from now on. The first call counts; later ones change nothing and
/// say so.
pub fn init(format: LogFormat, filter: &LogFilter) -> bool {
    tracing::subscriber::set_global_default(subscriber(format, filter, io::stderr)).is_ok()
}

fn subscriber<W>(format: LogFormat, filter: &LogFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&filter.0)).with_writer(writer);
    if format == LogFormat::Json || (format == LogFormat::Auto && !terminal) {
        Box::new(builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish())
    } else {
        Box::new(builder.with_ansi(terminal).finish())
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
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = LogFilter::parse(filter).unwrap();
        tracing::subscriber::with_default(subscriber(format, &filter, move || writer.clone()), log);
        let bytes = lines.0.lock().unwrap().clone();
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
    fn a_filter_that_cannot_be_read_is_none() {
        assert_eq!(LogFilter::parse("presence=loud"), None);
        assert_eq!(LogFilter::parse("info,presence=debug"), Some(LogFilter("info,presence=debug".to_owned())));
    }

    #[test]
    fn a_second_start_changes_nothing() {
        init(LogFormat::Json, &LogFilter::default());
        assert!(!init(LogFormat::Text, &LogFilter::default()));
    }
}
