//! The bridge as `template.yaml` runs it, against what the program reads.

use std::collections::BTreeSet;

use presence::config::VARIABLES;
use presence_bridge::program;
use presence_functions::event::SUBSCRIPTIONS;
use serde_json::Value;

use crate::document::Document;

/// Those that all processes on one store must have the same, as far as the bridge uses them.
const SHARED_TIMES: [&str; 4] = ["HEARTBEAT_INTERVAL", "HEARTBEAT_TIMEOUT", "RESUME_GRACE", "LAST_SEEN_TTL"];

/// The longest that a shutdown of the bridge takes, in seconds, as the operators' guide says.
const LONGEST_SHUTDOWN: u64 = 50;

fn template() -> Document {
    Document::read("template.yaml")
}

fn container(template: &Document) -> &Value {
    &template.at("/Resources/BridgeTask/Properties/ContainerDefinitions")[0]
}

fn default_of(name: &str) -> &'static str {
    program::VARIABLES.iter().find(|variable| variable.name == name).unwrap().default
}

fn name_of(entry: &Value) -> Option<&str> {
    entry["Name"].as_str()
}

#[test]
fn the_bridge_has_variables_that_it_reads_and_the_times_that_all_must_share() {
    let template = template();
    let lists = ["Environment", "Secrets"].map(|list| container(&template)[list].as_array().unwrap());
    // What is there only sometimes stands in an `!If`.
    let name = |entry| name_of(entry).or_else(|| name_of(&entry[1])).unwrap_or_else(|| panic!("{entry}"));
    let set: BTreeSet<&str> = lists.into_iter().flatten().map(name).collect();
    let own = VARIABLES.iter().chain(&program::VARIABLES).map(|variable| variable.name);
    let read: BTreeSet<&str> = own.filter(|name| !name.starts_with("JWT_")).collect();
    // Those of AWS are read by its own library.
    let unknown = set.iter().filter(|name| !read.contains(*name) && !name.starts_with("AWS_"));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&&str>::new(), "nobody reads these");
    for name in ["REDIS_URL", "NATS_URL", "ADMIN_ADDR", "OTEL_EXPORTER_OTLP_ENDPOINT"].into_iter().chain(SHARED_TIMES) {
        assert!(set.contains(name), "{name} is missing");
    }
}

#[test]
fn the_bridge_calls_functions_by_their_names_and_waits_longer_for_them_than_they_may_take() {
    let template = template();
    let environment = container(&template)["Environment"].as_array().unwrap();
    let prefix =
        environment.iter().find(|entry| entry["Name"] == "FUNCTION_PREFIX").unwrap()["Value"].as_str().unwrap();
    let patience: u64 = default_of("INVOCATION_TIMEOUT").parse().unwrap();
    for subscription in SUBSCRIPTIONS {
        let name = format!("{prefix}{}", subscription.function);
        let mut resources = template.members("/Resources");
        let (_, function) = resources
            .find(|(_, resource)| resource["Properties"]["FunctionName"] == name.as_str())
            .unwrap_or_else(|| panic!("there is no function {name}"));
        let timeout = function["Properties"]["Timeout"].as_u64().unwrap();
        assert!(timeout < patience, "{name} may take {timeout} s and is given up after {patience} s");
    }
}

#[test]
fn the_bridge_is_given_the_time_that_its_shutdown_takes() {
    let template = template();
    assert!(container(&template)["StopTimeout"].as_u64().unwrap() > LONGEST_SHUTDOWN);
}
