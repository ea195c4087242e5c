//! `GET /health`, `GET /ready` and `GET /metrics` of the bridge: for whoever runs it, not for the world.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use presence::PresenceService;
use presence::service::Readiness;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Connections that are served at once; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long one connection may last. Whoever probes makes a new one now and then.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A dependency that does not answer within this time is not there.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked about.
pub(super) struct Probes {
    pub(super) service: Arc<PresenceService>,
    pub(super) subscriptions: crate::Readiness,
    pub(super) metrics: PrometheusHandle,
}

impl Probes {
    /// Answers until the end of `shutdown`.
    pub(super) async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let (probes, places) = (Arc::new(self), Arc::new(Semaphore::new(CONNECTIONS)));
        let accepting = async {
            while let Ok(place) = places.clone().acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (probes, shutdown) = (probes.clone(), shutdown.clone());
                        tokio::spawn(async move {
                            let served = timeout(CONNECTION_TIME, probes.serve_one(stream));
                            let _ = shutdown.run_until_cancelled(served).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept connections");
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        let _ = shutdown.run_until_cancelled(accepting).await;
    }

    async fn serve_one(&self, stream: TcpStream) {
        let answer = service_fn(async |request: Request<Incoming>| Ok::<_, Infallible>(self.answer(&request).await));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .serve_connection(TokioIo::new(stream), answer);
        // A failed connection is its client's affair.
        let _ = connection.await;
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.uri().path(), request.method()) {
            ("/health" | "/ready" | "/metrics", method) if method != Method::GET && method != Method::HEAD => {
                json_response(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "GET only" }))
            }
            ("/health", _) => json_response(StatusCode::OK, &json!({ "status": "ok" })),
            ("/ready", _) => self.ready().await,
            ("/metrics", _) => {
                self.metrics.run_upkeep();
                let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response(StatusCode::OK, text, self.metrics.render())
            }
            _ => json_response(StatusCode::NOT_FOUND, &json!({ "error": "there is /health, /ready and /metrics" })),
        }
    }

    /// 200 when messages can come and be processed, else 503; either way the body names each part, and in words what is
    /// missing.
    async fn ready(&self) -> Response<Full<Bytes>> {
        let nothing = Readiness { store: false, events: false };
        let Readiness { store, events } = timeout(PATIENCE, self.service.readiness()).await.unwrap_or(nothing);
        let subscriptions = self.subscriptions.is_ready();
        let is_ready = store && events && subscriptions;
        let mut body = json!({ "store": store, "events": events, "subscriptions": subscriptions });
        let missing = self.subscriptions.missing();
        if !missing.is_empty() {
            body["missing"] = json!(missing);
        }
        json_response(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
    }
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    response(status, HeaderValue::from_static("application/json"), body.to_string())
}

fn response(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
