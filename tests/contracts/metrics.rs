//! What is counted: the operators' guide, the dashboard and a running service tell of the same metrics, with the same
//! labels.

use std::collections::{BTreeMap, BTreeSet};

use presence::metrics::{Kind, METRICS, Metric};
use presence_functions::event::SUBSCRIPTIONS;
use presence_tests::{JetStream, Nats, Service, Store, User, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::document::text;
use crate::nats_permissions::{arrive, leave};

/// How long the service may take to notice that something is gone.
const LONG: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn the_operators_guide_explains_every_metric() {
    let guide = text("docs/OPERATIONS.md");
    let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| `presence_")).collect();
    let expected: Vec<String> = METRICS.iter().map(row).collect();
    assert_eq!(rows, expected, "the table is to read:\n{}", expected.join("\n"));
    let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for name in names_in(&guide) {
        assert!(names.contains(name.as_str()), "the guide speaks of {name}, which there is not");
    }
}

fn row(metric: &Metric) -> String {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.meaning)
}

/// The names of metrics in a text: whole words that begin with our prefix. Paths and names of other things have other
/// signs in them.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("presence_")).map(str::to_owned).collect()
}

/// The series of a histogram belong to it.
fn metric_of(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| match metric.kind {
        Kind::Histogram => {
            ["_bucket", "_sum", "_count"].iter().any(|end| series.strip_suffix(end) == Some(metric.name))
        }
        Kind::Counter | Kind::Gauge => series == metric.name,
    })
}

#[test]
fn the_dashboard_shows_every_metric_and_asks_for_no_other() {
    let dashboard: Value = serde_json::from_str(&text("docs/grafana/presence.json")).unwrap();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let series = names_in(query);
            assert!(!series.is_empty(), "{query}");
            for name in series {
                let metric = metric_of(&name).unwrap_or_else(|| panic!("nothing counts {name}: {query}"));
                for label in labels_in(query) {
                    let known = metric.labels.contains(&label.as_str()) || ["le", "instance"].contains(&label.as_str());
                    assert!(known, "{name} has no label {label}: {query}");
                }
                shown.insert(metric.name);
            }
        }
    }
    assert_eq!(shown, METRICS.iter().map(|metric| metric.name).collect());
}

/// The labels that a query groups or selects by.
fn labels_in(query: &str) -> BTreeSet<String> {
    let groups = query.split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split(','));
    let selectors = query.split('{').skip(1).flat_map(|rest| rest.split('}').next().unwrap().split(','));
    let selected = selectors.map(|selector| selector.split('=').next().unwrap());
    groups.chain(selected).map(|label| label.trim().to_owned()).collect()
}

/// What a process tells of itself: each series with the names of its labels.
async fn scraped(service: &Service) -> BTreeMap<String, BTreeSet<String>> {
    let text = service.get_openly("/metrics").await.text;
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = labels_in(line).into_iter().filter(|label| label != "le").collect();
        series.insert(name.to_owned(), labels);
    }
    series
}

/// Waits until a metric is told of.
async fn until_told(service: &Service, name: &str) {
    eventually(&format!("{name} to be told"), LONG, async || {
        let series = scraped(service).await;
        series.contains_key(name).then_some(()).ok_or_else(|| series.into_keys().collect::<Vec<_>>())
    })
    .await;
}

#[tokio::test]
async fn a_service_to_which_everything_happens_tells_every_metric_with_its_labels() {
    let (mut store, mut nats) = (Store::start_single().await, Nats::start(JetStream::On).await);
    let service = Service::builder().store(&store).nats(&nats).heartbeat_timeout(2);
    let service = service.env("REDIS_REPLICA_URL", store.url()).start().await;
    let user = User::new();
    service.update(&user, &json!({ "status": "online" })).await;
    let strangers: Vec<User> = (0..40).map(|_| User::new()).collect();
    service.presences(&strangers.iter().collect::<Vec<_>>()).await;
    service.post(&user, "/presence/typing", &json!({ "channel_id": Uuid::new_v4().to_string() })).await;
    leave(arrive(&service).await).await;
    for subscription in SUBSCRIPTIONS {
        nats.tell(subscription.subject, json!({ "user_id": User::new().id(), "session_id": "a" })).await;
    }
    nats.tell_raw("gateway.heartbeat.received", "not JSON").await;
    // A connection breaks and comes back.
    let back = json!({ "user_id": user.id(), "session_id": "a" });
    let broken = json!({ "user_id": user.id(), "session_id": "a", "close_code": 1006 });
    eventually("a flap that nobody sees", LONG, async || {
        nats.tell("gateway.connection.opened", back.clone()).await;
        nats.tell("gateway.connection.closed", broken.clone()).await;
        let series = scraped(&service).await;
        series.contains_key("presence_flaps_suppressed_total").then_some(()).ok_or(())
    })
    .await;
    for name in ["presence_sweep_lag_seconds_count", "presence_dead_letters_total", "presence_gateway_closed_total"] {
        until_told(&service, name).await;
    }
    nats.kill();
    service.update(&User::new(), &json!({ "status": "dnd" })).await;
    until_told(&service, "presence_events_failed_total").await;
    store.kill();
    until_told(&service, "presence_store_errors_total").await;

    let series = scraped(&service).await;
    let mut told = BTreeSet::new();
    for (name, labels) in series.iter().filter(|(name, _)| name.starts_with("presence_")) {
        let metric = metric_of(name).unwrap_or_else(|| panic!("{name} is not documented"));
        let documented: BTreeSet<String> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(labels, &documented, "{name}");
        told.insert(metric.name);
    }
    let documented: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let missing: Vec<&&str> = documented.difference(&told).collect();
    assert!(missing.is_empty(), "{missing:?} are documented, and nothing tells of them");
}
