//! The messages that wait for the function, and which of them may go next.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::held::Held;
use crate::options::Options;

/// Messages in the order in which they came. Those of one user are offered in that order and never in two batches at
/// once: while a batch is under way, later messages of its users wait. Messages that came again, or went to another
/// process, have lost their place; the rules of presence do without.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queue: VecDeque<Arc<Held>>,
    bytes: usize,
    /// The users of the batches that are under way.
    busy: HashSet<u128>,
    /// All that wait are kept waiting by what is under way.
    is_stuck: bool,
}

impl Waiting {
    /// A message that came.
    pub(crate) fn push(&mut self, held: Arc<Held>) {
        self.bytes += held.size();
        self.queue.push_back(held);
        self.is_stuck = false;
    }

    /// Messages that were taken and not processed: they were the first and are so again.
    pub(crate) fn give_back(&mut self, messages: Vec<Arc<Held>>) {
        for held in messages.into_iter().rev() {
            self.bytes += held.size();
            self.queue.push_front(held);
        }
        self.is_stuck = false;
    }

    /// A batch is not under way any more.
    pub(crate) fn release(&mut self, batch: &[Arc<Held>]) {
        for user in batch.iter().flat_map(|held| held.users.iter()) {
            self.busy.remove(&user);
        }
        self.is_stuck = false;
    }

    /// When a batch can be taken: now if enough wait, else when the first has waited for the window.
    pub(crate) fn ready_at(&self, options: &Options, now: Instant) -> Option<Instant> {
        let first = self.queue.front().filter(|_| !self.is_stuck)?;
        let is_full = self.queue.len() >= options.batch_size || self.bytes >= options.batch_bytes;
        let window = if is_full { Duration::ZERO } else { options.maximum_batching_window };
        Some((first.received_at + window).max(now))
    }

    /// The next batch, whose users are busy from now on. Empty if all that wait have to wait for what is under way.
    pub(crate) fn take(&mut self, options: &Options, attempts: &Attempts) -> Vec<Arc<Held>> {
        let mut batch: Vec<Arc<Held>> = Vec::with_capacity(options.batch_size.min(self.queue.len()));
        let mut bytes = 0;
        let mut passed_over: Vec<Arc<Held>> = Vec::new();
        let mut before_them: HashSet<u128> = HashSet::new();
        while let Some(held) = self.queue.pop_front() {
            let alone = attempts.get(held.number()).alone;
            let must_wait = (!self.busy.is_empty() || !before_them.is_empty())
                && held.users.iter().any(|user| self.busy.contains(&user) || before_them.contains(&user));
            if must_wait || (alone && !batch.is_empty()) {
                before_them.extend(held.users.iter());
                passed_over.push(held);
                continue;
            }
            if !batch.is_empty() && bytes + held.size() > options.batch_bytes {
                self.queue.push_front(held);
                break;
            }
            bytes += held.size();
            batch.push(held);
            if alone || batch.len() >= options.batch_size.max(1) {
                break;
            }
        }
        for held in passed_over.into_iter().rev() {
            self.queue.push_front(held);
        }
        self.bytes -= bytes;
        self.busy.extend(batch.iter().flat_map(|held| held.users.iter()));
        self.is_stuck = batch.is_empty();
        batch
    }

    /// All that wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.queue.iter()
    }

    /// Takes out those of which this is true, for good.
    pub(crate) fn remove(&mut self, is_it: impl Fn(&Held) -> bool) -> Vec<Arc<Held>> {
        let (gone, rest): (Vec<_>, Vec<_>) = self.queue.drain(..).partition(|held| is_it(held));
        self.queue = rest.into();
        self.bytes -= gone.iter().map(|held| held.size()).sum::<usize>();
        gone
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempts::Attempt;
    use crate::held::testing::held;

    fn of(user: u128) -> String {
        format!(r#"{{"user_id":"{}"}}"#, uuid::Uuid::from_u128(user))
    }

    fn of_all(users: &[u128]) -> String {
        format!("[{}]", users.iter().map(|user| of(*user)).collect::<Vec<_>>().join(","))
    }

    fn waiting(payloads: &[String]) -> Waiting {
        let mut waiting = Waiting::default();
        for (number, payload) in payloads.iter().enumerate() {
            waiting.push(held(number as u64, payload.clone()));
        }
        waiting
    }

    fn options(batch_size: usize) -> Options {
        Options { batch_size, ..Options::default() }
    }

    fn numbers(batch: &[Arc<Held>]) -> Vec<u64> {
        batch.iter().map(|held| held.number()).collect()
    }

    #[test]
    fn a_batch_is_the_first_messages_in_their_order() {
        let mut waiting = waiting(&[of(1), of(2), of(1), of(3)]);
        assert_eq!(numbers(&waiting.take(&options(3), &Attempts::default())), [0, 1, 2]);
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn a_user_is_in_one_batch_at_a_time_and_keeps_their_order() {
        let mut waiting = waiting(&[of(1), of(1), of_all(&[1, 2]), of(2), of(3)]);
        let (one, none) = (options(1), Attempts::default());
        let first = waiting.take(&one, &none);
        assert_eq!(numbers(&first), [0]);
        let second = waiting.take(&options(9), &none);
        assert_eq!(numbers(&second), [4], "user 2 waits too, behind the array");
        assert!(waiting.take(&one, &none).is_empty());
        assert_eq!(waiting.ready_at(&one, Instant::now()), None, "until something ends");
        waiting.release(&first);
        assert!(waiting.ready_at(&one, Instant::now()).is_some());
        assert_eq!(numbers(&waiting.take(&options(9), &none)), [1, 2, 3]);
    }

    #[test]
    fn what_is_given_back_is_first_again() {
        let mut waiting = waiting(&[of(1), of(2), of(1)]);
        let batch = waiting.take(&options(2), &Attempts::default());
        waiting.release(&batch);
        waiting.give_back(batch);
        assert_eq!(numbers(&waiting.take(&options(9), &Attempts::default())), [0, 1, 2]);
    }

    #[test]
    fn a_batch_has_no_more_bytes_than_it_may_except_for_a_single_message() {
        let mut waiting = waiting(&[of(1), of(2), of(3)]);
        let two = Options { batch_bytes: held(0, of(1)).size() * 2, ..options(9) };
        assert_eq!(numbers(&waiting.take(&two, &Attempts::default())), [0, 1]);
        let none = Options { batch_bytes: 1, ..options(9) };
        assert_eq!(numbers(&waiting.take(&none, &Attempts::default())), [2]);
    }

    #[test]
    fn a_record_that_made_a_batch_fail_goes_alone() {
        let mut waiting = waiting(&[of(1), of(2), of(2), of(3)]);
        let mut attempts = Attempts::default();
        attempts.set(1, Some(Attempt { failures: 1, alone: true }));
        assert_eq!(numbers(&waiting.take(&options(9), &attempts)), [0, 3], "its user's next message waits behind it");
        let alone = waiting.take(&options(9), &attempts);
        assert_eq!(numbers(&alone), [1]);
        waiting.release(&alone);
        assert_eq!(numbers(&waiting.take(&options(9), &attempts)), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_its_window_unless_it_is_full() {
        let window = Duration::from_secs(3);
        let patient = Options { maximum_batching_window: window, ..options(2) };
        let mut waiting = waiting(&[of(1)]);
        let came = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(waiting.ready_at(&patient, Instant::now()), Some(came + window));
        waiting.push(held(7, of(7)));
        assert_eq!(waiting.ready_at(&patient, Instant::now()), Some(Instant::now()));
        assert_eq!(Waiting::default().ready_at(&patient, Instant::now()), None);
    }

    #[test]
    fn what_is_removed_is_gone_and_the_others_stay() {
        let mut waiting = waiting(&[of(1), of(2), of(3)]);
        assert_eq!(numbers(&waiting.remove(|held| held.number() != 1)), [0, 2]);
        assert_eq!(numbers(&waiting.take(&options(9), &Attempts::default())), [1]);
        assert_eq!(waiting.bytes, 0);
    }
}
