//! Contestants in alternating rounds, and the table of their medians.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use crate::process::cpu_seconds;
use crate::report::{Table, median, quantile};

/// Something to be measured, and what each of its rounds took.
pub(crate) struct Contestant {
    name: String,
    /// Whose processor time counts beside that of Redis and of this process.
    processes: Vec<u32>,
    rounds: Vec<Round>,
}

struct Round {
    operations: usize,
    elapsed: Duration,
    redis_cpu: Duration,
    /// Of this process: the client of Redis, or whoever sends the requests.
    own_cpu: f64,
    /// Of everyone who took part.
    all_cpu: f64,
}

/// The columns of a table of contestants.
const COLUMNS: [&str; 7] = [
    "a second",
    "spread, %",
    "Redis CPU, µs each",
    "client CPU, µs each",
    "rate / limit",
    "CPU of all, µs each",
    "two free cores allow, a second",
];

impl Contestant {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self::of(name, &[])
    }

    /// One that processes of their own take part in.
    pub(crate) fn of(name: impl Into<String>, processes: &[u32]) -> Self {
        Self { name: name.into(), processes: processes.to_owned(), rounds: Vec::new() }
    }

    /// Times one round of so many operations.
    pub(crate) async fn round<T>(
        &mut self,
        redis: &MultiplexedConnection,
        operations: usize,
        work: impl Future<Output = T>,
    ) -> T {
        let server = server_of(redis).await;
        let all = || self.processes.iter().copied().chain([server]).map(cpu_seconds).sum::<f64>() + own_cpu();
        let (before, own_before, all_before) = (redis_cpu(redis).await, own_cpu(), all());
        let start = Instant::now();
        let result = work.await;
        let elapsed = start.elapsed();
        let (own_cpu, all_cpu) = (own_cpu() - own_before, all() - all_before);
        let redis_cpu = redis_cpu(redis).await.saturating_sub(before);
        self.rounds.push(Round { operations, elapsed, redis_cpu, own_cpu, all_cpu });
        result
    }

    /// Operations a second, of the median round.
    pub(crate) fn rate(&self) -> f64 {
        median(self.rates().into_iter())
    }

    /// Redis's own processor time for an operation, in µs.
    pub(crate) fn redis_micros(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.redis_cpu.as_secs_f64() * 1e6 / round.operations as f64))
    }

    /// How many times as fast as the other, of the median round. Rounds that follow each other had the same noise.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        let pairs = self.rates().into_iter().zip(other.rates());
        median(pairs.map(|(ours, others)| ours / others))
    }

    /// Operations a second for which two cores have time if they have nothing else to do: Redis's thread is on one of
    /// them at most. Says what a busy machine can't show, and is never quite reached.
    pub(crate) fn allowed(&self) -> f64 {
        (1e6 / self.redis_micros()).min(2e6 / self.all_micros())
    }

    fn all_micros(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.all_cpu * 1e6 / round.operations as f64))
    }

    fn own_micros(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.own_cpu * 1e6 / round.operations as f64))
    }

    fn rates(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.operations as f64 / round.elapsed.as_secs_f64()).collect()
    }

    /// How far apart the slowest and the fastest round are, as a part of the median.
    fn spread(&self) -> f64 {
        let mut rates = self.rates();
        (quantile(&mut rates, 1.0) - quantile(&mut rates, 0.0)) * 100.0 / self.rate()
    }
}

/// The medians, each beside the first contestant's, which is the limit.
pub(crate) fn table(title: impl Into<String>, contestants: &[&Contestant]) -> Table {
    let mut table = Table::new(title, &COLUMNS);
    for one in contestants {
        table.row(
            &one.name,
            &[
                one.rate(),
                one.spread(),
                one.redis_micros(),
                one.own_micros(),
                one.ratio_to(contestants[0]),
                one.all_micros(),
                one.allowed(),
            ],
        );
    }
    table
}

/// The process of the server.
pub(crate) async fn server_of(redis: &MultiplexedConnection) -> u32 {
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis.clone()).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("process_id:"));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

fn own_cpu() -> f64 {
    cpu_seconds(std::process::id())
}

/// What Redis's main thread has used so far.
pub(crate) async fn redis_cpu(redis: &MultiplexedConnection) -> Duration {
    let mut redis = redis.clone();
    let info: String = redis::cmd("INFO").arg("cpu").query_async(&mut redis).await.unwrap();
    let seconds = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or_default()
    };
    Duration::from_secs_f64(seconds("used_cpu_sys_main_thread") + seconds("used_cpu_user_main_thread"))
}
