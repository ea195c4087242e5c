//! Single reads over HTTP, and how long they take as more of them come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use presence::auth::development_token;
use presence::domain::{Rules, UserId};

use crate::contest::{self, Contestant};
use crate::crowd::{open_online, strangers};
use crate::http_load::{Answers, Prepared, as_fast_as_answered, as_often_as};
use crate::process::{Process, cpu_seconds};
use crate::report::{Plot, PlotKind, Section, Series, Table, median, quantile};
use crate::stage::{Kept, Stage, progress};

/// Connections with one request under way each.
pub(crate) const CONNECTIONS: usize = 64;
/// Sessions live as long as they may, so that nobody's time is up in the middle of a round.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(299);
/// The service's variables for that.
pub(crate) const VARIABLES: [(&str, &str); 2] = [("HEARTBEAT_TIMEOUT", "299"), ("HEARTBEAT_INTERVAL", "200")];
/// What is offered, as parts of what is answered at most.
pub(crate) const OFFERED: [f64; 8] = [0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2];
/// Connections for requests that come whether or not others are answered: as many may wait.
pub(crate) const WAITING: usize = 512;

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("reads", "Single reads over HTTP, 64 connections");
    let redis = stage.empty(Kept::OnDisk).await;
    let users = strangers(stage.users.min(50_000));
    open_online(stage, &users, Rules { heartbeat_timeout: TIMEOUT, ..Rules::default() }).await;
    let (service, ours_at) = Process::service(&stage.servers, &VARIABLES).await;
    let (bare, bare_at) = Process::bare(&stage.servers, "server").await;
    let token = authorization(users[0].0);
    let requests = users.iter().map(|(user, _)| Prepared {
        method: Method::GET,
        path: format!("/presence/{user}"),
        authorization: token.clone(),
        body: Bytes::new(),
    });
    let requests: Arc<[Prepared]> = requests.collect();
    let mut raw = Timed::new(stage, "limit: a bare handler that does one HGETALL", bare.id());
    let mut ours = Timed::new(stage, "ours", service.id());
    let bar = progress("reads over HTTP", stage.rounds + 1);
    as_fast_as_answered(ours_at, CONNECTIONS, &requests).await;
    as_fast_as_answered(bare_at, CONNECTIONS, &requests).await;
    bar.inc(1);
    for _ in 0..stage.rounds {
        ours.round(&redis, ours_at, &requests).await;
        raw.round(&redis, bare_at, &requests).await;
        bar.inc(1);
    }
    section.find("read-http", ours.contestant.ratio_to(&raw.contestant), None, None);
    section.tables.extend(tables("reads", &[&raw, &ours]));
    let peak = ours.contestant.rate();
    let curves = [
        offer(stage, ours_at, &requests, peak, "ours").await,
        offer(stage, bare_at, &requests, peak, "bare handler").await,
    ];
    section.plots.push(Plot {
        file: "reads-by-load".to_owned(),
        title: "Single reads: time to the answer against offered load".to_owned(),
        x: "requests offered a second".to_owned(),
        y: "p99, ms".to_owned(),
        kind: PlotKind::LogY,
        series: curves.into(),
    });
    section.notes.extend(service.remark());
    section.note("A request that had to wait for a connection counts from the moment at which it was due.");
    section
}

/// The latencies of one contestant at each offered load.
async fn offer(stage: &Stage, address: SocketAddr, requests: &Arc<[Prepared]>, peak: f64, name: &str) -> Series {
    let seconds = stage.pick(3.0, 1.0);
    let mut points = Vec::new();
    let bar = progress(&format!("offered load, {name}"), OFFERED.len());
    for part in OFFERED {
        let rate = peak * part;
        let some: Arc<[Prepared]> = requests.iter().cycle().take((rate * seconds) as usize).cloned().collect();
        let mut answers = as_often_as(address, WAITING, &some, rate).await;
        points.push((rate, quantile(&mut answers.latencies, 0.99) * 1000.0));
        bar.inc(1);
    }
    Series::new(name, points)
}

/// A contestant with the times of its answers, and with the processor time of its process.
pub(crate) struct Timed {
    pub(crate) contestant: Contestant,
    name: String,
    pid: u32,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
    refused: usize,
}

impl Timed {
    pub(crate) fn new(stage: &Stage, name: &str, pid: u32) -> Self {
        let contestant = Contestant::of(name, &stage.with_nats(&[pid]));
        Self { contestant, name: name.to_owned(), pid, p50: vec![], p99: vec![], cpu: vec![], refused: 0 }
    }

    pub(crate) async fn round(
        &mut self,
        redis: &redis::aio::MultiplexedConnection,
        address: SocketAddr,
        requests: &Arc<[Prepared]>,
    ) {
        let before = cpu_seconds(self.pid);
        let work = as_fast_as_answered(address, CONNECTIONS, requests);
        let Answers { mut latencies, refused, .. } = self.contestant.round(redis, requests.len(), work).await;
        self.cpu.push((cpu_seconds(self.pid) - before) * 1e6 / requests.len() as f64);
        self.p50.push(quantile(&mut latencies, 0.5) * 1000.0);
        self.p99.push(quantile(&mut latencies, 0.99) * 1000.0);
        self.refused += refused;
    }
}

/// The rates, and the times beside them.
pub(crate) fn tables(title: &str, contestants: &[&Timed]) -> [Table; 2] {
    let rates: Vec<&Contestant> = contestants.iter().map(|one| &one.contestant).collect();
    let columns = ["p50, ms", "p99, ms", "CPU of the process, µs each", "refused"];
    let mut times = Table::new(format!("{title}: times"), &columns);
    for one in contestants {
        let middle = |values: &[f64]| median(values.iter().copied());
        times.row(&one.name, &[middle(&one.p50), middle(&one.p99), middle(&one.cpu), one.refused as f64]);
    }
    [contest::table(title, &rates), times]
}

/// A token that the service accepts while it has no key.
pub(crate) fn authorization(user: UserId) -> HeaderValue {
    let token = development_token(user, Duration::from_secs(3600));
    HeaderValue::from_str(&format!("Bearer {token}")).unwrap()
}
