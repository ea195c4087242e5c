//! One subscription at work: takes the messages that come, offers them in batches, and sees to it that each is settled.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::attempts::Attempts;
use crate::gate::Gate;
use crate::held::{Held, Origin};
use crate::invocation::{self, Job, Report, Verdict};
use crate::metrics::{LIMIT, MESSAGES, WAITING};
use crate::waiting::Waiting;

/// When messages come again that a shutdown hands back: not before this process has stopped asking for more.
const HANDED_BACK: Duration = Duration::from_secs(1);

/// How many messages are taken at once before anything else is looked at.
const MANY: usize = 256;

/// The far future, for what does not happen.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Owns all messages of one subscription that this process holds.
pub(crate) struct Worker {
    job: Arc<Job>,
    arriving: mpsc::Receiver<Held>,
    ack_wait: Arc<AckWait>,
    /// How long a shutdown waits for what is under way.
    drain_time: Duration,
    waiting: Waiting,
    gate: Gate,
    attempts: Attempts,
    running: JoinSet<Report>,
    under_way: HashMap<task::Id, Vec<Arc<Held>>>,
    /// Failed messages that nobody else keeps, by when they are offered again.
    later: BinaryHeap<Reverse<Later>>,
    /// Since when the process is ending.
    draining_since: Option<Instant>,
    waiting_messages: metrics::Gauge,
    limit: metrics::Gauge,
}

/// How long the stream waits for an acknowledgement before it delivers a message again.
#[derive(Debug)]
pub(crate) struct AckWait(AtomicU64);

impl AckWait {
    pub(crate) fn new(time: Duration) -> Self {
        let ack_wait = Self(AtomicU64::new(0));
        ack_wait.set(time);
        ack_wait
    }

    /// As the consumer has it, which an operator may have made.
    pub(crate) fn set(&self, time: Duration) {
        self.0.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct Later {
    at: Instant,
    number: u64,
    held: Arc<Held>,
}

impl Worker {
    pub(crate) fn new(
        job: Arc<Job>,
        arriving: mpsc::Receiver<Held>,
        ack_wait: Arc<AckWait>,
        drain_time: Duration,
    ) -> Self {
        let gate = Gate::new(job.mapping.options.maximum_concurrency);
        let function = job.mapping.function.clone();
        Self {
            waiting_messages: metrics::gauge!(WAITING, "function" => function.clone()),
            limit: metrics::gauge!(LIMIT, "function" => function),
            job,
            arriving,
            ack_wait,
            drain_time,
            waiting: Waiting::default(),
            gate,
            attempts: Attempts::default(),
            running: JoinSet::new(),
            under_way: HashMap::new(),
            later: BinaryHeap::new(),
            draining_since: None,
        }
    }

    /// Works until `shutdown`, then finishes what is under way and hands the rest back. Ends when the source of messages
    /// has ended and none is held any more, or when its time is over.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut arrived = Vec::with_capacity(MANY);
        let mut has_source = true;
        let mut held_on_at = Instant::now();
        loop {
            if self.draining_since.is_some() {
                self.hand_back().await;
                let is_empty = self.running.is_empty() && self.waiting.len() == 0 && self.later.is_empty();
                if is_empty && !has_source {
                    break;
                }
            }
            self.start_invocations();
            let (wake, end) = (self.wakes_at(), self.ends_at());
            tokio::select! {
                () = shutdown.cancelled(), if self.draining_since.is_none() => {
                    self.draining_since = Some(Instant::now());
                }
                Some(joined) = self.running.join_next_with_id() => self.take_report(joined),
                count = self.arriving.recv_many(&mut arrived, MANY), if has_source => {
                    has_source = count > 0;
                    arrived.drain(..).for_each(|held| self.waiting.push(Arc::new(held)));
                }
                () = sleep_until(held_on_at + self.ack_wait.get() / 3) => {
                    self.hold_on().await;
                    held_on_at = Instant::now();
                }
                () = sleep_until(wake) => {}
                () = sleep_until(end) => {
                    self.abandon().await;
                    break;
                }
            }
        }
        self.job.acks.flush().await;
    }

    /// Offers batches as long as there are messages that may go and the gate lets them.
    fn start_invocations(&mut self) {
        let now = Instant::now();
        while self.later.peek().is_some_and(|Reverse(later)| later.at <= now) {
            if let Some(Reverse(later)) = self.later.pop() {
                self.waiting.push(later.held);
            }
        }
        let options = self.job.mapping.options;
        while self.running.len() < self.gate.limit(now) {
            let is_ready = |at: Instant| at <= now || self.draining_since.is_some();
            if !self.waiting.ready_at(&options, now).is_some_and(is_ready) {
                break;
            }
            let batch = self.waiting.take(&options, &self.attempts);
            if batch.is_empty() {
                break;
            }
            let known = |held: &Arc<Held>| {
                let attempt = self.attempts.get(held.number());
                (attempt.failures > 0).then_some((held.number(), attempt))
            };
            let known = batch.iter().filter_map(known).collect();
            let running = self.running.spawn(invocation::run(self.job.clone(), batch.clone(), known));
            self.under_way.insert(running.id(), batch);
        }
        self.waiting_messages.set(self.waiting.len() as f64);
        self.limit.set(self.gate.limit(now) as f64);
    }

    fn take_report(&mut self, joined: Result<(task::Id, Report), task::JoinError>) {
        let id = joined.as_ref().map_or_else(task::JoinError::id, |(id, _)| *id);
        let batch = self.under_way.remove(&id).unwrap_or_default();
        self.waiting.release(&batch);
        let now = Instant::now();
        let Ok((_, report)) = joined else {
            // A defect of ours. What was settled before is settled twice, which changes nothing.
            tracing::error!(function = self.job.mapping.function, "an invocation ended without a report");
            self.gate.unavailable(now, now);
            self.waiting.give_back(batch);
            return;
        };
        match report.verdict {
            Verdict::Works => self.gate.succeeded(),
            Verdict::Broken | Verdict::Unavailable => self.gate.unavailable(report.started, now),
            Verdict::Throttled(retry_after) => self.gate.throttled(report.started, now, retry_after),
        }
        for (number, attempt) in report.attempts {
            self.attempts.set(number, attempt);
        }
        self.waiting.give_back(report.back);
        self.later.extend(report.again.into_iter().map(|(held, delay)| {
            let number = held.number();
            Reverse(Later { at: now + delay, number, held })
        }));
    }

    /// When something happens that nobody tells of.
    fn wakes_at(&self) -> Instant {
        let now = Instant::now();
        let gate = self.gate.opens_at(now);
        let has_place = self.running.len() < self.gate.limit(now);
        let batch = self.waiting.ready_at(&self.job.mapping.options, now).filter(|_| has_place);
        let later = self.later.peek().map(|Reverse(later)| later.at);
        [gate, batch, later].into_iter().flatten().min().unwrap_or(now + NEVER)
    }

    fn ends_at(&self) -> Instant {
        self.draining_since.map_or_else(|| Instant::now() + NEVER, |since| since + self.drain_time)
    }

    /// Keeps the stream from delivering again what is still held here.
    async fn hold_on(&self) {
        let age = self.ack_wait.get() / 4;
        let all = self.waiting.iter().chain(self.under_way.values().flatten());
        let held: Vec<Arc<Held>> = all.filter(|held| held.received_at.elapsed() > age).cloned().collect();
        self.job.acks.in_progress(&held).await;
    }

    /// At a shutdown: the stream gets back what is not under way. What nobody else keeps is still processed here.
    async fn hand_back(&mut self) {
        let back = self.waiting.remove(|held| matches!(held.origin, Origin::Stream(_)));
        if !back.is_empty() {
            self.returned(back).await;
        }
    }

    /// The time of a shutdown is over.
    async fn abandon(&mut self) {
        self.running.abort_all();
        let rest: Vec<Arc<Held>> = self.waiting.remove(|_| true);
        let under_way: Vec<Arc<Held>> = self.under_way.drain().flat_map(|(_, batch)| batch).collect();
        let later = self.later.drain().map(|Reverse(later)| later.held);
        let all: Vec<Arc<Held>> = rest.into_iter().chain(under_way).chain(later).collect();
        let (kept, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(|held| matches!(held.origin, Origin::Stream(_)));
        let function = &self.job.mapping.function;
        tracing::warn!(function, returned = kept.len(), lost = lost.len(), "messages were not processed in time");
        self.returned(kept).await;
    }

    async fn returned(&self, messages: Vec<Arc<Held>>) {
        let (function, count) = (self.job.mapping.function.clone(), messages.len() as u64);
        let later: Vec<(Arc<Held>, Duration)> = messages.into_iter().map(|held| (held, HANDED_BACK)).collect();
        self.job.acks.later(&later).await;
        metrics::counter!(MESSAGES, "function" => function, "outcome" => "returned").increment(count);
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
