//! What is the same for every request: its id and trace, its span and metrics, the form of its problems, its deadline,
//! and what becomes of a panic.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::Map;
use presence::events::Traceparent;
use presence::telemetry::{self, SPANS};
use tokio::time::error::Elapsed;
use tokio::time::{Timeout, timeout};
use tower::{Layer, Service, layer::layer_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;
use tracing::field::Empty;

use super::extract::Trace;
use super::metrics;
use super::problem::{self, Kind, Problem};

/// The header that names a request, on the way in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header of W3C trace context, on the way in and out.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header of AWS's trace context, on the way in.
const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// How long a browser may remember what a preflight told it.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// The outermost layer. Gives the request its id and trace, and the response its common headers; writes the body of a
/// problem, logs what is our fault, and counts.
pub(super) async fn envelope(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = metrics::route_label(request.extensions().get::<MatchedPath>());
    let told = told_span(&method, route);
    let trace = telemetry::continue_trace(&told, trace(request.headers()));
    let request_id = request_id(request.headers()).unwrap_or_else(|| trace.trace_id().to_owned());
    let span = tracing::info_span!("request", request_id, %method, route, traceparent = %trace);
    told.record("request_id", &request_id);
    request.extensions_mut().insert(Trace(trace.clone()));

    let response = next.run(request).instrument(span.clone()).instrument(told.clone()).await;

    let mut response = span.in_scope(|| write_problem(response, &request_id));
    told.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        told.record("otel.status_code", "ERROR");
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    insert_text(headers, REQUEST_ID, &request_id);
    insert_text(headers, TRACEPARENT, trace.as_str());
    metrics::record(route, &method, response.status(), started.elapsed());
    response
}

/// What a collector is told of a request, under the names that OpenTelemetry gives it.
fn told_span(method: &Method, route: &'static str) -> tracing::Span {
    tracing::info_span!(
        target: SPANS,
        "request",
        otel.kind = "server",
        otel.name = format_args!("{method} {route}"),
        otel.status_code = Empty,
        http.request.method = %method,
        http.route = route,
        http.response.status_code = Empty,
        request_id = Empty,
    )
}

/// The caller's id where it is fit for a log line and a header. Without one a request is called by its trace, which its
/// events carry as well. An id of a request is not passed on to them: it would tell a choice from a silence, and so an
/// invisible user from one who left.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let fit = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(fit).map(str::to_owned)
}

/// The trace that the request belongs to, as W3C or AWS writes it.
fn trace(headers: &HeaderMap) -> Option<Traceparent> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let w3c = text(&TRACEPARENT).and_then(Traceparent::parse);
    w3c.or_else(|| text(&XRAY).and_then(Traceparent::from_xray))
}

fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// A response that stands for a problem gets its body here, where the request id is known.
fn write_problem(mut response: Response, request_id: &str) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() else {
        return response;
    };
    log(&problem);
    if problem.kind() == Kind::Overloaded {
        metrics::refused();
    }
    response.headers_mut().insert(CONTENT_TYPE, problem::MEDIA_TYPE);
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = Body::from(problem.document(request_id));
    response
}

/// What is our fault is logged once, here, with its causes; what is the caller's fault is theirs to read.
fn log(problem: &Problem) {
    let (uri, status, _) = problem.kind().describe();
    let cause = problem.cause().map(causes).unwrap_or_default();
    match status {
        StatusCode::SERVICE_UNAVAILABLE if UNAVAILABLE.may_tell() => {
            tracing::warn!(problem = uri, cause, "request not served; others like it may go untold");
        }
        StatusCode::SERVICE_UNAVAILABLE => tracing::debug!(problem = uri, cause, "request not served"),
        _ if status.is_server_error() => tracing::error!(problem = uri, cause, "request failed"),
        _ => {}
    }
}

/// In an outage or an overload every request fails alike: a line for each would cost more than the answer.
static UNAVAILABLE: Pace = Pace { lines: AtomicU64::new(0) };

/// The shortest time between two lines about requests that were not served.
const PACE: Duration = Duration::from_millis(100);

/// Lets a line through now and then.
struct Pace {
    /// When the last one was, in steps of [`PACE`] from the first.
    lines: AtomicU64,
}

impl Pace {
    fn may_tell(&self) -> bool {
        static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
        let step = u64::try_from(BEGUN.elapsed().as_millis() / PACE.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.lines.fetch_max(step, Ordering::Relaxed) < step
    }
}

/// An error and its sources in one line.
fn causes(error: &presence::Error) -> String {
    let mut line = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        line = format!("{line}: {error}");
        source = error.source();
    }
    line
}

/// Ends a request that takes too long. What it had begun in the store stays whole: a change and the note that it is
/// not yet published are one write. A service of its own and no function of axum, for which every request would copy
/// the services below and put them and their future into boxes.
#[derive(Debug, Clone)]
pub(super) struct Deadline<S> {
    limit: Duration,
    served: S,
}

/// Puts what is below under a [`Deadline`].
pub(super) fn deadline<S>(limit: Duration) -> impl Layer<S, Service = Deadline<S>> + Clone {
    layer_fn(move |served| Deadline { limit, served })
}

impl<S, B> Service<Request> for Deadline<S>
where
    S: Service<Request, Response = Response<B>>,
    Response<B>: IntoResponse,
{
    type Response = Response;
    type Error = S::Error;
    type Future =
        Map<Timeout<S::Future>, fn(Result<Result<Response<B>, S::Error>, Elapsed>) -> Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.served.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        timeout(self.limit, self.served.call(request)).map(|ended| match ended {
            Ok(served) => served.map(IntoResponse::into_response),
            Err(_) => Ok(Problem::deadline_exceeded().into_response()),
        })
    }
}

/// A panic ends one request, as a problem like any other.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    tracing::error!(message, "a handler panicked");
    Problem::internal().into_response()
}

/// Lets pages of the given origins call.
pub(super) fn cors(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, REQUEST_ID, TRACEPARENT])
        .expose_headers([REQUEST_ID, TRACEPARENT, RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_failures_is_told_in_a_few_lines() {
        let pace = Pace { lines: AtomicU64::new(0) };
        let begun = Instant::now();
        let told = (0..100_000).filter(|_| pace.may_tell()).count() as u128;
        let allowed = begun.elapsed().as_millis() / PACE.as_millis() + 2;
        assert!((1..=allowed).contains(&told), "{told} lines, {allowed} allowed");
    }
}
