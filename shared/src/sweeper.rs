//! The sweeper: looks at users whose deadline has passed, and at changes that may not have been published. Its work
//! grows with those, not with the users online. Any number of sweepers may be at work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::MissedTickBehavior;
use tracing::Instrument;
use uuid::Uuid;

use crate::decide::Work;
use crate::domain::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::metrics::{PENDING_USERS, SWEEP_LAG, SWEEP_PASSES, SWEPT_USERS, VISIBLE_USERS};
use crate::service::PresenceService;
use crate::store::{Due, Ending, Index, PresenceStore, SHARDS};
use crate::telemetry::{self, SPANS};

/// How often a process that lives looks for users whose deadline has passed.
const TICK: Duration = Duration::from_secs(1);
/// How often it counts all users, which costs as much as a tick.
const MEASURE: Duration = Duration::from_secs(5);
/// How many users are decided together.
const BATCH: usize = 500;
/// How many shards are swept at once.
const SHARDS_AT_ONCE: usize = 4;
/// A pass that misses a deadline by more says so: operators are woken by it. An expiry is promised within 1.25 s.
const LATE: Duration = Duration::from_secs(5);
/// When to look again at a user whose record can't be read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// One of any number of sweepers.
pub struct Sweeper {
    service: Arc<PresenceService>,
    name: String,
}

/// What one pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Users whose deadline had passed.
    pub expired: usize,
    /// Users with something that was not known to be published.
    pub reminded: usize,
    /// By how much the latest deadline was missed.
    pub lag: Duration,
    /// Until when expiries are held, if they are.
    pub held_until: Option<Timestamp>,
}

impl Sweeper {
    /// A sweeper over the service's store.
    pub fn new(service: Arc<PresenceService>) -> Self {
        Self { service, name: Uuid::new_v4().to_string() }
    }

    /// Makes a pass each second until `shutdown` completes. A failed one is told once an outage and made up for by the
    /// next.
    pub async fn tick_until(&self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        let mut measured = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.as_mut() => return,
                _ = ticks.tick() => {}
            }
            match self.tick().await {
                Ok(_) if is_failing => {
                    tracing::info!("the sweeper works again");
                    is_failing = false;
                }
                Ok(_) => {}
                Err(error) if !is_failing => {
                    tracing::warn!(%error, "the sweeper cannot work; it tries again each second");
                    is_failing = true;
                }
                Err(_) => {}
            }
            if measured.is_none_or(|measured: Instant| measured.elapsed() >= MEASURE) {
                measured = Some(Instant::now());
                self.measure().await;
            }
        }
    }

    /// The pass of a process that makes one each second: it leaves a sign, by which those who only help out know that
    /// they are not needed.
    pub async fn tick(&self) -> Result<Swept, Error> {
        let swept = self.sweep().await?;
        self.store().sign_ticker().await?;
        Ok(swept)
    }

    /// Looks at everyone who is due, once.
    pub async fn sweep(&self) -> Result<Swept, Error> {
        let started = Instant::now();
        let result = self.pass().await;
        count(&result);
        match &result {
            // It asked for each shard of an index, and these are all over a cluster.
            Ok(_) => self.service.outages().reached_all(started),
            Err(error) if error.kind() == ErrorKind::Unavailable => self.service.outages().missed(started),
            Err(_) => {}
        }
        result
    }

    /// Tells how many users are online, and of how many not all is published. A store that is away leaves what was told
    /// last.
    async fn measure(&self) {
        let sizes = futures::join!(self.store().size(Index::Deadlines), self.store().size(Index::Reminders));
        for (gauge, size) in [(VISIBLE_USERS, sizes.0), (PENDING_USERS, sizes.1)] {
            if let Ok(size) = size {
                metrics::gauge!(gauge).set(size as f64);
            }
        }
    }

    /// Whether a process sweeps each second.
    pub async fn has_ticker(&self) -> Result<bool, Error> {
        Ok(self.store().has_ticker().await?)
    }

    async fn pass(&self) -> Result<Swept, Error> {
        let now = self.service.now().await?;
        let held_until = self.service.road().held_until().await?;
        self.service.outages().reached();
        let mut swept = Swept { held_until, ..Swept::default() };
        swept.reminded = self.sweep_index(Index::Reminders, now).await?.0;
        if held_until.is_none() {
            (swept.expired, swept.lag) = self.sweep_index(Index::Deadlines, now).await?;
        }
        if swept.lag > LATE {
            let lag_ms = u64::try_from(swept.lag.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(lag_ms, expired = swept.expired, "the sweep is late");
        }
        Ok(swept)
    }

    /// Sweeps every shard of an index that has someone due. Sweepers begin at different shards.
    async fn sweep_index(&self, index: Index, now: Timestamp) -> Result<(usize, Duration), Error> {
        let first = self.name.as_bytes()[0];
        let shards = (0..SHARDS).map(|shard| shard.wrapping_add(first) % SHARDS);
        let looks = shards.map(|shard| async move { (shard, self.store().due(index, shard, now, 1).await) });
        let mut waiting = Vec::new();
        for (shard, due) in join_all(looks).await {
            match due {
                Ok(due) if due.is_empty() => {}
                Ok(_) => waiting.push(shard),
                Err(error) => pass_over(index, shard, error.into())?,
            }
        }
        let swept = waiting.into_iter().map(|shard| async move {
            match self.sweep_shard(index, shard, now).await {
                Ok(swept) => Ok(swept),
                Err(error) => pass_over(index, shard, error).map(|()| (0, Duration::ZERO)),
            }
        });
        let add = |(users, lag): (usize, Duration), more: (usize, Duration)| async move {
            Ok((users + more.0, lag.max(more.1)))
        };
        stream::iter(swept).buffer_unordered(SHARDS_AT_ONCE).try_fold((0, Duration::ZERO), add).await
    }

    async fn sweep_shard(&self, index: Index, shard: u8, now: Timestamp) -> Result<(usize, Duration), Error> {
        let (mut users, mut lag) = (0, Duration::ZERO);
        while self.store().take_shard(shard, &self.name).await? {
            let result = self.sweep_batch(index, shard, now).await;
            self.store().release_shard(shard, &self.name).await?;
            let (count, late) = result?;
            self.service.outages().reached();
            users += count;
            lag = lag.max(late);
            if count < BATCH {
                break;
            }
        }
        Ok((users, lag))
    }

    async fn sweep_batch(&self, index: Index, shard: u8, now: Timestamp) -> Result<(usize, Duration), Error> {
        let due = self.store().due(index, shard, now, BATCH).await?;
        let told = tracing::info_span!(target: SPANS, "sweep", ?index, users = due.len());
        let trace = telemetry::continue_trace(&told, None);
        let work = |due: &Due| Work {
            user_id: due.user_id,
            inputs: Vec::new(),
            due: Some((index, due.at)),
            trace: trace.clone(),
        };
        let work: Vec<Work<'_>> = due.iter().map(work).collect();
        let decided = self.service.road().decide(&work).instrument(told).await;
        let mut lag = Duration::ZERO;
        let mut unreadable = Vec::new();
        let mut contended = 0;
        for (due, decided) in due.iter().zip(decided) {
            match decided {
                Ok(decided) => lag = lag.max(decided.at.since(due.at)),
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    contended += 1;
                    if contended == work.len() {
                        return Err(error);
                    }
                }
                Err(error) => {
                    tracing::error!(user_id = %due.user_id, %error, "a record can't be read");
                    unreadable.push(put_off(index, due, now + UNREADABLE_PAUSE));
                }
            }
        }
        if !unreadable.is_empty() {
            self.store().finish(&unreadable).await?;
        }
        // Those stay due, and come again with the next pass.
        Ok((work.len() - contended, lag))
    }

    fn store(&self) -> &dyn PresenceStore {
        self.service.store()
    }
}

fn count(result: &Result<Swept, Error>) {
    let outcome = match result {
        Ok(Swept { held_until: Some(_), .. }) => "held",
        Ok(_) => "done",
        Err(_) => "failed",
    };
    metrics::counter!(SWEEP_PASSES, "outcome" => outcome).increment(1);
    let Ok(Swept { expired, reminded, lag, .. }) = result else { return };
    if *expired > 0 {
        metrics::histogram!(SWEEP_LAG).record(*lag);
    }
    for (index, users) in [("deadlines", *expired), ("reminders", *reminded)] {
        metrics::counter!(SWEPT_USERS, "index" => index).increment(users as u64);
    }
}

/// What can't be read in one shard does not stand in front of the others; a store that is away stops the pass.
fn pass_over(index: Index, shard: u8, error: Error) -> Result<(), Error> {
    if error.kind() == ErrorKind::Unavailable {
        return Err(error);
    }
    tracing::error!(?index, shard, %error, "a shard can't be swept");
    Ok(())
}

/// Keeps a user who can't be decided from standing in front of the others.
fn put_off(index: Index, due: &Due, until: Timestamp) -> Ending {
    let nothing = Ending {
        user_id: due.user_id,
        published: None,
        old_deadline: None,
        new_deadline: None,
        old_reminder: None,
        new_reminder: None,
    };
    match index {
        Index::Deadlines => Ending { old_deadline: Some(due.at), new_deadline: Some(until), ..nothing },
        Index::Reminders => Ending { new_reminder: Some(until), ..nothing },
    }
}
