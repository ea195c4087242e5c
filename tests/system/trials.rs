//! Users live through real services while everything breaks that can break, and afterwards their history is judged; see
//! `presence_tests::history` for the rules, each of which has been seen to find a history that breaks it.
//!
//! Before they were mended it found: a read that told a version which never came to be, a user who lost two sessions
//! during an outage and was told offline by nobody, one who returned from an absence and was never told offline again, and
//! an update that took effect and was answered 429.

use std::time::Duration;

use presence_tests::trial::{ALL, Kind, ON_A_CLUSTER, Report, Stage, Trial};
use presence_tests::{now_ms, setting};

/// Runs one trial, whose seed a failure prints.
#[expect(clippy::print_stdout, reason = "shown where it fails, and in figures that are asked for")]
async fn run(stage: &mut Stage, users: usize, length: Duration, kinds: &'static [Kind]) -> Report {
    let seed = setting("SEED", now_ms() as u64);
    println!("PRESENCE_TEST_SEED={seed}");
    let report = Trial { seed, users, length, kinds }.run(stage).await;
    let Report { troubles, aborted, moved, done, .. } = &report;
    println!("{troubles:?}, {aborted} aborted, {moved} slots moved, {done} done: {:?}", report.verdict.tried);
    assert!(report.verdict.violations.is_empty(), "{:#?}\n{}", report.verdict.violations, report.stories.join("\n"));
    assert!(report.unexpected.is_empty(), "{:#?}", report.unexpected);
    assert!(report.verdict.tried.values().all(|tried| *tried > 0));
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_services_keep_every_promise_while_everything_breaks() {
    let mut stage = Stage::start(3, 4).await;
    run(&mut stage, 30, Duration::from_secs(30), ALL).await;
}

/// How many slots are to move at least, on a busy machine.
const MOVES: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_keep_every_promise_while_slots_move_under_them() {
    let mut stage = Stage::start_on_cluster(3, 4).await;
    let length = setting("SLOTS_SECONDS", 30);
    let report = run(&mut stage, 30, Duration::from_secs(length), ON_A_CLUSTER).await;
    assert!(report.refused.is_empty(), "nobody is refused because a slot moves: {:#?}", report.refused);
    assert!(report.moved > MOVES, "only {} slots moved meanwhile", report.moved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_end_themselves_at_every_point_lose_nothing() {
    let length = setting("ABORT_SECONDS", 30);
    let mut stage = Stage::start(2, 4).await;
    let report = run(&mut stage, 30, Duration::from_secs(length), &[Kind::Abort]).await;
    assert!(report.aborted > 3, "{}", report.aborted);
}
