//! Everyone vanishes at once; a tick with nobody due; and how late each is told, against Redis's own expiry events.

mod lateness;

use std::sync::Arc;
use std::time::Instant;

use presence::Sweeper;
use presence::events::nats::NatsPublisher;
use redis::aio::MultiplexedConnection;

use super::opens::link;
use crate::contest::{self, Contestant};
use crate::crowd::{Crowd, Member, beats};
use crate::peers;
use crate::report::{Section, Table, median};
use crate::stage::{Kept, Stage, progress};

const IDLE_TICKS: usize = 50;
/// Those who are due among all who are online.
const DUE: usize = 1000;

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("sweep", "The sweep");
    rates(stage, &mut section).await;
    few_among_many(stage, &mut section).await;
    lateness::measure(stage, &mut section).await;
    section
}

/// All vanish at once, and are told over JetStream.
async fn rates(stage: &Stage, section: &mut Section) {
    let publisher = Arc::new(NatsPublisher::new(link(stage).await));
    let crowd = Crowd::with_publisher(stage, stage.users, Kept::OnDisk, publisher).await;
    let bar = progress("all vanish at once", stage.rounds);
    let mut ours = Contestant::of("ours", &stage.with_nats(&[]));
    for _ in 0..stage.rounds {
        crowd.open_all().await;
        crowd.clock.turn_ms(60_000);
        let swept = ours.round(&crowd.redis, crowd.users.len(), tick_all(&crowd)).await;
        assert_eq!(swept, crowd.users.len(), "all of them");
        // What ended must be forgotten before the same can open again.
        crowd.clock.turn_ms(60_000);
        bar.inc(1);
    }
    let title = format!("{} vanish at once, told over JetStream", stage.users);
    section.tables.push(contest::table(title, &[&ours]));
    section.find_rate("sweep-rate", &ours, None, None);
    section.notes.extend(crowd.remark());
}

/// Ticks until nobody is left; how many were told.
async fn tick_all(crowd: &Crowd) -> usize {
    let sweeper = Sweeper::new(crowd.service.clone());
    let mut all = 0;
    for _ in 0..20 {
        let swept = sweeper.tick().await.unwrap().expired;
        all += swept;
        if swept == 0 || all >= crowd.users.len() {
            break;
        }
    }
    all
}

/// A tick when nobody is due, and when a few are, with as many online as the largest size; against a scan for them.
async fn few_among_many(stage: &Stage, section: &mut Section) {
    let users = *stage.sizes().last().unwrap();
    let crowd = Crowd::gather(stage, users, Kept::InMemory).await;
    let bar = progress(&format!("{DUE} due of {users}"), 4);
    crowd.bring_online().await;
    bar.inc(1);
    let sweeper = Sweeper::new(crowd.service.clone());
    sweeper.tick().await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..IDLE_TICKS {
        idle.push(timed(async || assert_eq!(sweeper.tick().await.unwrap().expired, 0)).await);
    }
    let idle = median(idle.into_iter());
    bar.inc(1);
    // All but a few are heard of.
    crowd.clock.turn_ms(30_000);
    crowd.apply(&crowd.users[DUE..], beats).await;
    bar.inc(1);
    crowd.clock.turn_ms(20_000);
    let due = timed(async || assert_eq!(sweeper.tick().await.unwrap().expired, DUE)).await;

    let redis = &crowd.redis;
    redis::cmd("FLUSHALL").exec_async(&mut redis.clone()).await.unwrap();
    peers::pipelined(redis, &crowd.users, peers::hash_heartbeat).await;
    let scan = timed(async || scan(redis, &crowd.users).await).await;
    bar.inc(1);
    let mut table = Table::new(format!("{users} users online"), &["ms"]);
    table.row("ours: a tick with nobody due", &[idle]);
    table.row(format!("ours: a tick with {DUE} due, each decided, stored and told to nobody"), &[due]);
    table.row("peer: `SCAN` of all hashes and `HGET last_seen`, to find those who are due", &[scan]);
    section.tables.push(table);
    section.find("sweep-idle", idle, None, Some(scan));
}

/// In milliseconds.
async fn timed(work: impl AsyncFnOnce()) -> f64 {
    let start = Instant::now();
    work().await;
    start.elapsed().as_secs_f64() * 1000.0
}

/// What a sweeper without an index has to do each time.
async fn scan(redis: &MultiplexedConnection, users: &[Member]) {
    let (mut redis, mut cursor, mut seen) = (redis.clone(), 0_u64, 0);
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg("peer:hash:*").arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<String>) = scan.query_async(&mut redis).await.unwrap();
        let mut pipe = redis::pipe();
        for key in &keys {
            pipe.cmd("HGET").arg(key).arg("last_seen");
        }
        if !keys.is_empty() {
            let found: Vec<i64> = pipe.query_async(&mut redis).await.unwrap();
            seen += found.len();
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert!(seen >= users.len());
}
