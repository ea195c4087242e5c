//! More status updates than can be served: what a refusal costs beside an update, and how much of the peak is left at
//! twice the load: with all on the same cores, where a client that offers more leaves less for the service, and with the
//! service on a core that it shares with something else, so that its own processor time is the limit and nobody else's.

use std::net::SocketAddr;

use presence::domain::{Rules, UserId};
use redis::aio::MultiplexedConnection;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::reads::{CONNECTIONS, TIMEOUT, VARIABLES, authorization};
use super::updates::{BURST, next, update};
use crate::contest::server_of;
use crate::crowd::{open_online, strangers};
use crate::http_load::{as_fast_as_answered, as_often_as};
use crate::process::{Neighbour, Process, cores, cpu_seconds, keep_on};
use crate::report::{Section, Table, median, quantile};
use crate::stage::{Kept, Stage, progress};

/// What is offered, as parts of the peak.
const OFFERED: [f64; 4] = [0.7, 1.0, 1.2, 2.0];

/// Variables of a service that has one place and no queue.
const ONE_PLACE: [(&str, &str); 2] = [("MAX_IN_FLIGHT", "1"), ("MAX_QUEUE_TIME", "0")];

/// The columns of the costs.
const COSTS: [&str; 5] = ["service, µs each", "client, µs each", "Redis, µs each", "NATS, µs each", "all, µs each"];

/// The columns of a load, before what each process used.
const BY_LOAD: [&str; 10] = [
    "the peak just before, a second",
    "offered a second",
    "answered a second",
    "answered / peak, %",
    "refused a second",
    "p99, ms",
    "service, cores",
    "client, cores",
    "Redis, cores",
    "NATS, cores",
];

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("overload", "More status updates than can be served");
    let redis = stage.empty(Kept::OnDisk).await;
    // Everyone is connected: an update without a session would set a lease, and soon there would be as many expiries.
    let users = strangers(stage.pick(150_000, 40_000));
    open_online(stage, &users, Rules { heartbeat_timeout: TIMEOUT, ..Rules::default() }).await;
    let mut users = users.into_iter().map(|(user, _)| user).cycle();
    costs(stage, &redis, &mut users, &mut section).await;

    let (service, address) = Process::service(&stage.servers, &VARIABLES).await;
    let side = Sides::of(stage, &service, &redis).await;
    section.tables.push(side.by_load(stage, address, &mut users, "all on the same cores").await);
    let all = cores();
    if let [first, others @ ..] = all.as_slice()
        && !others.is_empty()
    {
        keep_on(side.service, &[*first]);
        side.others().for_each(|pid| keep_on(pid, others));
        let neighbour = Neighbour::on(*first);
        section.tables.push(side.by_load(stage, address, &mut users, "the service on a part of one core").await);
        drop(neighbour);
        side.others().for_each(|pid| keep_on(pid, &all));
    }
    section.note("Medians; the rows were taken in turn.");
    section.notes.extend(service.remark());
    section
}

/// An update that is served and one that is refused, in turn. Where `s` is what the one costs and `r` the other, and the
/// processor is the limit, `(s - 2r) / (s - r)` of the peak is left at twice the load.
async fn costs(
    stage: &Stage,
    redis: &MultiplexedConnection,
    users: &mut impl Iterator<Item = UserId>,
    section: &mut Section,
) {
    let (serving, serving_at) = Process::service(&stage.servers, &VARIABLES).await;
    let full: Vec<(&str, &str)> = VARIABLES.into_iter().chain(ONE_PLACE).collect();
    let (refusing, refusing_at) = Process::service(&stage.servers, &full).await;
    let contestants = [("an update", &serving, serving_at), ("a refusal", &refusing, refusing_at)];
    let a_round = stage.pick(20_000, 4_000);
    let mut rounds = contestants.map(|_| Vec::new());
    let bar = progress("what a refusal costs", stage.rounds);
    for _ in 0..stage.rounds {
        for ((name, process, address), rounds) in contestants.iter().zip(&mut rounds) {
            let requests = next(users, a_round, update);
            let _held = if *name == "a refusal" { Some(hold_the_place(*address).await) } else { None };
            let side = Sides::of(stage, process, redis).await;
            let before = side.used();
            let answers = as_fast_as_answered(*address, CONNECTIONS, &requests).await;
            let used = side.since(before);
            let expected = if *name == "a refusal" { answers.refused } else { answers.latencies.len() };
            assert!(expected > a_round * 99 / 100, "{name}: {} of {a_round} were refused", answers.refused);
            rounds.push(used.map(|seconds| seconds * 1e6 / a_round as f64));
        }
        bar.inc(1);
    }
    let mut table = Table::new("processor time", &COSTS);
    let mut sums = Vec::new();
    for ((name, ..), rounds) in contestants.iter().zip(&rounds) {
        let each = [0, 1, 2, 3].map(|place| median(rounds.iter().map(|round: &[f64; 4]| round[place])));
        let all = each.iter().filter(|one| one.is_finite()).sum();
        table.row(*name, &[each[0], each[1], each[2], each[3], all]);
        sums.push([each[0], all]);
    }
    section.tables.push(table);
    let left = |place: usize| {
        let (served, refused): (f64, f64) = (sums[0][place], sums[1][place]);
        (served - 2.0 * refused) / (served - refused) * 100.0
    };
    section.note(format!(
        "If only that counted, {:.0} % of the peak were left at twice the load where the service has its cores for itself, and \
         {:.0} % where all share them.",
        left(0),
        left(1)
    ));
}

/// Takes the only place, for as long as the body of a request may take, which does not come.
async fn hold_the_place(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = authorization(UserId::new(Uuid::new_v4()));
    let head = format!(
        "POST /presence/status HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {}\r\ncontent-type: application/json\r\n\
         content-length: 2\r\n\r\n",
        token.to_str().unwrap()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The processes that take part.
struct Sides {
    service: u32,
    redis: u32,
    nats: Option<u32>,
}

impl Sides {
    async fn of(stage: &Stage, service: &Process, redis: &MultiplexedConnection) -> Self {
        Self { service: service.id(), redis: server_of(redis).await, nats: stage.servers.nats_pid }
    }

    fn others(&self) -> impl Iterator<Item = u32> {
        [std::process::id(), self.redis].into_iter().chain(self.nats)
    }

    /// Processor time so far of the service, the client, Redis and NATS, in seconds.
    fn used(&self) -> [f64; 4] {
        let nats = self.nats.map_or(f64::NAN, cpu_seconds);
        [cpu_seconds(self.service), cpu_seconds(std::process::id()), cpu_seconds(self.redis), nats]
    }

    fn since(&self, before: [f64; 4]) -> [f64; 4] {
        let now = self.used();
        [0, 1, 2, 3].map(|place| now[place] - before[place])
    }

    /// Updates that come at their own pace. What can be served is found anew before each row.
    async fn by_load(
        &self,
        stage: &Stage,
        address: SocketAddr,
        users: &mut impl Iterator<Item = UserId>,
        title: &str,
    ) -> Table {
        let (seconds, a_round) = (stage.pick(3.0, 1.0), stage.pick(20_000, 4_000));
        let mut rows = OFFERED.map(|_| Vec::new());
        let bar = progress(title, stage.rounds * OFFERED.len());
        for _ in 0..stage.rounds {
            for (part, rows) in OFFERED.iter().zip(&mut rows) {
                let peak = as_fast_as_answered(address, CONNECTIONS, &next(users, a_round, update)).await.rate();
                let rate = peak * part;
                let requests = next(users, (rate * seconds) as usize, update);
                let before = self.used();
                let mut answers = as_often_as(address, BURST, &requests, rate).await;
                let elapsed = answers.elapsed.as_secs_f64();
                let cores = self.since(before).map(|seconds| seconds / elapsed);
                let p99 = quantile(&mut answers.latencies, 0.99) * 1000.0;
                let (answered, refused) = (answers.rate(), answers.refused as f64 / elapsed);
                let load = [peak, rate, answered, answered / peak * 100.0, refused, p99];
                rows.push(load.into_iter().chain(cores).collect::<Vec<f64>>());
                bar.inc(1);
            }
        }
        let mut table = Table::new(title, &BY_LOAD);
        for (part, rows) in OFFERED.iter().zip(&rows) {
            let middle = (0..BY_LOAD.len()).map(|place| median(rows.iter().map(|row| row[place])));
            table.row(format!("{:.0} % of the peak", part * 100.0), &middle.collect::<Vec<f64>>());
        }
        table
    }
}
