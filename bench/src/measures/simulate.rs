//! A mixed load as of so many users at the rates of the model, and what it costs here against what the model says of it
//! with the unit costs of the other measurements.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use futures::future::join_all;
use hyper::Method;
use presence::domain::{Rules, UserId};
use presence::events::inputs::{CONNECTION_CLOSED, CONNECTION_OPENED, HEARTBEAT_RECEIVED};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::reads::{WAITING, authorization};
use crate::contest::redis_cpu;
use crate::crowd::{Member, open_online, strangers};
use crate::http_load::{Prepared, as_often_as};
use crate::model::{Costs, HABITS};
use crate::page;
use crate::process::{Process, cpu_seconds, resident};
use crate::report::{Section, Table, quantile};
use crate::stage::{Kept, Stage, progress};

/// Between two messages of the gateways.
const TICK: Duration = Duration::from_millis(100);

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("simulate", "The model against a mixed load");
    let columns =
        ["Redis CPU, % of a core", "the model says, %", "service CPU, %", "NATS CPU, %", "service, MB", "read p99, ms"];
    let mut table = Table::new("users online", &columns);
    let costs = stage.results.as_deref().and_then(|folder| Costs::of(&page::read(folder)));
    if costs.is_none() {
        section.note("Nothing to compare with: the model needs the results of the other measurements (`--results`).");
    }
    for &users in stage.pick(&[10_000, 50_000, 100_000, 200_000][..], &[10_000][..]) {
        let seen = run(stage, users).await;
        let rates = HABITS.of(users as f64);
        let predicted = costs.as_ref().map_or(f64::NAN, |costs| costs.redis(&rates, &HABITS) * 100.0);
        let row = [seen.redis, predicted, seen.service, seen.nats, seen.memory / 1e6, seen.read_p99 * 1000.0];
        table.row(format!("{users}"), &row);
    }
    section.tables.push(table);
    section.note(
        "The model adds up costs of full batches, and knows nothing of what goes on without users: each tick looks at the \
         shards of both indexes. It says too little where little goes on.",
    );
    section
}

/// What a load took, each in percent of one core.
struct Seen {
    redis: f64,
    service: f64,
    nats: f64,
    /// Bytes.
    memory: f64,
    /// Seconds.
    read_p99: f64,
}

async fn run(stage: &Stage, users: usize) -> Seen {
    let redis = stage.empty(Kept::OnDisk).await;
    let members = Arc::new(strangers(users));
    open_online(stage, &members, Rules::default()).await;
    let (service, address) = Process::service(&stage.servers, &[]).await;
    let time = stage.pick(Duration::from_secs(20), Duration::from_secs(6));
    let bar = progress(&format!("simulated: {users} online"), 1);
    // From before the first heartbeats are due, so that nobody is gone.
    let gateways = tokio::spawn(gateways(jetstream::new(stage.nats().await), members.clone(), time + TICK * 50));
    tokio::time::sleep(TICK * 20).await;

    let before = [redis_cpu(&redis).await.as_secs_f64(), cpu_seconds(service.id()), nats_cpu(stage)];
    let start = Instant::now();
    let read_p99 = clients(address, &members, time).await;
    let elapsed = start.elapsed().as_secs_f64();
    let after = [redis_cpu(&redis).await.as_secs_f64(), cpu_seconds(service.id()), nats_cpu(stage)];
    let [redis_part, service_part, nats] = [0, 1, 2].map(|place| (after[place] - before[place]) / elapsed * 100.0);
    let memory = resident(service.id());
    gateways.await.unwrap();
    bar.inc(1);
    assert_still_online(&redis, users).await;
    Seen { redis: redis_part, service: service_part, nats, memory, read_p99 }
}

fn nats_cpu(stage: &Stage) -> f64 {
    stage.servers.nats_pid.map_or(f64::NAN, cpu_seconds)
}

/// Users whose heartbeats were lost would cost nothing.
async fn assert_still_online(redis: &MultiplexedConnection, users: usize) {
    let mut pipe = redis::pipe();
    (0..presence::store::SHARDS).for_each(|shard| {
        pipe.cmd("ZCARD").arg(format!("presence:deadlines:{shard}"));
    });
    let online: Vec<usize> = pipe.query_async(&mut redis.clone()).await.unwrap();
    let online: usize = online.into_iter().sum();
    assert!(online >= users, "only {online} of {users} are still online");
}

/// Heartbeats of everyone, and connections that come and go.
async fn gateways(jetstream: Context, members: Arc<Vec<Member>>, time: Duration) {
    let rates = HABITS.of(members.len() as f64);
    let a_tick = |rate: f64| rate * TICK.as_secs_f64();
    let (start, ticks) = (Instant::now(), (time.as_secs_f64() / TICK.as_secs_f64()) as usize);
    let mut came: Vec<Member> = Vec::new();
    for tick in 0..ticks {
        sleep_until(start + TICK * tick as u32).await;
        let place = |tick: usize, rate: f64| (a_tick(rate) * tick as f64) as usize;
        let beating = place(tick, rates.heartbeats)..place(tick + 1, rates.heartbeats);
        let beating: Vec<&Member> = beating.map(|place| &members[place % members.len()]).collect();
        let told = beating.chunks(HABITS.message as usize).map(|some| tell(&jetstream, HEARTBEAT_RECEIVED, some));
        join_all(told).await;
        let coming = strangers(place(tick + 1, rates.opens) - place(tick, rates.opens));
        let going = std::mem::replace(&mut came, coming);
        join_all(came.iter().map(async |one| tell(&jetstream, CONNECTION_OPENED, &[one]).await)).await;
        join_all(going.iter().map(async |one| tell(&jetstream, CONNECTION_CLOSED, &[one]).await)).await;
    }
}

async fn tell(jetstream: &Context, subject: &'static str, members: &[&Member]) {
    let element = |(user, session): &&Member| json!({ "user_id": user, "session_id": session });
    let message: Vec<Value> = members.iter().map(element).collect();
    let sent = jetstream.publish(subject, Value::from(message).to_string().into()).await.unwrap();
    sent.await.expect("JetStream has the message");
}

/// Requests of all kinds at once; the p99 of the bulk reads, in seconds.
async fn clients(address: SocketAddr, members: &[Member], time: Duration) -> f64 {
    let rates = HABITS.of(members.len() as f64);
    let count = |rate: f64| (rate * time.as_secs_f64()) as usize;
    let somebody = |number: usize| members[number * 7 % members.len()].0;
    let post = |path: &str, user: UserId, body: Value| Prepared {
        method: Method::POST,
        path: path.to_owned(),
        authorization: authorization(user),
        body: body.to_string().into(),
    };
    let updates: Arc<[Prepared]> = (0..count(rates.updates))
        .map(|number| post("/presence/status", somebody(number), json!({ "status": "dnd" })))
        .collect();
    let typing = (0..count(rates.typing))
        .map(|number| post("/presence/typing", somebody(number), json!({ "channel_id": Uuid::new_v4() })));
    let typing: Arc<[Prepared]> = typing.collect();
    let reads = (0..count(rates.bulk_reads)).map(|number| {
        let first = number * HABITS.read_users as usize;
        let asked = (first..first + HABITS.read_users as usize).map(|place| members[place % members.len()].0);
        let asked: Vec<String> = asked.map(|user| user.to_string()).collect();
        post("/presence/bulk", members[0].0, json!({ "user_ids": asked }))
    });
    let reads: Arc<[Prepared]> = reads.collect();
    let (_, _, mut answers) = tokio::join!(
        as_often_as(address, WAITING / 8, &updates, rates.updates),
        as_often_as(address, WAITING / 8, &typing, rates.typing),
        as_often_as(address, WAITING / 8, &reads, rates.bulk_reads),
    );
    quantile(&mut answers.latencies, 0.99)
}
