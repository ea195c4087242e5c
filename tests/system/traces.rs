//! One trace from a request to the events that it causes, and from a message to what follows from it; and the spans that a
//! collector is told.

use presence_tests::{Collector, Emulator, Event, JetStream, Nats, Service, Span, Store, User, eventually, seen};
use serde_json::{Value, json};

use crate::world::SOON;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn w3c() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

/// The same trace, as AWS tells it.
fn xray() -> String {
    format!("Root=1-{}-{};Parent={PARENT};Sampled=1", &TRACE[..8], &TRACE[8..])
}

struct World {
    // Dropped in this order.
    service: Service,
    collector: Collector,
    nats: Nats,
    _store: Store,
}

impl World {
    async fn start() -> Self {
        let (store, nats, collector) =
            (Store::start().await, Nats::start(JetStream::On).await, Collector::start().await);
        let service = Service::builder()
            .store(&store)
            .nats(&nats)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=open%20sesame")
            .env("RUST_LOG", "info,presence=debug")
            .start()
            .await;
        Self { service, collector, nats, _store: store }
    }
}

fn traceparent(event: &Event) -> (String, String) {
    let parts: Vec<&str> = event.header("traceparent").unwrap().split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned())
}

async fn update(service: &Service, user: &User, headers: &[(&str, &str)]) -> presence_tests::Answer {
    let answer = service.post_with(user, "/presence/status", r#"{"status":"online"}"#, headers).await;
    answer.ok();
    answer
}

#[tokio::test]
async fn an_update_is_one_trace_from_the_request_to_the_event() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    for (header, value) in [("traceparent", w3c()), ("x-amzn-trace-id", xray())] {
        let user = User::new();
        let answer = update(&world.service, &user, &[(header, value.as_str())]).await;
        assert_eq!(answer.header("x-request-id"), Some(TRACE), "a request without an id is called by its trace");
        let event = events.next_of(&user).await;
        let (trace, parent) = traceparent(&event);
        assert_eq!(trace, TRACE, "{header}");

        let is_request = |span: &Span| span.name == "POST /presence/status" && span.span_id == parent;
        let request = world.collector.span("the request", is_request).await;
        assert_eq!((request.trace_id.as_str(), request.parent_id.as_str()), (TRACE, PARENT));
        assert_eq!(request.service, "presence-service");
        assert_eq!(request.attribute("http.response.status_code"), Some("200"));
        for step in ["load", "commit", "publish", "finish"] {
            let is_step = |span: &Span| span.name == step && span.parent_id == request.span_id;
            assert_eq!(world.collector.span(step, is_step).await.trace_id, TRACE);
        }
    }
    assert!(world.collector.headers().contains(&"x-api-key: open sesame".to_owned()));
    assert!(!world.service.log().contains("sesame"), "a secret is in the log");
}

#[tokio::test]
async fn a_callers_own_id_stands_beside_the_trace_and_goes_no_further() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let user = User::new();
    let answer = update(&world.service, &user, &[("x-request-id", "order-17"), ("traceparent", &w3c())]).await;
    assert_eq!(answer.header("x-request-id"), Some("order-17"));
    let event = events.next_of(&user).await;
    assert_eq!(traceparent(&event).0, TRACE);
    assert!(!format!("{event:?}").contains("order-17"), "{event:?}");
    let request = world.collector.span("the request", |span| span.attribute("request_id") == Some("order-17")).await;
    assert_eq!(request.trace_id, TRACE);
}

#[tokio::test]
async fn a_message_is_tied_to_its_batch_and_its_trace_goes_on() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let client = world.nats.connect().await;
    for (header, value) in [("traceparent", w3c()), ("X-Amzn-Trace-Id", xray())] {
        let user = User::new();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(header, value.as_str());
        let opened = json!({ "user_id": user.id(), "session_id": "a" }).to_string();
        client.publish_with_headers("gateway.connection.opened", headers, opened.into()).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(traceparent(&events.next_of(&user).await), (TRACE.to_owned(), PARENT.to_owned()), "{header}");
    }
    let is_batch = |span: &Span| span.name == "connection-opened" && span.links.contains(&TRACE.to_owned());
    let batch = world.collector.span("the batch", is_batch).await;
    assert_ne!(batch.trace_id, TRACE, "a batch has messages of many traces");
}

#[tokio::test]
async fn silence_is_a_trace_of_the_sweep_and_looking_for_it_is_none() {
    let (store, nats, collector) = (Store::start().await, Nats::start(JetStream::On).await, Collector::start().await);
    let service = Service::builder().store(&store).nats(&nats).heartbeat_timeout(2);
    let service = service.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()).start().await;
    let mut events = nats.events().await;
    let user = User::new();
    service.update(&user, &json!({ "status": "online" })).await;
    assert_eq!(events.next_of(&user).await.data()["status"], "online");
    let silence = events.next_of(&user).await;
    assert_eq!(silence.data()["status"], "offline");
    let (trace, parent) = traceparent(&silence);
    let sweep = collector.span("the sweep", |span| span.name == "sweep" && span.span_id == parent).await;
    assert_eq!((sweep.trace_id, sweep.parent_id), (trace, String::new()));
    let spans = collector.spans();
    let unasked: Vec<&Span> = spans.iter().filter(|span| span.parent_id.is_empty() && span.name == "due").collect();
    assert!(unasked.is_empty(), "{unasked:?}");
}

#[tokio::test]
async fn an_unsampled_trace_goes_on_unsampled_and_is_not_told() {
    let world = World::start().await;
    let mut events = world.nats.events().await;
    let (silent, told) = (User::new(), User::new());
    let unsampled = format!("00-{}-{PARENT}-00", "1".repeat(32));
    update(&world.service, &silent, &[("traceparent", &unsampled)]).await;
    assert!(events.next_of(&silent).await.header("traceparent").unwrap().ends_with("-00"));
    update(&world.service, &told, &[("traceparent", &w3c())]).await;
    world.collector.span("the later request", |span| span.trace_id == TRACE).await;
    assert!(world.collector.spans().iter().all(|span| span.trace_id != "1".repeat(32)));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let service = Service::builder()
        .store(&store)
        .nats(&nats)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", presence_tests::free_port()))
        .start()
        .await;
    let user = User::new();
    service.update(&user, &json!({ "status": "online" })).await;
    eventually("the loss to be told", SOON, async || {
        let log = service.log();
        seen(log.contains("spans were dropped"), log)
    })
    .await;
    assert_eq!(service.presence(&user).await["status"], "online");
}

/// What functions write to the log for CloudWatch: the lines of the emulator that are in its metric format.
fn embedded_metrics(log: &str) -> Vec<Value> {
    let objects = log.lines().filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok());
    objects.filter(|line| line["_aws"].is_object()).collect()
}

#[tokio::test]
async fn functions_tell_their_spans_and_their_metrics_before_they_are_frozen() {
    let (store, nats, collector) = (Store::start().await, Nats::start(JetStream::On).await, Collector::start().await);
    // It makes the streams.
    let _service = Service::start(&store, &nats).await;
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()), ("METRICS_NAMESPACE", "Presence/test".to_owned())];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let emulator = Emulator::start_with(&store, &nats, &variables).await;
    let user = User::new();
    let body = r#"{"status":"online"}"#;
    emulator.post_with(&user, "/presence/status", body, &[("traceparent", &w3c())]).await.ok();

    // Both are told before the answer, so nothing has to be waited for but the emulator's own log.
    let spans = collector.spans();
    let request = spans.iter().find(|span| span.name == "POST /presence/status").expect("the span of the request");
    assert_eq!((request.trace_id.as_str(), request.service.as_str()), (TRACE, "update-status"));
    let line = eventually("the metrics in the log", SOON, async || {
        let lines = embedded_metrics(&emulator.log());
        lines.iter().find(|line| line["presence_http_requests_total"] == 1).cloned().ok_or(lines)
    })
    .await;
    assert_eq!(line["route"], "/presence/status");
    let directives = line["_aws"]["CloudWatchMetrics"].as_array().unwrap();
    assert!(directives.iter().all(|directive| directive["Namespace"] == "Presence/test"), "{line}");
    let told: Vec<Value> = embedded_metrics(&emulator.log());
    let transition = told.iter().find(|line| line["presence_transitions_total"] == 1).expect("the transition");
    assert_eq!((&transition["to"], &transition["reason"]), (&json!("online"), &json!("status_update")));
    emulator.stop().await;
}
