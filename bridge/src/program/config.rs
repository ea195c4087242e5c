//! The variables of the bridge beside those that it shares with the service.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use presence::config::{Config, Variable};
use presence::events::inputs;

use crate::lambda::Names;
use crate::{Consumers, EventSourceMapping, OnFailure, Options};

/// Every variable of the bridge's own, in the order in which they are best explained. Those from `BATCH_SIZE` on hold for
/// every function, and for one function with its name before them, as `HEARTBEAT_RECEIVED_BATCH_SIZE`.
pub const VARIABLES: [Variable; 11] = [
    open("FUNCTION_PREFIX", "", "What stands before the names of the functions, as `presence-`"),
    open("FUNCTION_SUFFIX", "", "What stands after the names of the functions, as `:live`"),
    open("CREATE_STREAMS", "on", "`off` if streams and consumers are made by an operator; what is missing is told"),
    open("BATCH_SIZE", "100", "The most messages that a function gets at once, 1 to 10000"),
    open("MAXIMUM_BATCHING_WINDOW_IN_SECONDS", "0", "Seconds to wait for a batch to fill up, 0 to 300"),
    open("MAXIMUM_CONCURRENCY", "5", "Batches of a function that are under way at once, 1 to 1000"),
    open("BISECT_BATCH_ON_FUNCTION_ERROR", "on", "`off` to offer a batch that failed again as it was"),
    open(
        "MAXIMUM_RETRY_ATTEMPTS",
        "20",
        "How often a record is offered again after it failed, 0 to 10000; -1 is for ever",
    ),
    open(
        "MAXIMUM_RECORD_AGE_IN_SECONDS",
        "-1",
        "Older records are not offered, 60 to 604800; -1 is any age. Never for the ends of connections and voice sessions",
    ),
    open("ON_FAILURE", "dead-letter", "What becomes of hopeless and old records: `dead-letter` or `discard`"),
    open("INVOCATION_TIMEOUT", "35", "Seconds that a function may take, 1 to 905; longer than its own time limit"),
];

const fn open(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, secret: false }
}

/// The functions, and the subject of each. The names are those of the functions' own crate.
const FUNCTIONS: [(&str, &str); 5] = [
    ("connection-opened", inputs::CONNECTION_OPENED),
    ("connection-closed", inputs::CONNECTION_CLOSED),
    ("heartbeat-received", inputs::HEARTBEAT_RECEIVED),
    ("voice-session-created", inputs::VOICE_SESSION_CREATED),
    ("voice-session-ended", inputs::VOICE_SESSION_ENDED),
];

/// An end does not wear off: a user whose connection closed an hour ago is still gone.
const WITHOUT_AGE: [&str; 2] = [inputs::CONNECTION_CLOSED, inputs::VOICE_SESSION_ENDED];

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub(super) struct BridgeConfig {
    pub(super) shared: Config,
    pub(super) names: Names,
    pub(super) consumers: Consumers,
    pub(super) mappings: Vec<EventSourceMapping>,
    /// The longest of all functions.
    pub(super) invocation_timeout: Duration,
}

/// Everything that is wrong with a configuration, a line a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong(Vec<String>);

impl BridgeConfig {
    /// From the environment of this process.
    pub(super) fn from_env() -> Result<Self, Wrong> {
        #[expect(clippy::disallowed_methods, reason = "this is where the bridge's own variables are read")]
        let lookup = |name: &str| std::env::var(name).ok();
        Self::read(
            Config::from_env_without_tokens().map_err(|errors| errors.iter().map(ToString::to_string).collect()),
            &lookup,
        )
    }

    fn read(shared: Result<Config, Vec<String>>, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Wrong> {
        let mut reader = Reader { lookup, wrong: Vec::new() };
        let names = Names { prefix: reader.text("FUNCTION_PREFIX"), suffix: reader.text("FUNCTION_SUFFIX") };
        let makes = reader.switch("CREATE_STREAMS", "");
        let consumers = if makes { Consumers::Ensure } else { Consumers::Expect };
        let mappings: Vec<EventSourceMapping> =
            FUNCTIONS.iter().map(|(function, subject)| reader.mapping(function, subject)).collect();
        let own = reader.wrong;
        match shared {
            Ok(shared) => {
                let missing = [
                    ("NATS_URL", shared.nats_url.is_none(), "is not set; the bridge takes its messages from there"),
                    ("REDIS_URL", shared.redis_url.is_none(), "is not set; the bridge sweeps what the functions keep"),
                ];
                let missing = missing.into_iter().filter(|(_, is_missing, _)| *is_missing);
                let wrong: Vec<String> = missing.map(|(name, _, why)| format!("{name} {why}")).chain(own).collect();
                if !wrong.is_empty() {
                    return Err(Wrong(wrong));
                }
                let timeouts = mappings.iter().map(|mapping| mapping.options.invocation_timeout);
                let invocation_timeout = timeouts.max().unwrap_or_default();
                Ok(Self { shared, names, consumers, mappings, invocation_timeout })
            }
            Err(wrong) => Err(Wrong(wrong.into_iter().chain(own).collect())),
        }
    }
}

/// One pass over the variables. A value that is wrong is remembered, and reads as the default.
struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    wrong: Vec<String>,
}

impl Reader<'_> {
    fn mapping(&mut self, function: &str, subject: &str) -> EventSourceMapping {
        let own = format!("{}_", function.to_ascii_uppercase().replace('-', "_"));
        let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        let age = self.number("MAXIMUM_RECORD_AGE_IN_SECONDS", &own, "-1, or 60 to 604800", |age| {
            age == -1 || (60..=604_800).contains(&age)
        });
        let attempts =
            self.number("MAXIMUM_RETRY_ATTEMPTS", &own, "-1, or 0 to 10000", |most| (-1..=10_000).contains(&most));
        let options = Options {
            batch_size: self.count("BATCH_SIZE", &own, "1 to 10000", 1..=10_000),
            maximum_batching_window: seconds(self.number(
                "MAXIMUM_BATCHING_WINDOW_IN_SECONDS",
                &own,
                "0 to 300",
                |window| (0..=300).contains(&window),
            )),
            maximum_concurrency: self.count("MAXIMUM_CONCURRENCY", &own, "1 to 1000", 1..=1000),
            bisect_batch_on_function_error: self.switch("BISECT_BATCH_ON_FUNCTION_ERROR", &own),
            maximum_retry_attempts: u32::try_from(attempts).ok(),
            maximum_record_age: (age > 0 && !WITHOUT_AGE.contains(&subject)).then(|| seconds(age)),
            on_failure: self.on_failure(&own),
            invocation_timeout: seconds(
                self.number("INVOCATION_TIMEOUT", &own, "1 to 905", |timeout| (1..=905).contains(&timeout)),
            ),
            ..Options::default()
        };
        EventSourceMapping { subject: subject.to_owned(), function: function.to_owned(), options }
    }

    /// The value as it is; empty where there is none and no default.
    fn text(&mut self, name: &str) -> String {
        (self.lookup)(name).map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    fn switch(&mut self, name: &'static str, own: &str) -> bool {
        self.parse(name, own, "`on` or `off`", |text| match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" => Some(true),
            "off" | "false" | "0" => Some(false),
            _ => None,
        })
        .unwrap_or_default()
    }

    fn on_failure(&mut self, own: &str) -> OnFailure {
        let word = |text: &str| match text {
            "dead-letter" => Some(OnFailure::DeadLetter),
            "discard" => Some(OnFailure::Discard),
            _ => None,
        };
        self.parse("ON_FAILURE", own, "`dead-letter` or `discard`", word).unwrap_or(OnFailure::DeadLetter)
    }

    fn count(&mut self, name: &'static str, own: &str, allowed: &str, range: std::ops::RangeInclusive<i64>) -> usize {
        usize::try_from(self.number(name, own, allowed, |number| range.contains(&number))).unwrap_or(1)
    }

    fn number(&mut self, name: &'static str, own: &str, allowed: &str, is_allowed: impl Fn(i64) -> bool) -> i64 {
        let number = |text: &str| i64::from_str(text).ok().filter(|number| is_allowed(*number));
        self.parse(name, own, allowed, number).unwrap_or_default()
    }

    /// The value for one function, else for all, else the default.
    fn parse<T>(
        &mut self,
        name: &'static str,
        own: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let set = |name: &str| (self.lookup)(name).filter(|text| !text.trim().is_empty());
        let specific = format!("{own}{name}");
        let (found, text) = match (set(&specific), set(name)) {
            (Some(text), _) => (specific.as_str(), text),
            (None, Some(text)) => (name, text),
            (None, None) => {
                let default = VARIABLES.iter().find(|variable| variable.name == name)?.default;
                return parse(default);
            }
        };
        let value = parse(text.trim());
        if value.is_none() {
            let short: String = text.chars().take(40).collect();
            let problem = format!("{found} is {short:?}; allowed is {allowed}");
            // The same for each function, unless it is one function's own.
            if !self.wrong.contains(&problem) {
                self.wrong.push(problem);
            }
        }
        value
    }
}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration can't be used:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Wrong {}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<BridgeConfig, Wrong> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let lookup = |name: &str| variables.get(name).cloned();
        let shared = Config::from_lookup(lookup).map_err(|wrong| wrong.iter().map(ToString::to_string).collect());
        BridgeConfig::read(shared, &lookup)
    }

    const SERVERS: [(&str, &str); 2] = [("NATS_URL", "nats://h"), ("REDIS_URL", "redis://h")];

    fn with(more: &[(&str, &str)]) -> Result<BridgeConfig, Wrong> {
        read(&[&SERVERS, more].concat())
    }

    fn options(config: &BridgeConfig, function: &str) -> Options {
        config.mappings.iter().find(|mapping| mapping.function == function).unwrap().options
    }

    #[test]
    fn the_defaults_are_those_of_the_options() {
        let config = with(&[]).unwrap();
        assert_eq!(config.mappings.len(), 5);
        assert!(config.mappings.iter().all(|mapping| mapping.options == Options::default()));
        assert_eq!((config.names.prefix.as_str(), config.consumers), ("", Consumers::Ensure));
    }

    #[test]
    fn an_option_holds_for_all_functions_and_another_for_one() {
        let config = with(&[
            ("BATCH_SIZE", "7"),
            ("HEARTBEAT_RECEIVED_BATCH_SIZE", "900"),
            ("MAXIMUM_RETRY_ATTEMPTS", "-1"),
            ("MAXIMUM_RECORD_AGE_IN_SECONDS", "60"),
            ("HEARTBEAT_RECEIVED_ON_FAILURE", "discard"),
            ("CREATE_STREAMS", "off"),
            ("FUNCTION_PREFIX", "presence-"),
        ])
        .unwrap();
        let (opened, heartbeat) = (options(&config, "connection-opened"), options(&config, "heartbeat-received"));
        assert_eq!((opened.batch_size, heartbeat.batch_size), (7, 900));
        assert_eq!((opened.on_failure, heartbeat.on_failure), (OnFailure::DeadLetter, OnFailure::Discard));
        assert_eq!(opened.maximum_retry_attempts, None);
        assert_eq!(heartbeat.maximum_record_age, Some(Duration::from_secs(60)));
        for end in ["connection-closed", "voice-session-ended"] {
            assert_eq!(options(&config, end).maximum_record_age, None, "{end}");
        }
        assert_eq!((config.names.prefix.as_str(), config.consumers), ("presence-", Consumers::Expect));
    }

    #[test]
    fn all_that_is_wrong_is_told_together_with_what_the_service_would_say() {
        let wrong = read(&[("PORT", "x"), ("BATCH_SIZE", "0"), ("HEARTBEAT_RECEIVED_ON_FAILURE", "cry")]).unwrap_err();
        let text = wrong.to_string();
        for words in
            ["PORT is", r#"BATCH_SIZE is "0"; allowed is 1 to 10000"#, r#"HEARTBEAT_RECEIVED_ON_FAILURE is "cry""#]
        {
            assert_eq!(text.matches(words).count(), 1, "{words} in {text}");
        }
        let missing = read(&[]).unwrap_err().to_string();
        assert!(missing.contains("NATS_URL is not set") && missing.contains("REDIS_URL is not set"), "{missing}");
    }
}
