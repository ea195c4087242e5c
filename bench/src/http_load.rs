//! Requests over connections that are kept open: as fast as they are answered, or as often as was asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request, made before the clock runs.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) authorization: HeaderValue,
    pub(crate) body: Bytes,
}

/// What came of many requests.
pub(crate) struct Answers {
    /// When the first was due.
    pub(crate) start: Instant,
    pub(crate) elapsed: Duration,
    /// In seconds, of those that succeeded.
    pub(crate) latencies: Vec<f64>,
    /// Told to come again later.
    pub(crate) refused: usize,
}

impl Answers {
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends all of them over so many connections, each as soon as the one before it is answered.
pub(crate) async fn as_fast_as_answered(
    address: SocketAddr,
    connections: usize,
    requests: &Arc<[Prepared]>,
) -> Answers {
    run(address, connections, requests, None).await
}

/// Sends so many a second, whether or not those before are answered; the connections are as many as may wait at once. A
/// request that has to wait for a connection has begun when it was due.
pub(crate) async fn as_often_as(
    address: SocketAddr,
    connections: usize,
    requests: &Arc<[Prepared]>,
    a_second: f64,
) -> Answers {
    run(address, connections, requests, Some(a_second)).await
}

async fn run(address: SocketAddr, connections: usize, requests: &Arc<[Prepared]>, rate: Option<f64>) -> Answers {
    let senders = join_all((0..connections).map(|_| connect(address))).await;
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let workers = senders.into_iter().map(|sender| {
        let (next, requests) = (next.clone(), requests.clone());
        tokio::spawn(work(sender, address, requests, next, start, rate))
    });
    let (mut latencies, mut refused) = (Vec::with_capacity(requests.len()), 0);
    for worker in join_all(workers).await {
        let (seen, away) = worker.unwrap();
        latencies.extend(seen);
        refused += away;
    }
    Answers { start, elapsed: start.elapsed(), latencies, refused }
}

/// Takes the next request again and again, until there is none.
async fn work(
    mut sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    requests: Arc<[Prepared]>,
    next: Arc<AtomicUsize>,
    start: Instant,
    rate: Option<f64>,
) -> (Vec<f64>, usize) {
    let (mut latencies, mut refused) = (Vec::new(), 0);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(prepared) = requests.get(number) else { return (latencies, refused) };
        let due = match rate {
            Some(rate) => start + Duration::from_secs_f64(number as f64 / rate),
            None => Instant::now(),
        };
        // The timer is good to a millisecond: what is due within one goes at once.
        if due > Instant::now() + Duration::from_millis(1) {
            sleep_until(due).await;
        }
        match send(&mut sender, address, prepared).await {
            StatusCode::SERVICE_UNAVAILABLE => refused += 1,
            status => {
                assert!(status.is_success(), "{} {} is answered with {status}", prepared.method, prepared.path);
                latencies.push(due.elapsed().as_secs_f64());
            }
        }
    }
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, address: SocketAddr, prepared: &Prepared) -> StatusCode {
    let mut request = Request::builder()
        .method(&prepared.method)
        .uri(&prepared.path)
        .header(HOST, "127.0.0.1")
        .header(AUTHORIZATION, &prepared.authorization);
    if !prepared.body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(prepared.body.clone())).unwrap();
    let answered = async {
        // A connection that was closed with the last answer, as a refusal may be, is replaced.
        if sender.ready().await.is_err() {
            *sender = connect(address).await;
        }
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status();
        response.into_body().collect().await.expect("a whole answer");
        status
    };
    timeout(PATIENCE, answered).await.expect("an answer in time")
}

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await.expect("a connection in time").unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Whether the path is there.
pub(crate) async fn is_ok(address: SocketAddr, path: &str) -> bool {
    let prepared = Prepared {
        method: Method::GET,
        path: path.to_owned(),
        authorization: HeaderValue::from_static("none"),
        body: Bytes::new(),
    };
    let mut sender = connect(address).await;
    send(&mut sender, address, &prepared).await.is_success()
}
