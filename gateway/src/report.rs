//! What happens to connections, gathered for whoever decides about presence: opens and closes as soon as they can be
//! told, heartbeats together, once a second at most. Nothing is given up because it can't be told now; what waits is
//! bounded by the connections, and for opens and closes by a number.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use presence::PresenceService;
use presence::domain::{Intent, Platform, SessionId, Timestamp, UserId};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::carrier::Inputs;

/// How long heartbeats are gathered.
const GATHER: Duration = Duration::from_millis(500);
/// The pause after something could not be told.
const RETRY: Duration = Duration::from_millis(500);
/// How many opens and closes wait at most. The oldest give way: a lost open is healed by the next heartbeat, a lost
/// close by the deadline.
const WAITING: usize = 100_000;

/// Something that happened to one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) user_id: UserId,
    pub(crate) session_id: SessionId,
    pub(crate) at: Instant,
    pub(crate) what: What,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Opened { platform: Platform, status: Option<Intent> },
    Heartbeat { platform: Platform },
    Closed { code: Option<u16> },
}

/// A report with its time by the store's clock; none if that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) report: Report,
    pub(crate) at: Option<Timestamp>,
}

/// The reports of one node that are not known to be told.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<Waiting>,
    /// An open or a close is there.
    urgent: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In their order.
    changes: VecDeque<Report>,
    /// The latest of each session.
    heartbeats: HashMap<SessionId, Report>,
    dropped: u64,
}

impl Reports {
    /// Adds a report; never waits.
    pub(crate) fn add(&self, report: Report) {
        let is_urgent = !matches!(report.what, What::Heartbeat { .. });
        self.waiting().add(report);
        if is_urgent {
            self.urgent.notify_one();
        }
    }

    /// Tells everything until `stop`, and then what is left, for `patience` at most.
    pub(crate) async fn tell(
        &self,
        inputs: &dyn Inputs,
        service: &PresenceService,
        stop: &CancellationToken,
        patience: Duration,
    ) {
        while stop.run_until_cancelled(self.gathered()).await.is_some() {
            if !self.tell_once(inputs, service).await {
                stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
            }
        }
        let deadline = Instant::now() + patience;
        let last_words = async {
            while !self.tell_once(inputs, service).await {
                tokio::time::sleep(RETRY).await;
            }
        };
        if timeout_at(deadline, last_words).await.is_err() {
            let reports = self.waiting().changes.len();
            tracing::warn!(reports, "connections that closed could not be told of; their deadlines will");
        }
    }

    /// Waits until it is time to tell: at once for an open or a close, after a moment for a heartbeat.
    async fn gathered(&self) {
        if self.waiting().changes.is_empty() {
            let _ = tokio::time::timeout(GATHER, self.urgent.notified()).await;
        }
    }

    /// Tells what waits now. False if some of it has to be told again.
    async fn tell_once(&self, inputs: &dyn Inputs, service: &PresenceService) -> bool {
        let reports = self.waiting().take();
        if reports.is_empty() {
            return true;
        }
        let now = service.now().await.ok();
        let (told, by) = (reports.len(), Instant::now());
        let dated = |report: Report| {
            let age = by.saturating_duration_since(report.at).as_millis() as i64;
            Happened { at: now.map(|now| Timestamp::from_millis(now.millis() - age)), report }
        };
        let left = inputs.tell(reports.into_iter().map(dated).collect()).await;
        metrics::counter!("presence_gateway_reports_total").increment((told - left.len()) as u64);
        let all = left.is_empty();
        if !all {
            tracing::debug!(reports = left.len(), "reports are told again");
            self.waiting().put_back(left);
        }
        all
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, report: Report) {
        if let What::Heartbeat { .. } = report.what {
            self.heartbeats.insert(report.session_id.clone(), report);
            return;
        }
        if self.changes.len() >= WAITING {
            self.changes.pop_front();
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(dropped = self.dropped, "too many reports wait to be told; the oldest give way");
            }
        }
        self.changes.push_back(report);
    }

    fn take(&mut self) -> Vec<Report> {
        let changes = std::mem::take(&mut self.changes);
        let heartbeats = std::mem::take(&mut self.heartbeats);
        changes.into_iter().chain(heartbeats.into_values()).collect()
    }

    /// Before what came in the meantime.
    fn put_back(&mut self, left: Vec<Happened>) {
        for Happened { report, .. } in left.into_iter().rev() {
            match report.what {
                What::Heartbeat { .. } => {
                    self.heartbeats.entry(report.session_id.clone()).or_insert(report);
                }
                _ if self.changes.len() < WAITING => self.changes.push_front(report),
                _ => self.dropped += 1,
            }
        }
    }
}
