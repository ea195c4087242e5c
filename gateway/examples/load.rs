//! Many connections to a running service, from one process: what an idle one costs, and how long a change takes to reach
//! the last of many subscribers.
//!
//! `load PORT PID [CONNECTIONS [SUBSCRIBERS [SECONDS]]]`: the port and the process id of a `presence-service` on this
//! machine that accepts development tokens.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for a terminal, which has nothing better to do than to stop when something is wrong"
)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use presence_tests::{Api, User};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// Connections that are opened at once.
const OPENING: usize = 64;
/// Changes of the one user whom many subscribe to; five in 20 s are allowed.
const CHANGES: usize = 5;
/// Longer than anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the connections got.
#[derive(Default)]
struct Counts {
    answers: AtomicU64,
    lost: AtomicU64,
}

/// The arrival of a change at one subscriber.
struct Arrival {
    custom_status: String,
    at: Instant,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>().expect("a number"));
    let port = u16::try_from(arguments.next().expect("the port of the service")).unwrap();
    let pid = arguments.next().expect("the process id of the service");
    let connections = arguments.next().unwrap_or(5000);
    let subscribers = arguments.next().unwrap_or(1000);
    let seconds = arguments.next().unwrap_or(60) as u64;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(port, pid, connections, subscribers, Duration::from_secs(seconds)));
}

async fn run(port: u16, pid: usize, connections: usize, subscribers: usize, idle: Duration) {
    let before = memory(pid);
    let start = Instant::now();
    let opened: Vec<Socket> =
        stream::iter(0..connections).map(|_| open(port)).buffer_unordered(OPENING).collect().await;
    println!("{connections} connections identified in {:.1} s", start.elapsed().as_secs_f64());
    let after = memory(pid);
    println!(
        "memory of the service: {before} KiB before, {after} KiB after: {:.1} KiB a connection",
        (after - before) as f64 / connections as f64
    );

    let watched = User::new();
    let api = Api::at(port);
    api.update(&watched, &json!({ "status": "online", "custom_status": "Ready" })).await;
    let (arrivals_sender, mut arrivals) = mpsc::channel(subscribers.max(1) * 2);
    let counts = Arc::new(Counts::default());
    for (number, socket) in opened.into_iter().enumerate() {
        let (mut sink, stream) = socket.split();
        if number < subscribers {
            send(&mut sink, json!({ "op": 14, "d": { "user_ids": [watched.id()] } })).await;
        }
        tokio::spawn(beat(sink, number));
        tokio::spawn(hear(stream, arrivals_sender.clone(), counts.clone()));
    }
    // The snapshot is the first arrival of each.
    reached(&mut arrivals, "Ready", subscribers).await;

    let cpu_before = cpu(pid);
    let start = Instant::now();
    tokio::time::sleep(idle).await;
    let used = (cpu(pid) - cpu_before) / start.elapsed().as_secs_f64();
    println!(
        "idle for {} s: {:.1} % of one core, {} heartbeats answered, {} connections lost",
        idle.as_secs(),
        used * 100.0,
        counts.answers.load(Ordering::Relaxed),
        counts.lost.load(Ordering::Relaxed)
    );
    println!("memory of the service: {} KiB", memory(pid));

    for change in 1..CHANGES {
        let text = format!("Change {change}");
        let start = Instant::now();
        api.update(&watched, &json!({ "status": "online", "custom_status": text })).await;
        let answered = start.elapsed();
        let mut times: Vec<Duration> =
            reached(&mut arrivals, &text, subscribers).await.into_iter().map(|at| at - start).collect();
        times.sort_unstable();
        println!(
            "change {change}: answered after {:.1} ms; {subscribers} subscribers reached after {:.1} ms (first), {:.1} ms \
             (half), {:.1} ms (last)",
            millis(answered),
            millis(times[0]),
            millis(times[times.len() / 2]),
            millis(times[times.len() - 1])
        );
    }
}

async fn open(port: u16) -> Socket {
    let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
    let connected = connect_async_with_config(format!("ws://127.0.0.1:{port}/gateway"), Some(config), true);
    let (mut socket, _) = tokio::time::timeout(PATIENCE, connected).await.expect("a connection in time").unwrap();
    next(&mut socket).await;
    let identify = json!({ "op": 2, "d": { "token": User::new().token() } });
    socket.send(Message::text(identify.to_string())).await.unwrap();
    assert_eq!(next(&mut socket).await["t"], "READY");
    socket
}

async fn next(socket: &mut Socket) -> Value {
    let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame in time").unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

async fn send(sink: &mut SplitSink<Socket, Message>, frame: Value) {
    sink.send(Message::text(frame.to_string())).await.unwrap();
}

/// Sends heartbeats as often as documented, each connection at a moment of its own.
async fn beat(mut sink: SplitSink<Socket, Message>, number: usize) {
    const INTERVAL: Duration = Duration::from_secs(30);
    let first = INTERVAL.mul_f64(number as f64 * 0.618 % 1.0);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, INTERVAL);
    loop {
        ticks.tick().await;
        if sink.send(Message::text(r#"{"op":1,"d":null}"#)).await.is_err() {
            return;
        }
    }
}

async fn hear(mut stream: SplitStream<Socket>, arrivals: mpsc::Sender<Arrival>, counts: Arc<Counts>) {
    while let Some(Ok(Message::Text(text))) = stream.next().await {
        let at = Instant::now();
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["op"] == 11 {
            counts.answers.fetch_add(1, Ordering::Relaxed);
        } else if let Some(custom_status) = frame["d"]["custom_status"].as_str() {
            drop(arrivals.send(Arrival { custom_status: custom_status.to_owned(), at }).await);
        }
    }
    counts.lost.fetch_add(1, Ordering::Relaxed);
}

/// Waits until so many subscribers have it; when each of them did.
async fn reached(arrivals: &mut mpsc::Receiver<Arrival>, custom_status: &str, count: usize) -> Vec<Instant> {
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        let arrival = tokio::time::timeout(PATIENCE, arrivals.recv()).await.expect("every subscriber in time").unwrap();
        assert_eq!(arrival.custom_status, custom_status);
        times.push(arrival.at);
    }
    times
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Resident memory of a process, in KiB.
fn memory(pid: usize) -> i64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of this machine");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time that a process has used, in seconds.
fn cpu(pid: usize) -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the process, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_A_SECOND
}
