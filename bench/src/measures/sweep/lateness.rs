//! How late each user who fell silent is told, by the service as a process, and by Redis's own expiry events.

use std::time::Duration;

use futures::StreamExt;
use presence::domain::Timestamp;
use presence::events::inputs::CONNECTION_OPENED;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::crowd::{BATCH, Member, strangers};
use crate::process::Process;
use crate::report::{Plot, PlotKind, Section, Series, Table, quantile};
use crate::stage::{Kept, Stage, progress};
use crate::told::{Listener, Wanted};

/// The service's usual HEARTBEAT_TIMEOUT.
const TIMEOUT: Duration = Duration::from_secs(45);
/// How long before their deadline the crowd opens: as long as it takes to store them all, and to spare.
const BEFORE: Duration = Duration::from_secs(20);
/// Over how long the deadlines are spread where not all vanish at once.
const SPREAD_MS: i64 = 10_000;
/// Keys with a long life beside those that expire, and how many of these.
const OTHERS: usize = 500_000;
const EXPIRING: usize = 1000;

pub(crate) async fn measure(stage: &Stage, section: &mut Section) {
    let redis = stage.empty(Kept::OnDisk).await;
    let (service, _) = Process::service(&stage.servers, &[]).await;
    let (few, others) = (stage.users / 10, stage.pick(OTHERS, OTHERS / 10));
    let mut at_once = vanish(stage, &redis, stage.users, 0).await;
    let mut spread = vanish(stage, &redis, few, SPREAD_MS).await;
    section.notes.extend(service.remark());
    drop(service);
    let mut expired = Vanished { late: key_expiry(stage, others).await, again: 0 };

    let columns = ["p50, s", "p99, s", "last, s", "not told within a minute", "told again"];
    let mut table = Table::new("from the deadline to the event", &columns);
    let mut row = |name: String, Vanished { late, again }: &mut Vanished, all: usize| {
        let [p50, p99, last] = [0.5, 0.99, 1.0].map(|part| quantile(late, part));
        table.row(name, &[p50, p99, last, (all - late.len()) as f64, *again as f64]);
    };
    row(format!("ours: {few} vanish within 10 s"), &mut spread, few);
    row(format!("ours: {} vanish at once", stage.users), &mut at_once, stage.users);
    row(format!("peer: Redis's expiry events, {EXPIRING} due beside {others} others"), &mut expired, EXPIRING);
    section.tables.push(table);
    let all_told = at_once.late.len() == stage.users;
    // Nobody waited longer.
    let last = if all_told { quantile(&mut at_once.late, 1.0) } else { 60.0 };
    section.find("sweep-vanish", last, None, None);
    section.plots.push(Plot {
        file: "offline-lateness".to_owned(),
        title: "How late it is told that someone is gone".to_owned(),
        x: "seconds after the deadline".to_owned(),
        y: "% of the users".to_owned(),
        kind: PlotKind::Bars,
        series: vec![
            Series::new("ours", histogram(&spread.late, few)),
            Series::new("ours, all at once", histogram(&at_once.late, stage.users)),
            Series::new("Redis's expiry events", histogram(&expired.late, EXPIRING)),
        ],
    });
}

/// Users are opened so long ago that all of them are over in a while; how late each is told, in seconds.
async fn vanish(stage: &Stage, redis: &redis::aio::MultiplexedConnection, count: usize, spread_ms: i64) -> Vanished {
    let users = strangers(count);
    let listener = Listener::start(stage, Wanted::Offline).await;
    let bar = progress(&format!("{count} vanish"), 2);
    let (begun, now) = (Instant::now(), store_ms(redis).await);
    let opened = now - (TIMEOUT - BEFORE).as_millis() as i64;
    tell_of(stage, &users, |place| opened + spread_ms * place as i64 / count as i64).await;
    let patience = BEFORE + Duration::from_millis(spread_ms as u64) + Duration::from_secs(60);
    bar.inc(1);
    listener.wait_for(count, patience).await;
    bar.inc(1);
    let heard = listener.end().await;
    let at = |instant: Instant| now + instant.saturating_duration_since(begun).as_millis() as i64;
    let told = users.iter().filter_map(|(user, _)| heard.first.get(user));
    // The version of someone who fell silent is the deadline.
    let late = told.map(|told| (at(told.at) - told.version) as f64 / 1000.0).collect();
    Vanished { late, again: heard.again }
}

/// How late each was told of, in seconds, and how many were told of once more.
struct Vanished {
    late: Vec<f64>,
    again: usize,
}

/// Opens in arrays, as a gateway tells of them, each at its moment.
async fn tell_of(stage: &Stage, users: &[Member], opened_at: impl Fn(usize) -> i64) {
    let jetstream = async_nats::jetstream::new(stage.nats().await);
    for (number, batch) in users.chunks(BATCH).enumerate() {
        let element = |(place, (user, session)): (usize, &Member)| {
            let timestamp = opened_at(number * BATCH + place);
            json!({ "user_id": user, "session_id": session, "timestamp": timestamp })
        };
        let message: Vec<Value> = batch.iter().enumerate().map(element).collect();
        let payload = Value::from(message).to_string().into();
        jetstream.publish(CONNECTION_OPENED, payload).await.unwrap().await.unwrap();
    }
}

/// Keys that expire among many that do not; how late Redis tells of each, within a minute.
async fn key_expiry(stage: &Stage, others: usize) -> Vec<f64> {
    let redis = stage.empty(Kept::InMemory).await;
    let set = |name: &str, value: &str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg(name).arg(value);
        command
    };
    set("notify-keyspace-events", "Ex").exec_async(&mut redis.clone()).await.unwrap();
    let client = redis::Client::open(&*stage.servers.redis_url).unwrap();
    let mut events = client.get_async_pubsub().await.unwrap();
    events.subscribe("__keyevent@0__:expired").await.unwrap();
    let others: Vec<usize> = (0..others).collect();
    for some in others.chunks(10_000) {
        let mut pipe = redis::pipe();
        some.iter().for_each(|number| {
            pipe.cmd("SET").arg(format!("other:{number}")).arg("online").arg("EX").arg(3600).ignore();
        });
        pipe.exec_async(&mut redis.clone()).await.unwrap();
    }
    let mut pipe = redis::pipe();
    for number in 0..EXPIRING {
        pipe.cmd("SET").arg(format!("peer:{number}")).arg("online").arg("PX").arg(1000).ignore();
    }
    pipe.exec_async(&mut redis.clone()).await.unwrap();
    let due = Instant::now() + Duration::from_secs(1);
    let bar = progress("Redis's own expiry events", EXPIRING);
    let mut late = Vec::new();
    let deadline = due + Duration::from_secs(stage.pick(60, 15));
    let mut messages = events.on_message();
    while late.len() < EXPIRING
        && let Ok(Some(_)) = tokio::time::timeout_at(deadline, messages.next()).await
    {
        late.push(due.elapsed().as_secs_f64());
        bar.inc(1);
    }
    set("notify-keyspace-events", "").exec_async(&mut redis.clone()).await.unwrap();
    late
}

async fn store_ms(redis: &redis::aio::MultiplexedConnection) -> i64 {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut redis.clone()).await.unwrap();
    Timestamp::from_millis(seconds * 1000 + micros / 1000).millis()
}

/// The parts of all, in percent, from each power of two of a millisecond to the next.
fn histogram(late: &[f64], all: usize) -> Vec<(f64, f64)> {
    let edges = (0..17).map(|power| 0.001 * f64::from(1_u32 << power));
    let part = |from: f64| {
        let inside = |seconds: &&f64| **seconds >= from && **seconds < from * crate::plot::BAR;
        let first = |seconds: &&f64| from == 0.001 && **seconds < from;
        late.iter().filter(|seconds| inside(seconds) || first(seconds)).count()
    };
    edges.map(|from| (from, part(from) as f64 * 100.0 / all.max(1) as f64)).collect()
}
