//! Thousands of gateway connections from one process: what an idle one costs, how long a change takes to the last of many
//! subscribers, and which frames were missed or late.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{self, SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::Method;
use presence::auth::development_token;
use presence::domain::UserId;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use uuid::Uuid;

use super::reads::authorization;
use crate::http_load::{Prepared, as_fast_as_answered};
use crate::process::{Process, cpu_seconds, raise_file_limit, resident};
use crate::report::{Section, Table, quantile};
use crate::stage::{Kept, Stage, progress};

/// Connections that are opened at once.
const OPENING: usize = 64;
/// Users who change, and how often each does: five updates in 20 s are allowed.
const WATCHED: usize = 5;
const CHANGES: usize = 4;
/// How often clients send heartbeats.
const INTERVAL: Duration = Duration::from_secs(30);
/// A frame that takes longer is late.
const LATE: Duration = Duration::from_millis(250);
/// A frame that takes longer is missed.
const PATIENCE: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// When the heartbeat was sent that is not answered yet.
type Beat = Arc<Mutex<Option<Instant>>>;

/// What the connections got.
#[derive(Default)]
struct Counts {
    beats: AtomicU64,
    missed_answers: AtomicU64,
    late_answers: AtomicU64,
    lost: AtomicU64,
}

/// The arrival of a change at one subscriber.
struct Arrival {
    custom_status: String,
    at: Instant,
}

pub(crate) async fn measure(stage: &Stage) -> Section {
    raise_file_limit();
    let connections = stage.pick(5000, 500);
    let subscribers = stage.pick(1000, 200);
    let mut section = Section::new("gateway", format!("Gateway: {connections} connections from one process"));
    stage.empty(Kept::OnDisk).await;
    let (service, address) = Process::service(&stage.servers, &[]).await;
    let before = resident(service.id());
    let start = Instant::now();
    let bar = progress("gateway connections", connections);
    let opening = stream::iter(0..connections).map(|_| open(address)).buffer_unordered(OPENING);
    let opened: Vec<Socket> = opening.inspect(|_| bar.inc(1)).collect().await;
    let identified = start.elapsed();
    drop(bar);
    let after = resident(service.id());

    let watched: Vec<UserId> = (0..WATCHED).map(|_| UserId::new(Uuid::new_v4())).collect();
    let (sender, mut arrivals) = mpsc::channel(subscribers * WATCHED * 2);
    let counts = Arc::new(Counts::default());
    for (number, socket) in opened.into_iter().enumerate() {
        let (mut sink, stream) = socket.split();
        if number < subscribers {
            send(&mut sink, json!({ "op": 14, "d": { "user_ids": watched } })).await;
        }
        let beat = Beat::default();
        tokio::spawn(beat_often(sink, number, beat.clone(), counts.clone()));
        tokio::spawn(hear(stream, sender.clone(), beat, counts.clone()));
    }

    let idle = stage.pick(Duration::from_secs(60), Duration::from_secs(35));
    let bar = progress("gateway connections, idle", 1);
    let cpu_before = cpu_seconds(service.id());
    let start = Instant::now();
    sleep(idle).await;
    let cpu = (cpu_seconds(service.id()) - cpu_before) / start.elapsed().as_secs_f64() * 100.0;
    drop(bar);
    let fan_out = changes(address, &watched, subscribers, &mut arrivals).await;

    let [beats, missed, late, lost] = [&counts.beats, &counts.missed_answers, &counts.late_answers, &counts.lost]
        .map(|count| count.load(Ordering::Relaxed) as f64);
    let mut table = Table::new("idle, with heartbeats", &["value"]);
    table.row("identified, connections a second", &[connections as f64 / identified.as_secs_f64()]);
    table.row("memory of the service, KiB a connection", &[(after - before) / 1024.0 / connections as f64]);
    table.row("CPU of the service, % of one core", &[cpu]);
    table.row("heartbeats sent", &[beats]);
    table.row("answers missed", &[missed]);
    table.row("answers later than 250 ms", &[late]);
    table.row("connections lost", &[lost]);
    section.tables.push(table);
    section.tables.push(fan_out.table(subscribers));
    section.notes.extend(service.remark());
    section.note("The clients share the two cores with the service, NATS and Redis.");
    section
}

/// The times of all changes to all subscribers.
#[derive(Default)]
struct FanOut {
    first: Vec<f64>,
    half: Vec<f64>,
    last: Vec<f64>,
    missed: usize,
    late: usize,
}

impl FanOut {
    fn table(&self, subscribers: usize) -> Table {
        let changes = WATCHED * CHANGES;
        let title = format!("{changes} changes, each to {subscribers} subscribers");
        let mut table = Table::new(title, &["median of the changes, ms", "slowest change, ms"]);
        for (name, times) in [("first", &self.first), ("half", &self.half), ("last", &self.last)] {
            let [middle, most] = [0.5, 1.0].map(|part| quantile(&mut times.clone(), part));
            table.row(format!("{name} subscriber reached"), &[middle, most]);
        }
        table.row("frames later than 250 ms, of all changes", &[f64::NAN, self.late as f64]);
        table.row("frames missed, of all changes", &[f64::NAN, self.missed as f64]);
        table
    }
}

async fn changes(
    address: SocketAddr,
    watched: &[UserId],
    subscribers: usize,
    arrivals: &mut mpsc::Receiver<Arrival>,
) -> FanOut {
    let mut fan_out = FanOut::default();
    let bar = progress("changes to subscribers", WATCHED * CHANGES);
    for change in 0..WATCHED * CHANGES {
        let text = format!("Change {change}");
        let body = json!({ "status": "online", "custom_status": text }).to_string().into();
        let authorization = authorization(watched[change % WATCHED]);
        let path = "/presence/status".to_owned();
        let request: Arc<[Prepared]> = Arc::new([Prepared { method: Method::POST, path, authorization, body }]);
        let start = Instant::now();
        as_fast_as_answered(address, 1, &request).await;
        let deadline = start + PATIENCE;
        let mut times = Vec::with_capacity(subscribers);
        while times.len() < subscribers
            && let Ok(Some(arrival)) = timeout_at(deadline, arrivals.recv()).await
        {
            assert_eq!(arrival.custom_status, text, "a change that is not the last one");
            times.push(arrival.at.saturating_duration_since(start).as_secs_f64() * 1000.0);
        }
        fan_out.missed += subscribers - times.len();
        fan_out.late += times.iter().filter(|time| **time > LATE.as_secs_f64() * 1000.0).count();
        fan_out.first.push(quantile(&mut times, 0.0));
        fan_out.half.push(quantile(&mut times, 0.5));
        fan_out.last.push(quantile(&mut times, 1.0));
        bar.inc(1);
    }
    fan_out
}

/// An identified connection of a user of its own.
async fn open(address: SocketAddr) -> Socket {
    let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
    let connected = connect_async_with_config(format!("ws://{address}/gateway"), Some(config), true);
    let (mut socket, _) = timeout(PATIENCE, connected).await.expect("a connection in time").unwrap();
    next(&mut socket).await;
    let token = development_token(UserId::new(Uuid::new_v4()), Duration::from_secs(3600));
    let identify = json!({ "op": 2, "d": { "token": token } });
    socket.send(Message::text(identify.to_string())).await.unwrap();
    assert_eq!(next(&mut socket).await["t"], "READY");
    socket
}

async fn next(socket: &mut Socket) -> Value {
    let message = timeout(PATIENCE, socket.next()).await.expect("a frame in time").unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

async fn send(sink: &mut SplitSink<Socket, Message>, frame: Value) {
    sink.send(Message::text(frame.to_string())).await.unwrap();
}

/// Sends heartbeats as often as documented, each connection at a moment of its own.
async fn beat_often(mut sink: SplitSink<Socket, Message>, number: usize, beat: Beat, counts: Arc<Counts>) {
    let mut due = Instant::now() + INTERVAL.mul_f64(number as f64 * 0.618 % 1.0);
    loop {
        sleep_until(due).await;
        // What is not answered before the next one never was.
        if beat.lock().unwrap().replace(Instant::now()).is_some() {
            counts.missed_answers.fetch_add(1, Ordering::Relaxed);
        }
        if sink.send(Message::text(r#"{"op":1,"d":null}"#)).await.is_err() {
            return;
        }
        counts.beats.fetch_add(1, Ordering::Relaxed);
        due += INTERVAL;
    }
}

async fn hear(mut stream: SplitStream<Socket>, arrivals: mpsc::Sender<Arrival>, beat: Beat, counts: Arc<Counts>) {
    while let Some(Ok(Message::Text(text))) = stream.next().await {
        let at = Instant::now();
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["op"] == 11 {
            let sent = beat.lock().unwrap().take().expect("a heartbeat that is answered");
            if at.duration_since(sent) > LATE {
                counts.late_answers.fetch_add(1, Ordering::Relaxed);
            }
        } else if let Some(custom_status) = frame["d"]["custom_status"].as_str() {
            // The snapshot of a user who was never seen has none.
            drop(arrivals.send(Arrival { custom_status: custom_status.to_owned(), at }).await);
        }
    }
    counts.lost.fetch_add(1, Ordering::Relaxed);
}
