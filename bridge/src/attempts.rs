//! How often records failed here. The stream counts deliveries, of which many are nobody's failure: restarts, absences,
//! messages handed back at a shutdown.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::gate::spread;

/// The pause before a record is offered a second time; each failure doubles it.
const SHORTEST_DELAY: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// For so many records failures are remembered.
const CAPACITY: usize = 50_000;
/// A record that did not come again for so long was settled by another process.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// What is known against one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attempt {
    /// How often it failed.
    pub(crate) failures: u32,
    /// It made a batch fail as a whole: from now on it is offered alone, and holds up no other.
    pub(crate) alone: bool,
}

/// The failures of the records of one subscription, by their numbers. What is lost with the process only costs more
/// attempts.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    known: HashMap<u64, (Attempt, Instant)>,
}

impl Attempts {
    pub(crate) fn get(&self, number: u64) -> Attempt {
        if self.known.is_empty() {
            return Attempt::default();
        }
        self.known.get(&number).map(|(attempt, _)| *attempt).unwrap_or_default()
    }

    /// Remembers a failure, or forgets a record that is settled.
    pub(crate) fn set(&mut self, number: u64, attempt: Option<Attempt>) {
        let Some(attempt) = attempt else {
            self.known.remove(&number);
            return;
        };
        let now = Instant::now();
        if self.known.len() >= CAPACITY {
            self.known.retain(|_, (_, at)| now.duration_since(*at) < FORGOTTEN_AFTER);
        }
        if self.known.len() < CAPACITY || self.known.contains_key(&number) {
            self.known.insert(number, (attempt, now));
        }
    }
}

impl Attempt {
    /// The same with one failure more.
    pub(crate) fn failed(self, alone: bool) -> Self {
        Self { failures: self.failures.saturating_add(1), alone: self.alone || alone }
    }

    /// Whether a record with so many failures is hopeless.
    pub(crate) fn is_hopeless(self, maximum_retry_attempts: Option<u32>) -> bool {
        maximum_retry_attempts.is_some_and(|most| self.failures > most)
    }

    /// How long to wait before it is offered again.
    pub(crate) fn delay(self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(10);
        spread((SHORTEST_DELAY * 2_u32.pow(doublings)).min(LONGEST_DELAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_hopeless_after_its_first_attempt_and_all_repetitions() {
        let mut attempt = Attempt::default();
        for _ in 0..3 {
            attempt = attempt.failed(false);
            assert!(!attempt.is_hopeless(Some(3)) && !attempt.is_hopeless(None));
        }
        assert!(attempt.failed(false).is_hopeless(Some(3)));
        assert!(attempt.failed(true).failed(false).alone, "once alone, always alone");
    }

    #[test]
    fn the_usual_attempts_span_more_than_ten_minutes() {
        let attempts = (1..=20).map(|failures| Attempt { failures, alone: false });
        let delays: Vec<Duration> = attempts.map(Attempt::delay).collect();
        assert!(delays.iter().sum::<Duration>() > Duration::from_secs(600), "{delays:?}");
        assert!(delays[0] <= SHORTEST_DELAY && delays.iter().all(|delay| *delay <= LONGEST_DELAY), "{delays:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let mut attempts = Attempts::default();
        let once = Attempt::default().failed(false);
        for number in 0..=CAPACITY as u64 {
            attempts.set(number, Some(once));
        }
        assert_eq!((attempts.get(0), attempts.get(CAPACITY as u64)), (once, Attempt::default()));
        tokio::time::advance(FORGOTTEN_AFTER).await;
        attempts.set(CAPACITY as u64, Some(once));
        assert_eq!((attempts.get(0), attempts.get(CAPACITY as u64)), (Attempt::default(), once));
        attempts.set(CAPACITY as u64, None);
        assert_eq!(attempts.get(CAPACITY as u64), Attempt::default());
    }
}
