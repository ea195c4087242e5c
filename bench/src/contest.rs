//! Contestants in alternating rounds, and the table of their medians.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

/// What each round of one contestant took.
pub(crate) struct Contestant {
    name: &'static str,
    rounds: Vec<Round>,
}

struct Round {
    operations: usize,
    elapsed: Duration,
    redis_cpu: Duration,
}

impl Contestant {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, rounds: Vec::new() }
    }

    /// Times one round of so many operations.
    pub(crate) async fn round(
        &mut self,
        redis: &MultiplexedConnection,
        operations: usize,
        work: impl Future<Output = ()>,
    ) {
        let before = redis_cpu(redis).await;
        let start = Instant::now();
        work.await;
        let elapsed = start.elapsed();
        let redis_cpu = redis_cpu(redis).await.saturating_sub(before);
        self.rounds.push(Round { operations, elapsed, redis_cpu });
    }

    fn rate(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.operations as f64 / round.elapsed.as_secs_f64()))
    }

    fn micros_of_redis(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.redis_cpu.as_secs_f64() * 1e6 / round.operations as f64))
    }
}

/// Prints the medians, each beside the first contestant's.
pub(crate) fn print(title: &str, contestants: &[Contestant]) {
    println!("\n### {title}\n\n| | operations/s | Redis CPU, µs each | rate, as a part of the first |");
    println!("| --- | ---: | ---: | ---: |");
    let first = contestants[0].rate();
    for contestant in contestants {
        let (rate, cpu) = (contestant.rate(), contestant.micros_of_redis());
        println!("| {} | {rate:.0} | {cpu:.2} | {:.2} |", contestant.name, rate / first);
    }
}

/// What Redis's main thread has used so far.
async fn redis_cpu(redis: &MultiplexedConnection) -> Duration {
    let mut redis = redis.clone();
    let info: String = redis::cmd("INFO").arg("cpu").query_async(&mut redis).await.unwrap();
    let seconds = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or_default()
    };
    Duration::from_secs_f64(seconds("used_cpu_sys_main_thread") + seconds("used_cpu_user_main_thread"))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
