//! How many frames a client may send.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// At most so many in any window of time: exact, and small for a client that sends little.
#[derive(Debug)]
pub(crate) struct RateLimit {
    most: usize,
    window: Duration,
    taken: VecDeque<Instant>,
}

impl RateLimit {
    pub(crate) fn new(most: usize, window: Duration) -> Self {
        Self { most, window, taken: VecDeque::new() }
    }

    /// Whether one more is allowed now; if so, it counts.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        while self.taken.front().is_some_and(|first| now.duration_since(*first) >= self.window) {
            self.taken.pop_front();
        }
        if self.taken.len() >= self.most {
            return false;
        }
        self.taken.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_allowed_fit_into_any_window_and_not_one_more() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut limit = RateLimit::new(3, Duration::from_secs(60));
        assert!([0, 30, 59].into_iter().all(|second| limit.take(at(second))));
        assert!(!limit.take(at(59)));
        assert!(limit.take(at(60)), "the first is 60 s old");
        assert!(!limit.take(at(89)), "three in the last 60 s");
        assert!(limit.take(at(90)));
    }
}
