//! Whether the store answers this process, and what follows when it did not: heartbeats could not be heard, so expiries
//! are held until they had time to be.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::domain::{Rules, Timestamp};
use crate::error::Error;
use crate::store::{PresenceStore, StoreError, TICKER_SIGN};

/// A store that was away for as long as this has kept heartbeats from being heard: expiries are held. By then the sign
/// that its last ticker left is gone.
const LONG: Duration = TICKER_SIGN;
/// How long after a failed attempt the store may still have been away: until the next one, which processes that have
/// something to do make within this time.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(2);
/// Failed attempts that are further apart are of two outages, and one that is longer ago is over and done with.
const RECENT: Duration = Duration::from_secs(10);

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
    /// The latest outage, until all parts of the store are known to answer again.
    outage: Option<Outage>,
}

/// From the first to the last attempt that failed.
#[derive(Debug)]
struct Outage {
    since: Instant,
    missed_at: Instant,
    /// The last failed attempt that expiries were held for.
    made_up_for: Option<Instant>,
}

impl Outages {
    /// The store answered just now. That alone ends no outage: of a cluster, another part may still be away.
    pub(crate) fn reached(&self) {
        self.contact().reached = Some(Instant::now());
    }

    /// The store did not answer something that was begun at `started`.
    pub(crate) fn missed(&self, started: Instant) {
        let (mut contact, missed_at) = (self.contact(), Instant::now());
        let since = contact.reached.map_or(started, |reached| reached.max(started));
        match &mut contact.outage {
            Some(outage) if missed_at - outage.missed_at < RECENT => outage.missed_at = missed_at,
            other => *other = Some(Outage { since, missed_at, made_up_for: None }),
        }
    }

    /// Something that was begun at `started` had these answers. Of a cluster, a part alone may be away.
    pub(crate) fn note<T>(&self, started: Instant, answers: &[Result<T, StoreError>]) {
        let is_missing = |answer: &Result<T, StoreError>| matches!(answer, Err(StoreError::Unavailable(_)));
        if answers.iter().any(is_missing) {
            self.missed(started);
        }
        if !answers.iter().all(is_missing) {
            self.reached();
        }
    }

    /// Every part of the store answered what was asked since `started`, so an outage is over.
    pub(crate) fn reached_all(&self, started: Instant) {
        self.contact().outage.take_if(|outage| outage.missed_at < started);
    }

    /// Until when expiries are held, if they are. After an outage the heartbeats that could not be heard get time to be
    /// heard, before anyone is told offline. While a part of a cluster is away, each attempt that fails prolongs that.
    ///
    /// If somebody else ticked all along it was not the store that was away but this process, and nothing is held. One
    /// who notices an outage holds before it leaves its sign, so whoever sees the sign sees the hold.
    pub(crate) async fn held_until(
        &self,
        store: &dyn PresenceStore,
        clock: &dyn Clock,
        rules: &Rules,
    ) -> Result<Option<Timestamp>, Error> {
        let missed_at =
            self.contact().outage.as_ref().filter(|outage| outage.is_to_be_made_up_for()).map(|it| it.missed_at);
        if let Some(missed_at) = missed_at {
            if !store.has_ticker().await? {
                // The answer may have taken its time, and no heartbeat was heard meanwhile.
                let until = clock.now().await? + rules.heartbeat_interval;
                store.hold(until).await?;
                tracing::warn!(%until, "the store was away: expiries are held");
            }
            // Only an answer makes up for an outage, and only for what failed before it was asked for.
            if let Some(outage) = &mut self.contact().outage {
                outage.made_up_for = Some(missed_at);
            }
        }
        let held_until = store.held_until().await?;
        let now = clock.now().await?;
        Ok(held_until.filter(|until| now < *until))
    }

    fn contact(&self) -> MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outage {
    fn is_to_be_made_up_for(&self) -> bool {
        self.made_up_for != Some(self.missed_at) && self.is_long_and_recent()
    }

    fn is_long_and_recent(&self) -> bool {
        let (now, end) = (Instant::now(), self.missed_at + BETWEEN_ATTEMPTS);
        end.min(now) - self.since >= LONG && now - self.missed_at < RECENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(since: u64, missed_at: u64) -> Outage {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        Outage { since: ago(since), missed_at: ago(missed_at), made_up_for: None }
    }

    #[test]
    fn an_outage_counts_if_it_was_long_and_is_not_long_ago() {
        for (since, missed_at, expected) in [
            (4, 0, true),
            (4, 2, true),  // the next attempt came two seconds later
            (1, 0, false), // a blip just now
            (9, 9, false), // a blip a while ago
            (60, 9, true),
            (60, 11, false), // whoever could be heard was heard since
        ] {
            assert_eq!(outage(since, missed_at).is_long_and_recent(), expected, "{since} {missed_at}");
        }
    }

    #[test]
    fn attempts_that_fail_long_after_others_are_of_another_outage() {
        let outages = Outages::default();
        outages.contact().outage = Some(outage(60, 30));
        outages.missed(Instant::now());
        assert!(!outages.contact().outage.as_ref().unwrap().is_long_and_recent());
        outages.contact().outage = Some(outage(60, 5));
        outages.missed(Instant::now());
        assert!(outages.contact().outage.as_ref().unwrap().is_long_and_recent());
    }

    #[test]
    fn an_outage_is_made_up_for_once_and_again_if_more_fails() {
        let outages = Outages::default();
        let is_to_be_made_up_for = || outages.contact().outage.as_ref().unwrap().is_to_be_made_up_for();
        outages.contact().outage = Some(outage(60, 5));
        assert!(is_to_be_made_up_for());
        outages.contact().outage = Some(outage(60, 5)).map(|it| Outage { made_up_for: Some(it.missed_at), ..it });
        assert!(!is_to_be_made_up_for());
        outages.note(Instant::now(), &[Ok(()), Err(StoreError::Unavailable("a part".to_owned()))]);
        assert!(is_to_be_made_up_for());
    }

    #[test]
    fn an_outage_is_over_when_all_answered_what_was_asked_after_it() {
        let outages = Outages::default();
        let before = Instant::now();
        outages.missed(before);
        outages.reached_all(before);
        assert!(outages.contact().outage.is_some(), "this failed meanwhile");
        let missed_at = outages.contact().outage.as_ref().unwrap().missed_at;
        outages.reached_all(missed_at + Duration::from_nanos(1));
        assert!(outages.contact().outage.is_none());
    }
}
