//! Everything at once for as long as one likes: trial after trial on the same servers, with something broken every few
//! seconds, and one table at the end. `scripts/soak` builds and runs it. Fails if anything was found.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that is run by hand, whose output is its result")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use presence_tests::trial::{ALL, Report, Stage, Trial};
use presence_tests::{now_ms, setting};
use tokio::time::Instant;

/// How long one trial lives before it is judged.
const ROUND: Duration = Duration::from_secs(45);
const USERS: usize = 40;
const SERVICES: usize = 3;
const HEARTBEAT_TIMEOUT: u32 = 4;

/// What a service that was never restarted may have grown by since the first trials.
const MEMORY_KIB: u64 = 32 * 1024;
const DESCRIPTORS: usize = 24;
const CONNECTIONS: usize = 12;

/// Rows of the table: tried, violations.
type Table = BTreeMap<String, (usize, usize)>;

#[tokio::main]
async fn main() -> ExitCode {
    let length = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => Duration::from_secs(30 * 60),
        [short] if short == "--short" => ROUND,
        [minutes, count] if minutes == "--minutes" && count.parse::<u32>().is_ok() => {
            Duration::from_secs(count.parse::<u64>().unwrap() * 60)
        }
        _ => {
            println!("usage: presence-soak [--short | --minutes N]");
            return ExitCode::FAILURE;
        }
    };
    let first_seed = setting("SEED", now_ms() as u64);
    println!("first seed: {first_seed}");
    let mut stage = Stage::start(SERVICES, HEARTBEAT_TIMEOUT).await;
    let (mut table, mut delays, mut troubles, mut aborted, mut lasting) =
        (Table::new(), Vec::new(), BTreeMap::new(), 0, 0);
    let mut used = Vec::new();
    let began = Instant::now();
    let mut round = 0;
    while round == 0 || began.elapsed() + ROUND <= length {
        let trial = Trial { seed: first_seed + round, users: USERS, length: ROUND, kinds: ALL };
        let report = trial.run(&mut stage).await;
        tell(&trial, &report);
        add(&mut table, &report);
        for (kind, count) in report.troubles {
            *troubles.entry(kind).or_insert(0) += count;
        }
        delays.extend(report.verdict.delays);
        aborted += report.aborted;
        lasting += report.lasting;
        used.push(stage.used().await);
        round += 1;
    }
    leaks(&mut table, &used);
    for left in stage.left_over(lasting).await {
        println!("left over: {left}");
        table.entry("- no key is left that should not be".to_owned()).or_default().1 += 1;
    }
    table.entry("- no key is left that should not be".to_owned()).or_default().0 += 1;
    println!("\n{round} trials in {:?}; troubles: {troubles:?}; {aborted} processes ended themselves", began.elapsed());
    delays.sort_unstable();
    let part = |of: usize| delays.get(delays.len().saturating_sub(1) * of / 1000).copied().unwrap_or_default();
    println!("told after (ms, while nothing was broken): p50 {}, p99 {}, most {}", part(500), part(990), part(1000));
    println!("\n{:<48} {:>9} {:>10}", "promise", "tried", "violations");
    for (promise, (tried, violations)) in &table {
        println!("{promise:<48} {tried:>9} {violations:>10}");
    }
    let found = table.values().any(|(_, violations)| *violations > 0);
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is wrong is told at once, with the seed that leads to it.
fn tell(trial: &Trial, report: &Report) {
    let found = report.verdict.violations.len() + report.unexpected.len();
    println!("seed {}: {} done, {found} violations", trial.seed, report.done);
    for violation in &report.verdict.violations {
        println!("  {}: {}: {}", violation.rule, violation.user, violation.seen);
    }
    for told in report.unexpected.iter().chain(&report.stories) {
        println!("  {told}");
    }
}

fn add(table: &mut Table, report: &Report) {
    for (rule, tried) in &report.verdict.tried {
        table.entry((*rule).to_owned()).or_default().0 += tried;
    }
    for violation in &report.verdict.violations {
        table.entry(violation.rule.to_owned()).or_default().1 += 1;
    }
    let row = table.entry("10 no panic, no dead letter, no wrong answer".to_owned()).or_default();
    row.0 += report.done;
    row.1 += report.unexpected.len();
}

/// Compares what the service that lived all along uses at the end with what it used once everything was warm.
fn leaks(table: &mut Table, used: &[presence_tests::trial::Used]) {
    let (warm, last) = (&used[used.len() / 4], &used[used.len() - 1]);
    println!("in use when warm: {warm:?}\nin use at the end: {last:?}");
    let rows = [
        ("- no leak of memory", last.memory_kib.saturating_sub(warm.memory_kib) > MEMORY_KIB),
        ("- no leak of descriptors", last.descriptors > warm.descriptors + DESCRIPTORS),
        ("- no leak of connections to the store", last.connections > warm.connections + CONNECTIONS),
    ];
    for (row, leaks) in rows {
        table.insert(row.to_owned(), (used.len(), usize::from(leaks)));
    }
}
