//! What is the same for every request: whether there is a place for it, its id and trace, its span and metrics, the form
//! of its problems, its deadline, and what becomes of a panic. Functions of our own and no layers of a router, for which
//! every request would copy the services below each layer and put them and their futures into boxes.

use std::any::Any;
use std::convert::Infallible;
use std::future::ready;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use presence::events::Traceparent;
use presence::telemetry::{self, SPANS};
use tokio::time::timeout;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::field::Empty;
use tracing::{Instrument, Level, Span};

use super::admission::{Admission, Gate, Overloaded};
use super::extract::Trace;
use super::metrics;
use super::problem::Problem;

/// The header that names a request, on the way in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header of W3C trace context, on the way in and out.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header of AWS's trace context, on the way in.
const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// How long a browser may remember what a preflight told it.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Answers the requests of a host. Copies of it are cheap, and are one and the same.
#[derive(Debug, Clone)]
pub struct HttpApp(Arc<Layers>);

#[derive(Debug)]
struct Layers {
    router: Router,
    /// How long a request may take.
    limit: Duration,
    cors: Option<CorsLayer>,
    gate: Option<Gate>,
}

impl HttpApp {
    /// What these routes answer within the limit, also to pages of the given origins.
    pub(super) fn new(router: Router, limit: Duration, origins: &[HeaderValue]) -> Self {
        let cors = (!origins.is_empty()).then(|| cors(origins));
        Self(Arc::new(Layers { router, limit, cors, gate: None }))
    }

    /// The same, which takes on only so much. What is too much is refused before anything is done for it.
    #[must_use]
    pub fn behind(&self, admission: Admission) -> Self {
        let Layers { router, limit, cors, .. } = &*self.0;
        let gate = Some(Gate::new(admission));
        Self(Arc::new(Layers { router: router.clone(), limit: *limit, cors: cors.clone(), gate }))
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request) -> Response {
        let arrival = Arrival::of(&request);
        let place = match &self.0.gate {
            Some(gate) => gate.enter(&arrival.method, arrival.route).await,
            None => Ok(None),
        };
        match place {
            // In a box, so that a quiet connection has no room for it.
            Ok(_place) => Box::pin(self.serve(request, arrival)).await,
            Err(Overloaded) => self.refuse(request, &arrival).await,
        }
    }

    /// Tells a client that there is no place for its request.
    pub async fn turn_away(&self, request: Request) -> Response {
        let arrival = Arrival::of(&request);
        self.refuse(request, &arrival).await
    }

    async fn serve(&self, mut request: Request, arrival: Arrival) -> Response {
        let Arrival { method, route, .. } = &arrival;
        let told = told_span(method, route);
        let trace = telemetry::continue_trace(&told, trace(request.headers()));
        let request_id = request_id(request.headers(), &trace);
        let span = logged_span(&arrival, &request_id, &trace);
        told.record("request_id", &request_id);
        request.extensions_mut().insert(Trace(trace.clone()));

        let mut response = self.cross_origin(request).instrument(span.clone()).instrument(told.clone()).await;

        if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
            log(&problem, || span);
            problem.write(&mut response, method, &request_id);
        }
        told.record("http.response.status_code", response.status().as_u16());
        if response.status().is_server_error() {
            told.record("otel.status_code", "ERROR");
        }
        arrival.answered(&mut response, &request_id, &trace);
        response
    }

    async fn cross_origin(&self, request: Request) -> Response {
        match &self.0.cors {
            None => self.route(request).await,
            Some(cors) => Box::pin(with_cors(cors, request, |request| self.route(request))).await,
        }
    }

    /// Ends a request that takes too long, and one that panics. What it had begun in the store stays whole: a change and
    /// the note that it is not yet published are one write.
    async fn route(&self, request: Request) -> Response {
        let routed = AssertUnwindSafe(self.0.router.clone().oneshot(request)).catch_unwind();
        match timeout(self.0.limit, routed).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Err(panic)) => panicked(&*panic),
            Err(_) => Problem::deadline_exceeded().into_response(),
        }
    }

    /// In an overload this is what the process does most: nothing is made but the answer, and no span.
    async fn refuse(&self, request: Request, arrival: &Arrival) -> Response {
        let trace = trace(request.headers()).unwrap_or_else(Traceparent::generate);
        let request_id = request_id(request.headers(), &trace);
        let problem = Problem::overloaded();
        log(&problem, || logged_span(arrival, &request_id, &trace));
        let mut response = problem.head();
        problem.write(&mut response, &arrival.method, &request_id);
        arrival.answered(&mut response, &request_id, &trace);
        metrics::refused();
        match &self.0.cors {
            None => response,
            Some(_) if arrival.method == Method::OPTIONS => response,
            Some(cors) => Box::pin(with_cors(cors, request, |_| ready(mem::take(&mut response)))).await,
        }
    }
}

/// When a request came, and how it is called in metrics, logs and spans.
struct Arrival {
    at: Instant,
    method: Method,
    route: &'static str,
}

impl Arrival {
    fn of(request: &Request) -> Self {
        let route = metrics::route_label(request.uri().path());
        Self { at: Instant::now(), method: request.method().clone(), route }
    }

    /// What all answers have, and are counted for.
    fn answered(&self, response: &mut Response, request_id: &str, trace: &Traceparent) {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        insert_text(headers, REQUEST_ID, request_id);
        insert_text(headers, TRACEPARENT, trace.as_str());
        metrics::record(self.route, &self.method, response.status(), self.at.elapsed());
    }
}

/// The answer, with what a browser has to know of it; of a preflight that alone.
async fn with_cors<F>(cors: &CorsLayer, request: Request, mut answer: impl FnMut(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let answered = service_fn(|request| answer(request).map(Ok::<_, Infallible>));
    let Ok(response) = cors.layer(answered).oneshot(request).await;
    response
}

/// What stands in the lines of the log about a request.
fn logged_span(Arrival { method, route, .. }: &Arrival, request_id: &str, trace: &Traceparent) -> Span {
    tracing::info_span!("request", request_id, %method, route, traceparent = %trace)
}

/// What a collector is told of a request, under the names that OpenTelemetry gives it.
fn told_span(method: &Method, route: &'static str) -> Span {
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
fn request_id(headers: &HeaderMap, trace: &Traceparent) -> String {
    let fit = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let own = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(fit);
    own.unwrap_or_else(|| trace.trace_id()).to_owned()
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

/// What is our fault is logged once, here, with its causes; what is the caller's fault is theirs to read.
fn log(problem: &Problem, span: impl FnOnce() -> Span) {
    let (uri, status, _) = problem.kind().describe();
    if !status.is_server_error() {
        return;
    }
    let unserved = status == StatusCode::SERVICE_UNAVAILABLE;
    let told = !unserved || UNAVAILABLE.may_tell();
    if !told && !tracing::enabled!(Level::DEBUG) {
        return;
    }
    let cause = problem.cause().map(causes).unwrap_or_default();
    span().in_scope(|| match (unserved, told) {
        (false, _) => tracing::error!(problem = uri, cause, "request failed"),
        (true, true) => tracing::warn!(problem = uri, cause, "request not served; others like it may go untold"),
        (true, false) => tracing::debug!(problem = uri, cause, "request not served"),
    });
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

/// A panic ends one request, as a problem like any other.
fn panicked(panic: &(dyn Any + Send)) -> Response {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    tracing::error!(message, "a handler panicked");
    Problem::internal().into_response()
}

/// Lets pages of the given origins call.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
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
