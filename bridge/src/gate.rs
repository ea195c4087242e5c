//! How many batches a function is offered at once, and when it is left alone.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// The pause after a first failure; each one that follows doubles it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, which bounds how late a function that is back is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause that a function may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// Adds one to the number of batches with as many successes as there are batches, and halves it when the function
/// throttles: any number of processes that share a function find their parts of what it takes.
#[derive(Debug)]
pub(crate) struct Gate {
    most: usize,
    limit: f64,
    paused_until: Option<Instant>,
    failures_in_a_row: u32,
    lowered_at: Option<Instant>,
}

impl Gate {
    /// An open gate for so many at once.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, limit: most as f64, paused_until: None, failures_in_a_row: 0, lowered_at: None }
    }

    /// How many may be under way now.
    pub(crate) fn limit(&self, now: Instant) -> usize {
        if self.paused_until.is_some_and(|until| now < until) { 0 } else { self.limit as usize }
    }

    /// When the pause ends, if there is one.
    pub(crate) fn opens_at(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| now < *until)
    }

    /// A batch was processed, or its records were found to be the reason why not.
    pub(crate) fn succeeded(&mut self) {
        self.failures_in_a_row = 0;
        self.limit = (self.limit + 1.0 / self.limit).min(self.most as f64);
    }

    /// The function takes less than it was offered, by a batch that was offered at `started`. Others that were under
    /// way at the same moment tell the same again, which counts once.
    pub(crate) fn throttled(&mut self, started: Instant, now: Instant, retry_after: Option<Duration>) {
        if self.lowered_at.is_some_and(|lowered| started < lowered) {
            return;
        }
        self.lowered_at = Some(now);
        self.limit = (self.limit / 2.0).max(1.0);
        let asked = retry_after.unwrap_or_default().min(LONGEST_ASKED);
        self.pause(now, asked);
    }

    /// The function is away: one batch at a time finds out when it is back.
    pub(crate) fn unavailable(&mut self, started: Instant, now: Instant) {
        if self.lowered_at.is_some_and(|lowered| started < lowered) {
            return;
        }
        self.lowered_at = Some(now);
        self.limit = 1.0;
        self.pause(now, Duration::ZERO);
    }

    fn pause(&mut self, now: Instant, at_least: Duration) {
        let doubled = SHORTEST_PAUSE * 2_u32.pow(self.failures_in_a_row.min(10));
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.paused_until = Some(now + spread(doubled.min(LONGEST_PAUSE)).max(at_least));
    }
}

/// Between three quarters and the whole of it: many processes met the same failure.
pub(crate) fn spread(longest: Duration) -> Duration {
    let share = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
    longest.mul_f64(0.75 + 0.25 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_throttle_halves_once_for_all_that_were_under_way_and_successes_add() {
        let start = Instant::now();
        let mut gate = Gate::new(8);
        assert_eq!(gate.limit(start), 8);
        for _ in 0..4 {
            gate.throttled(start, start + SECOND, None);
        }
        assert_eq!(gate.limit(start + SECOND), 0, "a pause");
        let later = start + 2 * SECOND;
        assert_eq!((gate.limit(later), gate.opens_at(later)), (4, None));
        gate.throttled(later, later, None);
        assert_eq!(gate.limit(later + SECOND), 2);
        for _ in 0..3 {
            gate.succeeded();
        }
        assert_eq!(gate.limit(later + SECOND), 3, "one more after each has succeeded once");
        for _ in 0..100 {
            gate.succeeded();
        }
        assert_eq!(gate.limit(later + SECOND), 8, "and never more than the most");
    }

    #[test]
    fn a_function_that_says_when_to_come_again_is_left_alone_until_then() {
        let now = Instant::now();
        let mut gate = Gate::new(2);
        gate.throttled(now, now, Some(5 * SECOND));
        assert_eq!(gate.opens_at(now), Some(now + 5 * SECOND));
        gate.throttled(now + SECOND, now + SECOND, Some(Duration::MAX));
        assert_eq!(gate.opens_at(now), Some(now + SECOND + LONGEST_ASKED), "but not for ever");
    }

    #[test]
    fn one_at_a_time_finds_out_whether_the_function_is_back_and_the_pauses_grow_and_end() {
        let mut now = Instant::now();
        let mut gate = Gate::new(4);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            gate.unavailable(now, now);
            let opens = gate.opens_at(now).unwrap();
            pauses.push(opens - now);
            now = opens;
            assert_eq!(gate.limit(now), 1);
        }
        assert!(pauses[0] <= SHORTEST_PAUSE && pauses[3] > 2 * pauses[0], "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE), "{pauses:?}");
        gate.succeeded();
        gate.unavailable(now + SECOND, now + SECOND);
        assert!(gate.opens_at(now + SECOND).unwrap() <= now + SECOND + SHORTEST_PAUSE, "it begins anew");
    }
}
