//! Clients that are slow, many, or in the way, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use presence::PresenceService;
use presence::auth::Authenticator;
use presence::config::Config;
use presence::domain::Rules;
use presence::events::MemoryBus;
use presence::store::MemoryStore;
use presence_functions::{App, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Limits, Server};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// Limits that no test reaches by accident.
fn patient() -> Limits {
    Limits { connections: 100, refusals: 10, head_time: LONG, idle_time: LONG, write_time: LONG, drain_time: LONG }
}

/// An app on the embedded store.
fn app() -> App {
    let config = Config::from_lookup(|_| None).unwrap();
    let rules = Rules::default();
    let service = PresenceService::new(Arc::new(MemoryStore::new(rules)), Arc::new(MemoryBus::new()), rules);
    App::new(Arc::new(service), Arc::new(Authenticator::new(&config.auth).unwrap()))
}

async fn start(routes: Router<App>, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = Server { app: http::app(routes, app()), limits };
    let task = tokio::spawn(server.serve(listener, shutdown.clone()));
    Running { address, shutdown, task }
}

fn hello() -> Router<App> {
    Router::new().route("/", get(async || "hello"))
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// Reads until the text is there. Fails when the connection ends without it.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "the connection ended after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    seen
}

/// Waits until the server has closed the connection; how it does so is its affair.
async fn wait_for_end(stream: &mut TcpStream) {
    let mut buffer = [0; 64 * 1024];
    while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    let server = start(hello(), Limits { head_time: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let begun = Instant::now();
    wait_for_end(&mut client).await;
    assert!(begun.elapsed() < LONG / 2);
    server.stop().await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_prolong_a_head() {
    let server = start(hello(), Limits { head_time: SHORT, ..patient() }).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    writer.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let drip = tokio::spawn(async move {
        let mut tick = tokio::time::interval(SHORT / 10);
        loop {
            tick.tick().await;
            if writer.write_all(b"a").await.is_err() {
                break;
            }
        }
    });
    let mut buffer = [0; 1024];
    let begun = Instant::now();
    while !matches!(reader.read(&mut buffer).await, Ok(0) | Err(_)) {}
    assert!(begun.elapsed() < LONG / 2);
    drip.abort();
    server.stop().await;
}

#[tokio::test]
async fn a_quiet_connection_is_kept_longer_than_a_head_may_take() {
    let server = start(hello(), Limits { head_time: SHORT / 10, ..patient() }).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.write_all(GET).await.unwrap();
        read_until(&mut client, "hello").await;
        // The quiet is what is tested.
        tokio::time::sleep(SHORT).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_quiet_connection_is_not_kept_for_ever() {
    let server = start(hello(), Limits { idle_time: Duration::from_secs(1), ..patient() }).await;
    let mut client = server.connect().await;
    client.write_all(GET).await.unwrap();
    read_until(&mut client, "hello").await;
    wait_for_end(&mut client).await;
    let mut silent = server.connect().await;
    wait_for_end(&mut silent).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_gives_its_place_back() {
    let large = Router::new().route("/", get(async || vec![b'x'; 64 * 1024 * 1024]));
    let server = start(large, Limits { connections: 1, refusals: 0, write_time: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.write_all(GET).await.unwrap();
    read_until(&mut client, "200 OK").await;
    // It reads no more. Others are closed at once until it is ended.
    loop {
        let mut other = server.connect().await;
        let mut buffer = [0; 16];
        if other.write_all(GET).await.is_ok() && matches!(other.read(&mut buffer).await, Ok(read) if read > 0) {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(client);
    server.shutdown.cancel();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so_and_later_ones_are_served() {
    let server = start(hello(), Limits { connections: 1, refusals: 1, ..patient() }).await;
    let mut first = server.connect().await;
    first.write_all(GET).await.unwrap();
    read_until(&mut first, "hello").await;

    let mut second = server.connect().await;
    second.write_all(GET).await.unwrap();
    let refused = read_until(&mut second, "overloaded").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    wait_for_end(&mut second).await;

    drop(first);
    loop {
        let mut next = server.connect().await;
        // A connection that was closed at once may fail to write.
        let _ = next.write_all(GET).await;
        let mut answer = String::new();
        let mut buffer = [0; 1024];
        if let Ok(read) = next.read(&mut buffer).await {
            answer.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_what_is_in_flight_finish_and_accepts_no_more() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, wait) = (Arc::clone(&entered), Arc::clone(&release));
    let slow = Router::new().route(
        "/",
        get(async move || {
            enter.notify_one();
            wait.notified().await;
            "done"
        }),
    );
    let server = start(slow, patient()).await;
    let mut client = server.connect().await;
    client.write_all(GET).await.unwrap();
    entered.notified().await;
    let mut idle = server.connect().await;

    server.shutdown.cancel();
    wait_for_end(&mut idle).await;
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.task.is_finished());
    release.notify_one();
    let answer = read_until(&mut client, "done").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop((client, idle));
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let entered = Arc::new(Notify::new());
    let enter = Arc::clone(&entered);
    let stuck = Router::new().route(
        "/",
        get(async move || {
            enter.notify_one();
            std::future::pending::<()>().await;
        }),
    );
    let server = start(stuck, Limits { drain_time: SHORT, ..patient() }).await;
    let mut client = server.connect().await;
    client.write_all(GET).await.unwrap();
    entered.notified().await;
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < LONG / 2);
    wait_for_end(&mut client).await;
}

#[tokio::test]
async fn a_body_that_is_refused_unread_does_not_cost_the_client_its_answer() {
    let refusing = Router::new().route("/", post(async || StatusCode::PAYLOAD_TOO_LARGE));
    let server = start(refusing, patient()).await;
    let mut client = server.connect().await;
    let piece = [b'x'; 16 * 1024];
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 32 * piece.len());
    client.write_all(head.as_bytes()).await.unwrap();
    // The answer is there before most of the body is sent, as it is with a client that is far away.
    client.readable().await.unwrap();
    for _ in 0..32 {
        client.write_all(&piece).await.unwrap();
    }
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_own_time_and_its_place() {
    let echo = Router::new().route(
        "/",
        get(async |mut request: axum::extract::Request| {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(read @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..read]).await.unwrap();
                }
            });
            (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")])
        }),
    );
    let brief = Limits { head_time: SHORT / 4, write_time: SHORT / 4, ..patient() };
    let server = start(echo, Limits { connections: 1, refusals: 0, ..brief }).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    for word in ["one", "two", "three"] {
        client.write_all(word.as_bytes()).await.unwrap();
        read_until(&mut client, word).await;
        // Longer than a head may take.
        tokio::time::sleep(SHORT).await;
    }
    let mut other = server.connect().await;
    wait_for_end(&mut other).await;
    drop(client);
    server.stop().await;
}
