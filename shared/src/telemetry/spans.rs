//! Spans for a collector of OpenTelemetry: gathered as they end, sent in batches over OTLP. Nothing waits for them, and
//! what can't be sent in time is dropped and counted.
//!
//! They are sent by whoever calls [`flush`]: a long-running process each second, a function at the end of each
//! invocation, since its host freezes it afterwards. A thread of the library's own could do neither.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor, Tracer};
use tokio::time::{Instant, timeout_at};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use url::Url;

use crate::auth::https_client;
use crate::domain::Traceparent;

/// The target of the spans that a collector is told of, and the log is not: its lines name the request or the batch, in
/// spans of any other target, and nothing else stands in between.
pub const SPANS: &str = "presence::spans";

/// How many ended spans may wait to be sent.
const WAITING: usize = 4096;
/// How many are sent at once.
const AT_ONCE: usize = 512;
/// How long sending may take. A function waits for it, so it is short.
const DEADLINE: Duration = Duration::from_millis(500);
/// How often a long-running process sends.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where spans go.
#[derive(Clone)]
pub struct OtlpConfig {
    /// The base of the collector's address; spans go to `v1/traces` below it.
    pub endpoint: Url,
    /// Headers for the collector. Secrets.
    pub headers: Vec<(String, String)>,
    /// The share of traces that are sampled, of those that begin here. Others are sampled as their caller says.
    pub ratio: f64,
}

/// Why spans can't be sent.
#[derive(Debug, thiserror::Error)]
#[error("spans can't be sent: {0}")]
pub struct SpansError(String);

/// What this process gathered.
static GATHERED: OnceLock<Arc<Gathered>> = OnceLock::new();

#[derive(Debug)]
struct Gathered {
    exporter: SpanExporter,
    waiting: Mutex<Vec<SpanData>>,
    dropped: AtomicU64,
}

/// Gathers ended spans.
#[derive(Debug)]
struct Gatherer(Arc<Gathered>);

/// A tracer whose spans are sent to the collector, as those of this service. The first one of a process counts.
pub(super) fn tracer(config: &OtlpConfig, service: &str) -> Result<Tracer, SpansError> {
    let client = https_client(DEADLINE, config.endpoint.scheme() == "http");
    let client = Client(client.map_err(|error| SpansError(error.to_string()))?);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", config.endpoint.as_str().trim_end_matches('/')))
        .with_headers(config.headers.iter().cloned().collect())
        .with_timeout(DEADLINE);
    let mut exporter = exporter.build().map_err(|error| SpansError(error.to_string()))?;
    let resource = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", service.to_owned()),
        KeyValue::new("service.namespace", "presence"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    let resource = resource.build();
    exporter.set_resource(&resource);
    let gathered = Arc::new(Gathered { exporter, waiting: Mutex::default(), dropped: AtomicU64::new(0) });
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Gatherer(gathered.clone()))
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.ratio))))
        .with_resource(resource)
        .build();
    // A second one would go nowhere, as a second subscriber does.
    let _ = GATHERED.set(gathered);
    Ok(provider.tracer("presence"))
}

/// Sends what was gathered. Does nothing where nothing is; ends within half a second. What can't be sent is dropped: a
/// collector that is away would get more each time, and later each time.
pub async fn flush() {
    let Some(gathered) = GATHERED.get() else { return };
    let deadline = Instant::now() + DEADLINE;
    loop {
        let batch = gathered.take();
        let spans = batch.len();
        if spans == 0 {
            break;
        }
        let failure = match timeout_at(deadline, gathered.exporter.export(batch)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        gathered.drop_spans(spans);
        tracing::debug!(failure, "spans could not be sent");
        break;
    }
    let dropped = gathered.dropped.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        tracing::warn!(spans = dropped, "spans were dropped: the collector is away or too slow");
    }
}

/// Sends what is gathered each second until `shutdown` completes, and then once more.
pub async fn flush_until(shutdown: impl Future<Output = ()>) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut ticks = tokio::time::interval(INTERVAL);
    while GATHERED.get().is_some() {
        tokio::select! {
            () = shutdown.as_mut() => break,
            _ = ticks.tick() => flush().await,
        }
    }
    flush().await;
}

/// Makes a span part of the trace that its request carries, and tells which trace its consequences belong to: with a
/// collector they are the span's children, else the request's own trace goes on, or a new one begins.
pub fn continue_trace(span: &tracing::Span, carried: Option<Traceparent>) -> Traceparent {
    if let Some(context) = carried.as_ref().and_then(span_context) {
        // It fails without a collector; then there is nothing to be part of.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(context));
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    match traceparent(&own) {
        Some(own) => own,
        None => carried.unwrap_or_else(Traceparent::generate),
    }
}

/// Ties a span to another trace, whose message it deals with.
pub fn link_trace(span: &tracing::Span, trace: &Traceparent) {
    if let Some(context) = span_context(trace) {
        span.add_link(context);
    }
}

fn span_context(trace: &Traceparent) -> Option<SpanContext> {
    let mut parts = trace.as_str().split('-').skip(1);
    let trace_id = TraceId::from_hex(parts.next()?).ok()?;
    let span_id = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    Some(SpanContext::new(trace_id, span_id, TraceFlags::new(flags), true, TraceState::NONE))
}

fn traceparent(context: &SpanContext) -> Option<Traceparent> {
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
    context.is_valid().then(|| Traceparent::parse(&format!("00-{trace}-{span}-{flags:02x}")))?
}

impl Gathered {
    fn waiting(&self) -> MutexGuard<'_, Vec<SpanData>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<SpanData> {
        let mut waiting = self.waiting();
        let count = waiting.len().min(AT_ONCE);
        waiting.drain(..count).collect()
    }

    fn drop_spans(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl SpanProcessor for Gatherer {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let mut waiting = self.0.waiting();
        if waiting.len() < WAITING {
            waiting.push(span);
        } else {
            self.0.drop_spans(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The client of HTTP that this crate has anyway.
#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.0.execute(request.try_into()?).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(answer.bytes().await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl std::fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtlpConfig")
            .field("endpoint", &self.endpoint.as_str())
            .field("ratio", &self.ratio)
            .finish_non_exhaustive()
    }
}
