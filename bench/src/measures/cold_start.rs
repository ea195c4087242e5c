//! Functions behind a host of the runtime interface: how long from the start of the process to its first answer, what a
//! warm one adds to its round trips, and how much memory it takes.

use std::path::Path;
use std::time::{Duration, Instant};

use presence::auth::development_token;
use presence::domain::{Rules, UserId};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::crowd::{Member, open_online, strangers};
use crate::process::{Process, resident};
use crate::report::{Section, Table, quantile};
use crate::runtime_api::RuntimeApi;
use crate::stage::{Kept, Servers, Stage, progress};

/// Starts of each function.
const STARTS: usize = 30;
/// Events for a warm one.
const WARM: usize = 1000;

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("cold-start", "Functions behind a local host of the runtime interface");
    let redis = stage.empty(Kept::OnDisk).await;
    let users = strangers(1000);
    open_online(stage, &users, Rules::default()).await;
    let (service, _) = Process::service(&stage.servers, &[]).await;
    // Functions expect the streams, which a service makes.
    drop(service);

    let mut contestants = vec![Function::Bare, Function::Read, Function::Heartbeats];
    if stage.servers.redis_tls_url.is_some() && stage.servers.tls_ca_file.is_some() {
        contestants.push(Function::ReadOverTls);
    } else {
        section.note("The store of this run has no TLS: the start with TLS was not measured.");
    }
    let mut host = RuntimeApi::start().await;
    let columns = ["p50, ms", "p99, ms", "resident, MB"];
    let starts = stage.pick(STARTS, 8);
    let mut table = Table::new(format!("process start to first answer, {starts} starts"), &columns);
    let mut times: Vec<(Vec<f64>, Vec<f64>)> = vec![(Vec::new(), Vec::new()); contestants.len()];
    let bar = progress("starts of functions", starts);
    // In turns, so that none has the machine's better minute. The first of each fills caches and does not count.
    for start in 0..=starts {
        for (function, (times, memory)) in contestants.iter().zip(&mut times) {
            let begun = Instant::now();
            let process = function.start(&stage.servers, &host);
            let answer = host.invoke(&function.event(&users, 0)).await;
            if start > 0 {
                times.push(answer.at.duration_since(begun).as_secs_f64() * 1000.0);
                memory.push(resident(process.id()) / 1e6);
                function.assert_good(&answer.body);
            }
        }
        bar.inc(1);
    }
    let mut medians = Vec::new();
    for (function, (times, memory)) in contestants.iter().zip(&mut times) {
        let [p50, p99] = [0.5, 0.99].map(|part| quantile(times, part));
        table.row(function.name(), &[p50, p99, quantile(memory, 0.5)]);
        medians.push(p50);
    }
    section.tables.push(table);
    section.find("function-start", medians[1], Some(medians[0]), None);
    if let Some(tls) = medians.get(3) {
        section.find("function-start-tls", *tls, Some(medians[0]), None);
    }
    warm(stage, &mut host, &redis, &users, &mut section).await;
    section
}

/// Events one after the other. What the host and the wire take is what the barest function takes.
async fn warm(
    stage: &Stage,
    host: &mut RuntimeApi,
    redis: &MultiplexedConnection,
    users: &[Member],
    section: &mut Section,
) {
    let count = stage.pick(WARM, WARM / 5);
    let mut table = Table::new(format!("warm, {count} events"), &["p50, µs", "p99, µs"]);
    let mut medians = Vec::new();
    for function in [Function::Bare, Function::Read] {
        let process = function.start(&stage.servers, host);
        let mut times = Vec::new();
        for number in 0..count + 100 {
            let answer = host.invoke(&function.event(users, number)).await;
            if number >= 100 {
                times.push(micros(answer.at.duration_since(answer.handed_over)));
            }
        }
        drop(process);
        let [p50, p99] = [0.5, 0.99].map(|part| quantile(&mut times, part));
        table.row(function.name(), &[p50, p99]);
        medians.push(p50);
    }
    let mut round_trips = Vec::new();
    for (user, _) in users.iter().cycle().take(count) {
        let start = Instant::now();
        let mut command = redis::cmd("HGETALL");
        command.arg(format!("presence:user:{user}")).exec_async(&mut redis.clone()).await.unwrap();
        round_trips.push(micros(start.elapsed()));
    }
    let round_trip = quantile(&mut round_trips, 0.5);
    table.row("the round trip to Redis by itself", &[round_trip, quantile(&mut round_trips, 0.99)]);
    let over = medians[1] - medians[0] - round_trip;
    table.row("ours over both", &[over]);
    section.tables.push(table);
    section.find("function-warm", over, None, None);
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    /// Nothing but the loop.
    Bare,
    Read,
    Heartbeats,
    ReadOverTls,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "limit: a bare loop without store and bus",
            Self::Read => "ours: get-presence",
            Self::Heartbeats => "ours: heartbeat-received, ten messages of ten",
            Self::ReadOverTls => "ours: get-presence, TLS to the store",
        }
    }

    fn start(self, servers: &Servers, host: &RuntimeApi) -> Process {
        let address = host.address().to_string();
        let authorities = servers.tls_ca_file.as_deref().map(Path::to_string_lossy).unwrap_or_default();
        let redis_url = match self {
            Self::ReadOverTls => servers.redis_tls_url.as_deref().unwrap_or_default(),
            _ => &servers.redis_url,
        };
        let mut variables = vec![
            ("AWS_LAMBDA_RUNTIME_API", &*address),
            ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("JWT_DEVELOPMENT_TOKENS", "on"),
            ("RUST_LOG", "warn"),
            ("REDIS_URL", redis_url),
            ("NATS_URL", &servers.nats_url),
        ];
        if self == Self::ReadOverTls {
            variables.push(("TLS_CA_FILE", &authorities));
        }
        match self {
            Self::Bare => Process::start("presence-bench", &["bare", "function", &address], &[]),
            Self::Read | Self::ReadOverTls => Process::start("get-presence", &[], &variables),
            Self::Heartbeats => Process::start("heartbeat-received", &[], &variables),
        }
    }

    /// What the function is to process; another one for each number.
    fn event(self, users: &[Member], number: usize) -> Value {
        match self {
            Self::Bare => json!({}),
            Self::Read | Self::ReadOverTls => request(users[number % users.len()].0),
            Self::Heartbeats => batch(&users[..100]),
        }
    }

    fn assert_good(self, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap();
        match self {
            Self::Bare => {}
            Self::Read | Self::ReadOverTls => assert_eq!(answer["statusCode"], 200, "{answer}"),
            Self::Heartbeats => assert_eq!(answer["batchItemFailures"], json!([]), "{answer}"),
        }
    }
}

/// A request as API Gateway tells of it.
fn request(user: UserId) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../../functions/tests/golden/event.json")).unwrap();
    let path = format!("/presence/{user}");
    event["rawPath"] = json!(path);
    event["requestContext"]["http"]["path"] = json!(path);
    event["requestContext"]["http"]["method"] = json!("GET");
    event["headers"]["authorization"] = json!(format!("Bearer {}", development_token(user, Duration::from_secs(600))));
    event
}

/// A batch as the bridge hands it over: ten messages, each with the heartbeats of ten.
fn batch(users: &[Member]) -> Value {
    use base64::Engine;
    let records = users.chunks(10).enumerate().map(|(number, part)| {
        let element = |(user, session): &Member| json!({ "user_id": user, "session_id": session });
        let message = Value::from(part.iter().map(element).collect::<Vec<Value>>()).to_string();
        json!({
            "messageId": format!("PRESENCE:{}", number + 1),
            "subject": presence::events::inputs::HEARTBEAT_RECEIVED,
            "data": base64::prelude::BASE64_STANDARD.encode(message),
        })
    });
    json!({ "eventSource": "nats:jetstream", "Records": records.collect::<Vec<Value>>() })
}
