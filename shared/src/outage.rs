//! Whether the store answers this process, and what follows when it did not: heartbeats could not be heard, so expiries
//! are held until they had time to be.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::{Rules, Timestamp};
use crate::error::Error;
use crate::store::{PresenceStore, StoreError, TICKER_SIGN};

/// A store that was away for as long as this has kept heartbeats from being heard: expiries are held. By then the sign
/// that its last ticker left is gone.
const OUTAGE: Duration = TICKER_SIGN;

/// What a process knows of outages of the store. Sweeps and inputs share it: whichever comes first when the store is
/// back must know, or it tells everyone offline whose heartbeats were not heard.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    contact: Mutex<Contact>,
}

#[derive(Debug, Default)]
struct Contact {
    /// When the store last answered.
    reached: Option<Instant>,
    /// Since when it did not, if that was never made up for.
    away_since: Option<Instant>,
}

impl Outages {
    /// The store answered just now.
    pub(crate) fn reached(&self) {
        self.contact().reached = Some(Instant::now());
    }

    /// The store did not answer something that was begun at `started`.
    pub(crate) fn missed(&self, started: Instant) {
        let mut contact = self.contact();
        let since = contact.reached.map_or(started, |reached| reached.max(started));
        contact.away_since.get_or_insert(since);
    }

    /// Something that was begun at `started` had these answers.
    pub(crate) fn note<T>(&self, started: Instant, answers: &[Result<T, StoreError>]) {
        if answers.iter().any(|answer| !matches!(answer, Err(StoreError::Unavailable(_)))) {
            self.reached();
        } else if !answers.is_empty() {
            self.missed(started);
        }
    }

    /// Until when expiries are held, if they are. After an outage the heartbeats that could not be heard get time to be
    /// heard, before anyone is told offline.
    ///
    /// If somebody else ticked all along it was not the store that was away but this process, and nothing is held. One
    /// who notices an outage holds before it leaves its sign, so whoever sees the sign sees the hold.
    pub(crate) async fn held_until(
        &self,
        store: &dyn PresenceStore,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let away_since = self.contact().away_since;
        if let Some(since) = away_since {
            let somebody_ticked = store.has_ticker().await?;
            if since.elapsed() >= OUTAGE && !somebody_ticked {
                let until = now + rules.heartbeat_interval;
                store.hold(until).await?;
                tracing::warn!(%until, "the store was away: expiries are held");
            }
        }
        let held_until = store.held_until().await?;
        // Only an answer ends an outage.
        self.contact().away_since = None;
        Ok(held_until.filter(|until| now < *until))
    }

    fn contact(&self) -> MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
