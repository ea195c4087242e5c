//! Status updates and typing over HTTP, all of them durable and told; and the time until a subscriber hears.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use presence::domain::{Rules, UserId};
use serde_json::json;
use uuid::Uuid;

use super::reads::{CONNECTIONS, OFFERED, TIMEOUT, Timed, VARIABLES, WAITING, authorization, tables};
use crate::crowd::{open_online, strangers};
use crate::http_load::{Prepared, as_fast_as_answered, as_often_as};
use crate::process::{Process, cpu_seconds};
use crate::report::{Plot, PlotKind, Section, Series, Table, quantile};
use crate::stage::{Kept, Stage, progress};
use crate::told::{Listener, Wanted};

/// What Synapse, with the same verbs, reached on such a machine: not replayed here.
const SYNAPSE: [f64; 2] = [390.0, 1_000.0];

/// Status updates a second at which the time to a subscriber is measured.
const LATENCY_RATE: f64 = 1000.0;

/// Connections for more updates than can be served: those of the time until the service begins to refuse.
pub(super) const BURST: usize = 2048;

/// The columns of the updates by what is offered.
const BY_LOAD: [&str; 7] = [
    "the peak just before, a second",
    "offered a second",
    "answered a second",
    "refused a second",
    "p50, ms",
    "p99, ms",
    "cores used by the process",
];

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("updates", "Status updates and typing over HTTP, 64 connections");
    let redis = stage.empty(Kept::OnDisk).await;
    // Everyone is connected: an update without a session would set a lease, and soon there would be as many expiries.
    let users = strangers(stage.pick(150_000, 40_000));
    open_online(stage, &users, Rules { heartbeat_timeout: TIMEOUT, ..Rules::default() }).await;
    let mut users = users.into_iter().map(|(user, _)| user).cycle();
    let (service, ours_at) = Process::service(&stage.servers, &VARIABLES).await;
    // Before everything else: for ten seconds after so much typing the store is busy with keys that expire.
    time_to_a_subscriber(stage, ours_at, &mut users, &mut section).await;
    let (bare, bare_at) = Process::bare(&stage.servers, "server").await;
    let a_round = stage.pick(20_000, 4_000);
    let bar = progress("updates and typing", 2 * stage.rounds);
    for (number, (what, goal, make)) in
        [("status updates", "set-http", update as Make), ("typing", "typing-http", typing as Make)]
            .into_iter()
            .enumerate()
    {
        let mut raw = Timed::new(stage, "limit: a bare handler that writes and publishes", bare.id());
        let mut ours = Timed::new(stage, "ours", service.id());
        for _ in 0..stage.rounds {
            // Five updates of a user within 20 s are allowed: each request is somebody else's.
            ours.round(&redis, ours_at, &next(&mut users, a_round, make)).await;
            raw.round(&redis, bare_at, &next(&mut users, a_round, make)).await;
            bar.inc(1);
        }
        section.find_rate(goal, &ours.contestant, Some(&raw.contestant), Some(SYNAPSE[number]));
        section.tables.extend(tables(what, &[&raw, &ours]));
    }
    by_load(stage, &service, ours_at, &mut users, &mut section).await;
    section.notes.extend(service.remark());
    section
}

pub(super) type Make = fn(UserId) -> Prepared;

/// A request of each of the next users.
pub(super) fn next(users: &mut impl Iterator<Item = UserId>, count: usize, make: Make) -> Arc<[Prepared]> {
    users.take(count).map(make).collect()
}

pub(super) fn update(user: UserId) -> Prepared {
    // Always another text, so that every update is a change.
    let text = Uuid::new_v4().to_string();
    post("/presence/status", user, json!({ "status": "dnd", "custom_status": text }).to_string())
}

fn choice(user: UserId, status: &str) -> Prepared {
    post("/presence/status", user, json!({ "status": status }).to_string())
}

fn typing(user: UserId) -> Prepared {
    post("/presence/typing", user, json!({ "channel_id": Uuid::new_v4() }).to_string())
}

fn post(path: &str, user: UserId, body: String) -> Prepared {
    Prepared { method: Method::POST, path: path.to_owned(), authorization: authorization(user), body: body.into() }
}

/// Updates come at an even pace, and each is timed from the moment it was due to the arrival of its event.
async fn time_to_a_subscriber(
    stage: &Stage,
    address: SocketAddr,
    users: &mut impl Iterator<Item = UserId>,
    section: &mut Section,
) {
    let count = (LATENCY_RATE * stage.pick(15.0, 3.0)) as usize;
    let users: Vec<UserId> = users.take(count).collect();
    // Another choice than in the rounds that follow: what changes nothing is told to nobody.
    let requests: Arc<[Prepared]> = users.iter().map(|user| choice(*user, "idle")).collect();
    let listener = Listener::start(stage, Wanted::Any).await;
    let bar = progress("time to a subscriber", 1);
    let mut answers = as_often_as(address, WAITING, &requests, LATENCY_RATE).await;
    listener.wait_for(count, Duration::from_secs(5)).await;
    bar.inc(1);
    let heard = listener.end().await;
    let due = |number: usize| answers.start + Duration::from_secs_f64(number as f64 / LATENCY_RATE);
    let times = users.iter().enumerate().filter_map(|(number, user)| {
        Some(heard.first.get(user)?.at.saturating_duration_since(due(number)).as_secs_f64() * 1000.0)
    });
    let mut times: Vec<f64> = times.collect();
    let mut table = Table::new("1000 status updates a second", &["p50, ms", "p99, ms", "p99.9, ms", "count"]);
    let quantiles = |values: &mut [f64]| [0.5, 0.99, 0.999].map(|part| quantile(values, part));
    let [p50, p99, p999] = quantiles(&mut times);
    table.row("due to event at a subscriber", &[p50, p99, p999, times.len() as f64]);
    let mut answered: Vec<f64> = answers.latencies.iter_mut().map(|time| *time * 1000.0).collect();
    let [a50, a99, a999] = quantiles(&mut answered);
    table.row("due to answer", &[a50, a99, a999, answered.len() as f64]);
    section.tables.push(table);
    section.find("event-latency", p99, None, None);
    section.note(format!("{} of {count} users were told of, {} of them twice.", times.len(), heard.again));
}

/// Updates that come at their own pace, up to twice as many as can be served. What can be served is found anew before
/// each: on a machine that has other work as well, it is not what it was a minute ago.
async fn by_load(
    stage: &Stage,
    service: &Process,
    address: SocketAddr,
    users: &mut impl Iterator<Item = UserId>,
    section: &mut Section,
) {
    let seconds = stage.pick(3.0, 1.0);
    let a_round = stage.pick(20_000, 4_000);
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    let mut table = Table::new("status updates offered", &BY_LOAD);
    let parts = OFFERED.into_iter().chain([2.0]);
    let bar = progress("offered load", parts.clone().count());
    for part in parts {
        let peak = as_fast_as_answered(address, CONNECTIONS, &next(users, a_round, update)).await.rate();
        let rate = peak * part;
        let requests = next(users, (rate * seconds) as usize, update);
        let before = cpu_seconds(service.id());
        let mut answers = as_often_as(address, BURST, &requests, rate).await;
        let cores = (cpu_seconds(service.id()) - before) / answers.elapsed.as_secs_f64();
        let [half, most] = [0.5, 0.99].map(|part| quantile(&mut answers.latencies, part) * 1000.0);
        p50.push((rate, half));
        p99.push((rate, most));
        let refused = answers.refused as f64 / answers.elapsed.as_secs_f64();
        let name = format!("{:.0} % of the peak", part * 100.0);
        table.row(name, &[peak, rate, answers.rate(), refused, half, most, cores]);
        bar.inc(1);
    }
    section.tables.push(table);
    let series = [("p99", p99), ("p50", p50)];
    section.plots.push(Plot {
        file: "updates-by-load".to_owned(),
        title: "Status updates, stored and told: time to the answer against offered load".to_owned(),
        x: "requests offered a second".to_owned(),
        y: "ms".to_owned(),
        kind: PlotKind::LogY,
        series: series.into_iter().map(|(name, points)| Series::new(name, points)).collect(),
    });
}
