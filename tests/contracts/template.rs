//! `template.yaml` against the code: the same functions, routes, schedule, variables and time limits. What these linters
//! see is not looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use presence::config::VARIABLES;
use presence::metrics::METRICS;
use presence_functions::app::Limits;
use presence_functions::event::SUBSCRIPTIONS;
use presence_functions::http::{ENDPOINTS, bulk_get_presence, get_presence, get_typing, start_typing, update_status};
use presence_tests::documented_acl;
use serde_json::{Value, json};

use crate::document::{Document, root, text};

/// The functions of the HTTP API, each with the path that it owns.
const HTTP_FUNCTIONS: [(&str, &str); 5] = [
    ("update-status", update_status::PATH),
    ("get-presence", get_presence::PATH),
    ("bulk-get-presence", bulk_get_presence::PATH),
    ("start-typing", start_typing::PATH),
    ("get-typing", get_typing::PATH),
];

/// The function that answers for every path that nobody owns.
const ELSEWHERE: &str = "get-presence";

const SWEEPER: &str = "sweep-timeouts";

/// Variables that a function has no use for: it listens nowhere, its host sheds its load, and development tokens are for
/// development.
const NOT_FOR_FUNCTIONS: [&str; 9] = [
    "HOST",
    "PORT",
    "ADMIN_ADDR",
    "ADMIN_EXPLAIN",
    "GATEWAY",
    "MAX_CONNECTIONS",
    "MAX_IN_FLIGHT",
    "MAX_QUEUE_TIME",
    "JWT_DEVELOPMENT_TOKENS",
];

/// Functions that only read: they have nothing to tell, and may change nothing.
const READERS: [&str; 3] = ["get-presence", "bulk-get-presence", "get-typing"];

/// The one of them that reads many users, and so may read a replica.
const READS_MANY: &str = "bulk-get-presence";

/// What only needs to be known where tokens are taken.
const FOR_HTTP: [&str; 6] =
    ["JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL", "JWT_ISSUER", "JWT_AUDIENCE", "CORS_ORIGINS"];

struct Template(Document);

impl Template {
    fn read() -> Self {
        Self(Document::read("template.yaml"))
    }

    /// The properties of every resource of a type, by the resource's name.
    fn of_type(&self, kind: &str) -> BTreeMap<&str, &Value> {
        let resources = self.0.members("/Resources").filter(|(_, resource)| resource["Type"] == kind);
        resources.map(|(name, resource)| (name, &resource["Properties"])).collect()
    }

    /// The functions by the name that follows the stack's.
    fn functions(&self) -> BTreeMap<String, &Value> {
        let functions = self.of_type("AWS::Serverless::Function").into_iter().map(|(name, properties)| {
            let full = properties["FunctionName"].as_str().unwrap();
            let own = full.strip_prefix("${AWS::StackName}-").unwrap_or_else(|| panic!("{full}"));
            assert_eq!(name, pascal_case(own));
            (own.to_owned(), properties)
        });
        functions.collect()
    }

    fn variables(&self, function: &Value) -> BTreeSet<String> {
        let global = self.0.at("/Globals/Function/Environment/Variables").as_object().unwrap();
        let own = function["Environment"]["Variables"].as_object();
        global.keys().chain(own.into_iter().flat_map(|own| own.keys())).cloned().collect()
    }
}

fn pascal_case(name: &str) -> String {
    name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// Every function of the code.
fn functions() -> BTreeSet<String> {
    let http = HTTP_FUNCTIONS.iter().map(|(name, _)| *name);
    http.chain(SUBSCRIPTIONS.map(|subscription| subscription.function)).chain([SWEEPER]).map(str::to_owned).collect()
}

#[test]
fn the_functions_are_those_of_the_code() {
    let template = Template::read();
    let in_template = template.functions();
    assert_eq!(in_template.keys().cloned().collect::<BTreeSet<_>>(), functions());
    assert_eq!(functions().len(), 11);
    for (name, function) in in_template {
        assert_eq!(function["CodeUri"], format!("target/functions/arm64/{name}.zip"));
    }
}

#[test]
fn every_binary_is_a_function_and_has_the_routes_that_its_name_says() {
    let binaries = fs::read_dir(root().join("functions/src/bin")).unwrap();
    let binaries: BTreeSet<String> =
        binaries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(binaries, functions());
    for (name, _) in HTTP_FUNCTIONS {
        let main = text(&format!("functions/src/bin/{name}.rs"));
        assert!(main.contains(&format!("{}::routes", name.replace('-', "_"))), "{main}");
    }
    assert_eq!(
        HTTP_FUNCTIONS.map(|(_, path)| path).into_iter().collect::<BTreeSet<_>>(),
        ENDPOINTS.map(|(path, _)| path).into()
    );
}

#[test]
fn the_cloud_and_the_local_emulator_send_the_same_paths_to_the_same_functions() {
    let template = Template::read();
    let mut cloud = BTreeMap::new();
    for (name, function) in template.functions() {
        let events = function["Events"].as_object().into_iter().flat_map(|events| events.values());
        for event in events.filter(|event| event["Type"] == "HttpApi") {
            let event = event["Properties"].as_object().unwrap();
            assert_eq!(event["ApiId"], "Api");
            let path = event.get("Path").map(|path| path.as_str().unwrap());
            assert_eq!(event.get("Method").cloned(), path.map(|_| "ANY".into()), "{name}: functions answer 405");
            let taken = cloud.insert(path.unwrap_or("/{*path}").to_owned(), name.clone());
            assert_eq!(taken, None, "{path:?} has two functions");
        }
    }
    let owned = HTTP_FUNCTIONS.iter().map(|(name, path)| ((*path).to_owned(), (*name).to_owned()));
    let expected: BTreeMap<_, _> = owned.chain([("/{*path}".to_owned(), ELSEWHERE.to_owned())]).collect();
    assert_eq!(cloud, expected);
    assert_eq!(emulator_routes(), expected);
    assert_eq!(template.of_type("AWS::Serverless::HttpApi")["Api"]["StageName"], "$default", "others become paths");
}

/// The router table of the local emulator in the root manifest.
fn emulator_routes() -> BTreeMap<String, String> {
    let manifest = text("Cargo.toml");
    let (_, table) = manifest.split_once("[workspace.metadata.lambda.watch.router]\n").unwrap();
    let lines = table.lines().take_while(|line| !line.is_empty());
    let entry = |line: &str| {
        let (path, function) = line.split_once(" = ").unwrap();
        (path.trim_matches('"').to_owned(), function.trim_matches('"').to_owned())
    };
    lines.map(entry).collect()
}

#[test]
fn the_sweeper_runs_each_minute_and_a_tick_is_never_made_up_for() {
    let template = Template::read();
    for (name, function) in template.functions() {
        let events = function["Events"].as_object().into_iter().flat_map(|events| events.values());
        let schedules: Vec<&Value> = events.filter(|event| event["Type"] != "HttpApi").collect();
        if name != SWEEPER {
            assert!(schedules.is_empty(), "{name} has {schedules:?}");
            continue;
        }
        let [schedule] = schedules.as_slice() else { panic!("{schedules:?}") };
        assert_eq!(schedule["Type"], "ScheduleV2");
        // The linters take `rate(1 minutes)` too, which the scheduler refuses.
        assert_eq!(schedule["Properties"]["ScheduleExpression"], "rate(1 minute)");
        let input = schedule["Properties"]["Input"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(input).is_ok_and(|input| input.is_object()), "{input}");
        let never = json!({ "MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0 });
        assert_eq!(schedule["Properties"]["RetryPolicy"], never);
        assert_eq!(function["EventInvokeConfig"], never);
    }
}

#[test]
fn a_function_has_longer_than_the_code_takes() {
    let requests = Limits::default().request_time.as_secs();
    for (name, function) in Template::read().functions() {
        let timeout = function["Timeout"].as_u64().unwrap();
        if HTTP_FUNCTIONS.iter().any(|(http, _)| *http == name) {
            // The HTTP API itself gives up after 30 s.
            assert!(timeout > requests && timeout < 30, "{name}: {timeout} s");
        } else {
            assert!((30..=59).contains(&timeout), "{name}: {timeout} s");
        }
    }
}

#[test]
fn functions_have_the_variables_that_they_read_and_no_others() {
    let template = Template::read();
    for (name, function) in template.functions() {
        let is_http = HTTP_FUNCTIONS.iter().any(|(http, _)| *http == name);
        let names = VARIABLES.iter().map(|variable| variable.name);
        let read = names
            .filter(|name| !NOT_FOR_FUNCTIONS.contains(name) && (is_http || !FOR_HTTP.contains(name)))
            .filter(|variable| *variable != "NATS_URL" || !READERS.contains(&name.as_str()))
            .filter(|variable| *variable != "REDIS_REPLICA_URL" || name == READS_MANY);
        assert_eq!(template.variables(function), read.map(str::to_owned).collect(), "{name}");
    }
}

#[test]
fn functions_that_only_read_come_to_the_store_as_a_reader() {
    let template = Template::read();
    let own_url = |function: &Value| function["Environment"]["Variables"]["REDIS_URL"].to_string();
    let readers = template.functions().into_iter().filter(|(_, function)| own_url(function).contains("StoreReaderUrl"));
    let readers: BTreeSet<String> = readers.map(|(name, _)| name).collect();
    assert_eq!(readers, READERS.map(str::to_owned).into());
    for name in READERS {
        let main = text(&format!("functions/src/bin/{name}.rs"));
        assert!(main.contains("entry::http_reads("), "{name} connects to what it may not reach");
    }
}

#[test]
fn the_users_of_the_store_may_do_what_is_documented() {
    let template = Template::read();
    let users = template.of_type("AWS::ElastiCache::User");
    let security = text("SECURITY.md");
    assert_eq!(users.len(), 2);
    for user in users.into_values() {
        let name = user["UserName"].as_str().unwrap();
        let allowed =
            |words: Vec<String>| words.into_iter().filter(|word| "+%~".contains(&word[..1])).collect::<BTreeSet<_>>();
        let words = user["AccessString"].as_str().unwrap().split_whitespace().map(str::to_owned).collect();
        let (in_template, documented) = (allowed(words), allowed(documented_acl(name, "any")));
        assert!(in_template.is_superset(&documented), "{name}: {:?}", documented.difference(&in_template));
        // What only some configurations need is documented beside the blocks.
        for more in in_template.difference(&documented) {
            assert!(name == "presence" && security.contains(&format!("`{more}`")), "{name} may {more}");
        }
    }
}

#[test]
fn parameters_have_the_defaults_of_the_code() {
    let template = Template::read();
    let mut compared = 0;
    for variable in VARIABLES {
        let parameter = pascal_case(&variable.name.to_lowercase().replace('_', "-"));
        let Some(parameter) = template.0.at("/Parameters").get(&parameter) else { continue };
        let default = match &parameter["Default"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(default, variable.default, "{}", variable.name);
        compared += 1;
    }
    assert!(compared >= 12, "only {compared} parameters are named after their variable");
}

#[test]
fn alarms_look_for_what_the_code_logs() {
    let sources = [text("shared/src/events/nats/dead_letters.rs"), text("shared/src/sweeper.rs")].concat();
    let template = Template::read();
    let filters = template.of_type("AWS::Logs::MetricFilter");
    assert_eq!(filters.len(), 4);
    for (name, filter) in filters {
        let pattern = filter["FilterPattern"].as_str().unwrap();
        let message = pattern.strip_prefix("{ $.message = ").and_then(|rest| rest.strip_suffix(" }"));
        let message = message.unwrap_or_else(|| panic!("{pattern}"));
        assert!(sources.contains(message), "{name}: nothing logs {message}");
    }
}

#[test]
fn alarms_look_at_metrics_that_there_are() {
    let template = Template::read();
    let filters = template.of_type("AWS::Logs::MetricFilter");
    let filtered = filters.values().map(|filter| filter["MetricTransformations"][0]["MetricName"].as_str().unwrap());
    let known: BTreeSet<&str> = filtered.chain(METRICS.iter().map(|metric| metric.name)).collect();
    let mut ours = 0;
    for (name, alarm) in template.of_type("AWS::CloudWatch::Alarm") {
        if alarm["Namespace"] == "Presence/${AWS::StackName}" {
            let metric = alarm["MetricName"].as_str().unwrap();
            assert!(known.contains(metric), "{name}: nothing tells {metric}");
            ours += 1;
        }
    }
    assert!(ours >= 4, "only {ours}");
    let namespace = template.0.at("/Globals/Function/Environment/Variables/METRICS_NAMESPACE");
    assert_eq!(namespace, "Presence/${AWS::StackName}");
}

#[test]
fn every_alarm_is_in_the_operators_guide() {
    let guide = text("docs/OPERATIONS.md");
    let template = Template::read();
    let alarms = template.of_type("AWS::CloudWatch::Alarm");
    for name in alarms.keys() {
        assert!(guide.contains(&format!("### {name}")), "{name} is not explained");
    }
    let explained = guide.lines().filter(|line| line.starts_with("### ") && line.ends_with("Alarm")).count();
    assert_eq!(explained, alarms.len(), "an alarm is explained that is not there");
}
