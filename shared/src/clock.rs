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
}

/// The store's clock, read now and then and carried on by this host's monotonic one.
///
/// It runs ahead of the store's by at most the round trip of the last reading, and never behind: a read must not say
/// online after the deadline.
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
}

/// After this time the store is asked again.
const FRESH: Duration = Duration::from_secs(5);
/// For so long a reading is better than none: clocks of this kind drift by less than 0.1 ms a second.
const USABLE: Duration = Duration::from_secs(60);

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
        Ok(Reading { asked_at, round_trip: asked_at.elapsed(), time })
    }

    async fn read(&self) -> Result<Reading, StoreError> {
        let mut new = self.ask().await?;
        if self.reading().is_none_or(|old| old.age() >= USABLE) {
            // The first question waited for the connection to be made, and its answer would be that much ahead.
            let again = self.ask().await?;
            if again.round_trip < new.round_trip {
                new = again;
            }
        }
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let better = reading.filter(|old| old.age() < USABLE && old.round_trip * 10 < new.round_trip);
        Ok(*reading.insert(better.unwrap_or(new)))
    }
}

impl Reading {
    fn age(&self) -> Duration {
        self.asked_at.elapsed()
    }

    fn now(&self) -> Timestamp {
        self.time + self.age()
    }
}

#[async_trait]
impl Clock for StoreClock {
    async fn now(&self) -> Result<Timestamp, StoreError> {
        let reading = self.reading();
        if let Some(fresh) = reading.filter(|reading| reading.age() < FRESH) {
            return Ok(fresh.now());
        }
        let Some(usable) = reading.filter(|reading| reading.age() < USABLE) else {
            let _one_at_a_time = self.refresh.lock().await;
            return match self.reading().filter(|reading| reading.age() < FRESH) {
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
}
