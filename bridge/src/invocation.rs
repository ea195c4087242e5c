//! One batch on its way through a function, and what becomes of each of its records.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use presence::PresenceService;
use presence::domain::Timestamp;
use presence::events::batch::{Batch, BatchResponse};
use presence::events::{DeadLetter, DeadLetters};
use tokio::time::{Instant, timeout};

use crate::acks::Acks;
use crate::attempts::Attempt;
use crate::held::{Held, Origin};
use crate::metrics::{AGE, DURATION, INVOCATIONS, MESSAGES};
use crate::options::{EventSourceMapping, OnFailure};
use crate::target::{Target, TargetError};
use crate::times::Times;

/// What the invocations of one subscription share.
pub(crate) struct Job {
    pub(crate) mapping: EventSourceMapping,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) dead_letters: Arc<dyn DeadLetters>,
    pub(crate) service: Arc<PresenceService>,
    pub(crate) times: Times,
    pub(crate) acks: Acks,
}

/// What an invocation leaves to its worker.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) started: Instant,
    pub(crate) verdict: Verdict,
    /// Not processed, for no fault of theirs: to be offered again as soon as the gate opens.
    pub(crate) back: Vec<Arc<Held>>,
    /// Failed, and nobody else keeps them: to be offered again after a pause.
    pub(crate) again: Vec<(Arc<Held>, Duration)>,
    /// What is now known against records; none for those that are settled.
    pub(crate) attempts: Vec<(u64, Option<Attempt>)>,
}

/// What an invocation says about the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It works. Single records may have failed.
    Works,
    /// It processed nothing of all it was offered, although each record was offered alone: it is more likely broken
    /// than all of them.
    Broken,
    /// It, or what it needs, is away.
    Unavailable,
    /// It takes no more now.
    Throttled(Option<Duration>),
}

/// Offers a batch until each record is settled, or nothing more can be done at the moment.
pub(crate) async fn run(job: Arc<Job>, batch: Vec<Arc<Held>>, known: HashMap<u64, Attempt>) -> Report {
    let report =
        Report { started: Instant::now(), verdict: Verdict::Works, back: vec![], again: vec![], attempts: vec![] };
    let Ok(now) = job.service.now().await else {
        // Without the store's clock no function could decide anything either.
        return Report { verdict: Verdict::Unavailable, back: batch, ..report };
    };
    let mut invocation = Invocation { offered: batch.len(), processed: 0, began_at: now, job, known, report };
    invocation.offer_all(batch).await;
    invocation.report
}

struct Invocation {
    job: Arc<Job>,
    known: HashMap<u64, Attempt>,
    report: Report,
    /// By the store's clock.
    began_at: Timestamp,
    offered: usize,
    processed: usize,
}

impl Invocation {
    async fn offer_all(&mut self, batch: Vec<Arc<Held>>) {
        let batch = self.without_the_old(batch).await;
        let mut parts = vec![batch];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            let outcome = self.offer(&part).await;
            let can_be_halved = part.len() > 1
                && match &outcome {
                    Err(TargetError::Failed(_) | TargetError::TimedOut) => {
                        self.job.mapping.options.bisect_batch_on_function_error
                    }
                    Err(TargetError::Refused(_)) => true,
                    _ => false,
                };
            match outcome {
                Ok(response) => self.settle(part, response).await,
                Err(_) if can_be_halved => {
                    let mut first = part;
                    parts.push(first.split_off(first.len() / 2));
                    parts.push(first);
                }
                Err(error @ (TargetError::Failed(_) | TargetError::TimedOut)) => {
                    let alone = part.len() == 1;
                    self.fail(part, &error.to_string(), alone).await;
                }
                Err(error @ TargetError::Refused(_)) => self.give_up(part, &error.to_string()).await,
                Err(error @ (TargetError::Unavailable(_) | TargetError::Throttled { .. })) => {
                    self.report.verdict = match error {
                        TargetError::Throttled { retry_after } => Verdict::Throttled(retry_after),
                        _ => Verdict::Unavailable,
                    };
                    parts.push(part);
                    self.report.back = parts.into_iter().rev().flatten().collect();
                    return;
                }
            }
        }
        if self.processed == 0 && self.offered > 1 {
            self.report.verdict = Verdict::Broken;
        }
    }

    /// Has the function process a part of the batch.
    async fn offer(&self, part: &[Arc<Held>]) -> Result<BatchResponse, TargetError> {
        let Job { mapping, target, .. } = &*self.job;
        let function = &mapping.function;
        let batch = self.batch(part);
        if let Some(oldest) = batch.records.iter().filter_map(|record| record.timestamp).min() {
            metrics::histogram!(AGE, "function" => function.clone()).record(self.now().since(oldest));
        }
        let started = Instant::now();
        let invoking = AssertUnwindSafe(target.invoke(function, batch)).catch_unwind();
        let outcome = match timeout(mapping.options.invocation_timeout, invoking).await {
            Ok(Ok(outcome)) => outcome.and_then(|response| checked(response, part)),
            Ok(Err(_)) => Err(TargetError::Failed("it panicked".to_owned())),
            Err(_) => Err(TargetError::TimedOut),
        };
        let word = outcome.as_ref().map_or_else(TargetError::word, |_| "processed");
        metrics::histogram!(DURATION, "function" => function.clone()).record(started.elapsed());
        metrics::counter!(INVOCATIONS, "function" => function.clone(), "outcome" => word).increment(1);
        if let Err(error) = &outcome {
            tracing::warn!(function, records = part.len(), %error, "a batch was not processed");
        }
        outcome
    }

    fn batch(&self, part: &[Arc<Held>]) -> Batch {
        let record = |held: &Arc<Held>| held.record(self.time_of(held), self.failures(held));
        let is_kept = part.first().is_some_and(|held| matches!(held.origin, Origin::Stream(_)));
        let event_source = if is_kept { "nats:jetstream" } else { "nats:core" };
        Batch { event_source: event_source.to_owned(), records: part.iter().map(record).collect() }
    }

    /// The same at each offer: the time of the stream, or when it came to this process.
    fn time_of(&self, held: &Held) -> Timestamp {
        match &held.origin {
            Origin::Stream(delivery) => self.job.times.correct(delivery.published),
            Origin::Core { .. } => self.began_at - self.report.started.saturating_duration_since(held.received_at),
        }
    }

    fn now(&self) -> Timestamp {
        self.began_at + self.report.started.elapsed()
    }

    fn failures(&self, held: &Held) -> u32 {
        self.known.get(&held.number()).map_or(0, |attempt| attempt.failures)
    }

    /// Takes out what is too old to be offered.
    async fn without_the_old(&mut self, batch: Vec<Arc<Held>>) -> Vec<Arc<Held>> {
        let Some(maximum) = self.job.mapping.options.maximum_record_age else { return batch };
        let now = self.now();
        let is_old = |held: &Arc<Held>| now.since(self.time_of(held)) > maximum;
        let (old, fresh): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_old);
        if !old.is_empty() {
            self.processed += old.len();
            self.give_up(old, &format!("older than {} s", maximum.as_secs())).await;
        }
        fresh
    }

    /// The function processed a part, and names the records that have to come again.
    async fn settle(&mut self, part: Vec<Arc<Held>>, response: BatchResponse) {
        if response.batch_item_failures.is_empty() {
            self.done(&part).await;
            return;
        }
        let failed: HashSet<String> =
            response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
        let (failed, done): (Vec<_>, Vec<_>) = part.into_iter().partition(|held| failed.contains(&held.message_id()));
        self.done(&done).await;
        self.processed += failed.len();
        self.fail(failed, "the function did not process it", false).await;
    }

    async fn done(&mut self, part: &[Arc<Held>]) {
        self.processed += part.len();
        self.count("done", part.len());
        self.job.acks.done(part).await;
        self.forget(part);
    }

    /// Counts an attempt for each. The hopeless ones are given up, the others come again after a pause.
    async fn fail(&mut self, part: Vec<Arc<Held>>, reason: &str, alone: bool) {
        let mut later = Vec::with_capacity(part.len());
        let mut hopeless = Vec::new();
        for held in part {
            let attempt = self.known.get(&held.number()).copied().unwrap_or_default().failed(alone);
            self.known.insert(held.number(), attempt);
            if attempt.is_hopeless(self.job.mapping.options.maximum_retry_attempts) {
                hopeless.push(held);
            } else {
                later.push((held, attempt));
            }
        }
        self.again(later).await;
        if !hopeless.is_empty() {
            self.give_up(hopeless, reason).await;
        }
    }

    /// Ends records for good. One whose letter is not known to be kept comes again.
    async fn give_up(&mut self, part: Vec<Arc<Held>>, reason: &str) {
        let is_kept: Vec<bool> = match self.job.mapping.options.on_failure {
            OnFailure::Discard => vec![true; part.len()],
            OnFailure::DeadLetter => {
                let letters: Vec<DeadLetter> = part.iter().map(|held| self.letter(held, reason)).collect();
                let dead_letters = &self.job.dead_letters;
                let kept: Vec<_> = letters.into_iter().map(|letter| dead_letters.put(letter)).collect();
                join_all(kept).await.iter().map(Result::is_ok).collect()
            }
        };
        let (mut over, mut open) = (Vec::new(), Vec::new());
        for (held, is_kept) in part.into_iter().zip(is_kept) {
            if is_kept {
                over.push(held);
            } else {
                let attempt = self.known.get(&held.number()).copied().unwrap_or_default().failed(false);
                open.push((held, attempt));
            }
        }
        let is_discarded = self.job.mapping.options.on_failure == OnFailure::Discard;
        self.count(if is_discarded { "discarded" } else { "dead_letter" }, over.len());
        self.job.acks.over(&over).await;
        self.forget(&over);
        self.again(open).await;
    }

    fn letter(&self, held: &Held, reason: &str) -> DeadLetter {
        let failures = self.failures(held);
        let timestamp = self.time_of(held);
        let record = held.record(timestamp, failures.saturating_sub(1));
        DeadLetter {
            function: self.job.mapping.function.clone(),
            reason: reason.to_owned(),
            elements: Vec::new(),
            subject: record.subject,
            message_id: record.message_id,
            delivered: record.num_delivered,
            time: timestamp,
            headers: record.headers,
            payload: record.data,
        }
    }

    /// They come again after a pause: from the stream, or from this process where nobody else keeps them.
    async fn again(&mut self, records: Vec<(Arc<Held>, Attempt)>) {
        self.count("again", records.len());
        self.report.attempts.extend(records.iter().map(|(held, attempt)| (held.number(), Some(*attempt))));
        let (kept, own): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(held, _)| matches!(held.origin, Origin::Stream(_)));
        let delayed = |records: Vec<(Arc<Held>, Attempt)>| -> Vec<(Arc<Held>, Duration)> {
            records.into_iter().map(|(held, attempt)| (held, attempt.delay())).collect()
        };
        self.job.acks.later(&delayed(kept)).await;
        self.report.again.extend(delayed(own));
    }

    fn forget(&mut self, settled: &[Arc<Held>]) {
        for held in settled {
            if self.known.contains_key(&held.number()) {
                self.report.attempts.push((held.number(), None));
            }
        }
    }

    fn count(&self, outcome: &'static str, messages: usize) {
        if messages > 0 {
            let function = self.job.mapping.function.clone();
            metrics::counter!(MESSAGES, "function" => function, "outcome" => outcome).increment(messages as u64);
        }
    }
}

/// An answer that names a record which was not offered says nothing about those that were: the batch failed.
fn checked(response: BatchResponse, part: &[Arc<Held>]) -> Result<BatchResponse, TargetError> {
    if response.batch_item_failures.is_empty() {
        return Ok(response);
    }
    let offered: HashSet<String> = part.iter().map(|held| held.message_id()).collect();
    match response.batch_item_failures.iter().find(|failure| !offered.contains(&failure.item_identifier)) {
        None => Ok(response),
        Some(_) => Err(TargetError::Failed("its answer names a record that it was not given".to_owned())),
    }
}
