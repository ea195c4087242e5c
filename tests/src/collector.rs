//! A collector of OpenTelemetry, as far as a test needs one: it takes spans over OTLP and keeps them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::eventually;

/// How long spans may take that have to come: they are sent each second.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A running collector.
pub struct Collector {
    port: u16,
    received: Arc<Mutex<Received>>,
    serving: JoinHandle<()>,
}

/// A span as it was told. Ids are in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which process told it.
    pub service: String,
    /// What it is called.
    pub name: String,
    /// The trace it belongs to.
    pub trace_id: String,
    /// Its own id.
    pub span_id: String,
    /// The id of its parent; empty if it has none.
    pub parent_id: String,
    /// The traces that it is tied to.
    pub links: Vec<String>,
    /// Its attributes, as text.
    pub attributes: Vec<(String, String)>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    headers: Vec<String>,
}

impl Collector {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received: Arc<Mutex<Received>> = Arc::default();
        let serving = tokio::spawn(serve(listener, received.clone()));
        Self { port, received, serving }
    }

    /// What the configuration calls it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        self.received.lock().unwrap().spans.clone()
    }

    /// Every header of every request so far, as `name: value`.
    pub fn headers(&self) -> Vec<String> {
        self.received.lock().unwrap().headers.clone()
    }

    /// The first span that is like this, once it has come.
    pub async fn span(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        eventually(&format!("the span of {what}"), ARRIVAL, async || {
            let spans = self.spans();
            spans.iter().find(|span| is_it(span)).cloned().ok_or(spans)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Span {
    /// An attribute, as text.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

async fn serve(listener: TcpListener, received: Arc<Mutex<Received>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = received.clone();
        let answer = service_fn(move |request| take(request, received.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn take(request: Request<Incoming>, received: Arc<Mutex<Received>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(Full::default());
    let expected = head.uri.path() == "/v1/traces" && head.headers["content-type"] == "application/x-protobuf";
    match body.collect().await.map(|body| ExportTraceServiceRequest::decode(body.to_bytes())) {
        Ok(Ok(export)) if expected => {
            let mut received = received.lock().unwrap();
            let header =
                |(name, value): (&http::HeaderName, &http::HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
            received.headers.extend(head.headers.iter().map(header));
            received.spans.extend(spans(export));
        }
        _ => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

fn spans(export: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in export.resource_spans {
        let attributes = resource.resource.map(|resource| attributes(resource.attributes)).unwrap_or_default();
        let service = attributes.into_iter().find(|(name, _)| name == "service.name").unwrap_or_default().1;
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                service: service.clone(),
                name: span.name,
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent_id: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                attributes: self::attributes(span.attributes),
            });
        }
    }
    spans
}

fn attributes(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    attributes.into_iter().map(|KeyValue { key, value, .. }| (key, text(value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
