//! The clock by which everything is decided: the store's, so that hosts whose own clocks differ agree.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::domain::Timestamp;
use crate::store::{PresenceStore, StoreError};

/// Tells the time. The service runs by [`StoreClock`]; tests bring one that they turn by hand.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The present moment. Fails if it can't be known.
    async fn now(&self) -> Result<Timestamp, StoreError>;

    /// A moment that is past by every clock, however far ahead this one is. Takes longer.
    async fn exact(&self) -> Result<Timestamp, StoreError> {
        self.now().await
    }
}

/// The store's clock, read now and then and carried on by this host's monotonic one.
///
/// It runs ahead of the store's by at most the round trip of the best of its last readings, and what the two may have
/// drifted apart since; and never behind: a read must not say online after the deadline.
pub struct StoreClock {
    store: Arc<dyn PresenceStore>,
    reading: Mutex<Option<Reading>>,
    refresh: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Reading {
    asked_at: Instant,
    round_trip: Duration,
    time: Timestamp,
    /// When it was last compared with another.
    compared_at: Instant,
}

/// After this time the store is asked again.
const FRESH: Duration = Duration::from_secs(5);
/// For so long a reading is better than none: clocks of this kind drift by less than 0.1 ms a second.
const USABLE: Duration = Duration::from_secs(60);
/// By at most a part of so many two clocks of this kind drift apart.
const DRIFT: u32 = 10_000;
/// How often the store is asked the first time, for the best of the answers.
const QUESTIONS: usize = 3;

impl StoreClock {
    /// A clock that has not been read yet.
    pub fn new(store: Arc<dyn PresenceStore>) -> Self {
        Self { store, reading: Mutex::new(None), refresh: tokio::sync::Mutex::new(()) }
    }

    fn reading(&self) -> Option<Reading> {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> Result<Reading, StoreError> {
        let asked_at = Instant::now();
        let time = self.store.time().await?;
        let compared_at = Instant::now();
        Ok(Reading { asked_at, round_trip: compared_at - asked_at, time, compared_at })
    }

    async fn read(&self) -> Result<Reading, StoreError> {
        let mut new = self.ask().await?;
        if self.reading().is_none_or(|old| old.age() >= USABLE) {
            // The first question waited for the connection to be made, and its answer would be that much ahead.
            for _ in 1..QUESTIONS {
                let again = self.ask().await?;
                if again.round_trip < new.round_trip {
                    new = again;
                }
            }
        }
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let better = reading.filter(|old| old.age() < USABLE && old.is_better_than(&new));
        Ok(*reading.insert(better.map_or(new, |old| Reading { compared_at: new.compared_at, ..old })))
    }
}

impl Reading {
    fn age(&self) -> Duration {
        self.asked_at.elapsed()
    }

    fn is_fresh(&self) -> bool {
        self.compared_at.elapsed() < FRESH
    }

    /// Never behind the store's clock, as far apart as the two may have drifted.
    fn now(&self) -> Timestamp {
        self.time + self.age() + self.age() / DRIFT
    }

    /// By how much it may be off, at a moment.
    fn error(&self, at: Instant) -> Duration {
        self.round_trip + (at - self.asked_at) / DRIFT
    }

    /// Whether this older reading knows the time more exactly than the new one, and both can be true: the store's clock
    /// may have been set, or another server may have taken its place.
    fn is_better_than(&self, new: &Reading) -> bool {
        let at = new.asked_at + new.round_trip;
        let (latest, new_latest) = (self.time + (at - self.asked_at), new.time + new.round_trip);
        // Times are whole milliseconds.
        let grain = Duration::from_millis(2);
        let agrees = latest + grain + self.error(at) >= new.time && new_latest + grain >= latest - self.error(at);
        agrees && self.error(at) < new.error(at)
    }
}

#[async_trait]
impl Clock for StoreClock {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        let reading = self.reading();
        if let Some(fresh) = reading.filter(Reading::is_fresh) {
            return Ok(fresh.now());
        }
        let Some(usable) = reading.filter(|reading| reading.age() < USABLE) else {
            let _one_at_a_time = self.refresh.lock().await;
            return match self.reading().filter(Reading::is_fresh) {
                Some(fresh) => Ok(fresh.now()),
                None => self.read().await.map(|reading| reading.now()),
            };
        };
        let Ok(_one_at_a_time) = self.refresh.try_lock() else { return Ok(usable.now()) };
        match self.read().await {
            Ok(reading) => Ok(reading.now()),
            Err(_) => Ok(usable.now()),
        }
    }

    async fn exact(&self) -> Result<Timestamp, StoreError> {
        self.store.time().await
    }
}
