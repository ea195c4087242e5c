//! The interface by which a Lambda host drives a function, as far as one function at a time needs it; and the barest
//! function that can be behind it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

/// Longer than a function may take over any event here.
const PATIENCE: Duration = Duration::from_secs(20);
const NEXT: &str = "/2018-06-01/runtime/invocation/next";

/// A host for one function at a time.
pub(crate) struct RuntimeApi {
    address: SocketAddr,
    events: mpsc::Sender<Value>,
    answers: mpsc::Receiver<Answer>,
}

/// What a function answered, and when its answer was there.
pub(crate) struct Answer {
    pub(crate) handed_over: Instant,
    pub(crate) at: Instant,
    pub(crate) body: Bytes,
}

struct Shared {
    events: Mutex<mpsc::Receiver<Value>>,
    /// When the last event was handed over.
    handed_over: Mutex<Instant>,
    answers: mpsc::Sender<Answer>,
}

impl RuntimeApi {
    pub(crate) async fn start() -> Self {
        let (events, waiting) = mpsc::channel(1);
        let (answered, answers) = mpsc::channel(1);
        let shared = Shared { events: Mutex::new(waiting), handed_over: Mutex::new(Instant::now()), answers: answered };
        let routes = Router::new()
            .route(NEXT, get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failure))
            .route("/2018-06-01/runtime/init/error", post(failure))
            .layer(DefaultBodyLimit::max(6 * 1024 * 1024))
            .with_state(Arc::new(shared));
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            let _ = stream.set_nodelay(true);
        });
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, events, answers }
    }

    /// Where functions are to ask for events.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands the event to the function as soon as it asks, and waits for its answer.
    pub(crate) async fn invoke(&mut self, event: &Value) -> Answer {
        self.events.send(event.clone()).await.unwrap();
        timeout(PATIENCE, self.answers.recv()).await.expect("an answer of the function in time").unwrap()
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let event = shared.events.lock().await.recv().await.unwrap_or(Value::Null);
    let headers = [
        ("lambda-runtime-aws-request-id", uuid::Uuid::new_v4().to_string()),
        ("lambda-runtime-deadline-ms", (now_ms() + 30_000).to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:local:000000000000:function:bench".to_owned()),
        ("lambda-runtime-trace-id", "Root=1-00000000-000000000000000000000000".to_owned()),
    ];
    *shared.handed_over.lock().await = Instant::now();
    (headers, Json(event))
}

async fn response(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    let at = Instant::now();
    let handed_over = *shared.handed_over.lock().await;
    let _ = shared.answers.send(Answer { handed_over, at, body }).await;
    StatusCode::ACCEPTED
}

async fn failure(headers: HeaderMap, body: Bytes) -> StatusCode {
    unreachable!("the function failed: {headers:?} {}", String::from_utf8_lossy(&body))
}

#[expect(clippy::disallowed_methods, reason = "a host tells deadlines by the calendar")]
fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Takes events and answers each with an empty object, until the host ends.
pub(crate) async fn bare_function(address: &str) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    loop {
        let ask = Request::get(NEXT).header("host", address).body(Full::new(Bytes::new())).unwrap();
        let Ok(event) = sender.send_request(ask).await else { return };
        let id = event.headers()["lambda-runtime-aws-request-id"].to_str().unwrap().to_owned();
        event.into_body().collect().await.unwrap();
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        let answer = Request::post(path).header("host", address).body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        sender.send_request(answer).await.unwrap().into_body().collect().await.unwrap();
    }
}
