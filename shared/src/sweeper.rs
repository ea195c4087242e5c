//! The sweeper: looks at users whose deadline has passed, and at changes that may not have been published. Its work
//! grows with those, not with the users online. Any number of sweepers may be at work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::decide::Work;
use crate::domain::{Timestamp, Traceparent};
use crate::error::{Error, ErrorKind};
use crate::service::PresenceService;
use crate::store::{Due, Ending, Index, SHARDS};

/// How many users are decided together.
const BATCH: usize = 500;
/// How many shards are swept at once.
const SHARDS_AT_ONCE: usize = 4;
/// A store that was away for longer than this has kept heartbeats from being heard: expiries are held.
const OUTAGE: Duration = Duration::from_secs(2);
/// When to look again at a user whose record can't be read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// One of any number of sweepers. Remembers whether the store was away.
pub struct Sweeper {
    service: Arc<PresenceService>,
    name: String,
    away_since: Mutex<Option<Instant>>,
}

/// What one tick did.
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
        Self { service, name: Uuid::new_v4().to_string(), away_since: Mutex::new(None) }
    }

    /// Looks at everyone who is due, once. To be called each second.
    pub async fn tick(&self) -> Result<Swept, Error> {
        let result = self.sweep().await;
        if matches!(&result, Err(error) if error.kind() == ErrorKind::Unavailable) {
            let mut away_since = self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
            away_since.get_or_insert_with(Instant::now);
        }
        result
    }

    async fn sweep(&self) -> Result<Swept, Error> {
        let now = self.service.now().await?;
        let held_until = self.held_until(now).await?.filter(|until| now < *until);
        let mut swept = Swept { held_until, ..Swept::default() };
        swept.reminded = self.sweep_index(Index::Reminders, now).await?.0;
        if held_until.is_none() {
            (swept.expired, swept.lag) = self.sweep_index(Index::Deadlines, now).await?;
        }
        Ok(swept)
    }

    /// After an outage the heartbeats that could not be heard get time to be heard, before anyone is told offline.
    async fn held_until(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let held = self.service.store().held_until().await?;
        let away = self.away_since.lock().unwrap_or_else(PoisonError::into_inner).take();
        if away.is_none_or(|since| since.elapsed() < OUTAGE) {
            return Ok(held);
        }
        let until = now + self.service.rules().heartbeat_interval;
        tracing::warn!(%until, "the store was away: expiries are held");
        self.service.store().hold(until).await?;
        Ok(Some(until))
    }

    /// Sweeps every shard of an index that has someone due. Sweepers begin at different shards.
    async fn sweep_index(&self, index: Index, now: Timestamp) -> Result<(usize, Duration), Error> {
        let first = self.name.as_bytes()[0];
        let shards = (0..SHARDS).map(|shard| shard.wrapping_add(first) % SHARDS);
        let swept = stream::iter(shards.map(|shard| self.sweep_shard(index, shard, now)));
        let add = |(users, lag): (usize, Duration), more: (usize, Duration)| async move {
            Ok((users + more.0, lag.max(more.1)))
        };
        swept.buffer_unordered(SHARDS_AT_ONCE).try_fold((0, Duration::ZERO), add).await
    }

    async fn sweep_shard(&self, index: Index, shard: u8, now: Timestamp) -> Result<(usize, Duration), Error> {
        let store = self.service.store();
        let (mut users, mut lag) = (0, Duration::ZERO);
        while !store.due(index, shard, now, 1).await?.is_empty() {
            if !store.take_shard(shard, &self.name).await? {
                break;
            }
            let result = self.sweep_batch(index, shard, now).await;
            store.release_shard(shard, &self.name).await?;
            let (count, late) = result?;
            users += count;
            lag = lag.max(late);
            if count < BATCH {
                break;
            }
        }
        Ok((users, lag))
    }

    async fn sweep_batch(&self, index: Index, shard: u8, now: Timestamp) -> Result<(usize, Duration), Error> {
        let due = self.service.store().due(index, shard, now, BATCH).await?;
        let trace = Traceparent::generate();
        let work = |due: &Due| Work {
            user_id: due.user_id,
            inputs: Vec::new(),
            due: Some((index, due.at)),
            trace: trace.clone(),
        };
        let work: Vec<Work<'_>> = due.iter().map(work).collect();
        let decided = self.service.road().decide(&work).await;
        let mut unreadable = Vec::new();
        for (due, decided) in due.iter().zip(decided) {
            match decided {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Internal => {
                    tracing::error!(user_id = %due.user_id, %error, "a record can't be read");
                    unreadable.push(put_off(index, due, now + UNREADABLE_PAUSE));
                }
                Err(error) => return Err(error),
            }
        }
        if !unreadable.is_empty() {
            self.service.store().finish(&unreadable).await?;
        }
        let lag = due.iter().map(|due| now.since(due.at)).max().unwrap_or_default();
        Ok((due.len(), lag))
    }
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
