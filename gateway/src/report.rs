//! What happens to connections, gathered for whoever decides about presence: opens and closes as soon as they can be
//! told, heartbeats together, twice a second at most. Nothing is given up because it can't be told now, up to a bound.

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
/// How many opens and closes, and how many heartbeats, wait at most. Of the changes the oldest give way: a lost open is
/// healed by the next heartbeat, a lost close by the deadline.
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
        match report.what {
            What::Heartbeat { .. } if self.heartbeats.len() < WAITING => {
                self.heartbeats.insert(report.session_id.clone(), report);
                return;
            }
            What::Heartbeat { .. } => return,
            // A heartbeat just before the end changes nothing, and sessions that come and go must not pile up.
            What::Closed { .. } => drop(self.heartbeats.remove(&report.session_id)),
            What::Opened { .. } => {}
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
                What::Heartbeat { .. } if self.heartbeats.len() >= WAITING => {}
                What::Heartbeat { .. } => {
                    self.heartbeats.entry(report.session_id.clone()).or_insert(report);
                }
                _ if self.changes.len() < WAITING => self.changes.push_front(report),
                _ => self.dropped += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use presence::domain::Rules;
    use presence::events::MemoryBus;
    use presence::store::MemoryStore;
    use uuid::Uuid;

    use super::*;

    const WEB: What = What::Heartbeat { platform: Platform::Web };
    const OPENED: What = What::Opened { platform: Platform::Web, status: None };
    const CLOSED: What = What::Closed { code: None };

    fn report(session: &str, what: What) -> Report {
        let session_id = session.parse().unwrap();
        Report { user_id: UserId::new(Uuid::nil()), session_id, at: Instant::now(), what }
    }

    /// Refuses as often as it is told to, and remembers what it took.
    #[derive(Default)]
    struct Listener {
        refusals: Mutex<usize>,
        told: Mutex<Vec<Vec<(String, What)>>>,
    }

    #[async_trait]
    impl Inputs for Listener {
        async fn tell(&self, happened: Vec<Happened>) -> Vec<Happened> {
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return happened;
            }
            assert!(happened.iter().all(|one| one.at.is_some()));
            let words = |one: Happened| (one.report.session_id.to_string(), one.report.what);
            self.told.lock().unwrap().push(happened.into_iter().map(words).collect());
            Vec::new()
        }
    }

    fn service() -> PresenceService {
        let rules = Rules::default();
        PresenceService::new(Arc::new(MemoryStore::new(rules)), Arc::new(MemoryBus::new()), rules)
    }

    fn words(told: &[(&str, What)]) -> Vec<(String, What)> {
        told.iter().map(|(session, what)| ((*session).to_owned(), *what)).collect()
    }

    #[tokio::test]
    async fn changes_are_told_in_their_order_and_of_heartbeats_the_latest_of_each_session() {
        let (reports, listener) = (Reports::default(), Listener::default());
        for (session, what) in [("a", OPENED), ("a", WEB), ("b", OPENED), ("a", WEB), ("b", CLOSED)] {
            reports.add(report(session, what));
        }
        assert!(reports.tell_once(&listener, &service()).await);
        let expected = words(&[("a", OPENED), ("b", OPENED), ("b", CLOSED), ("a", WEB)]);
        assert_eq!(*listener.told.lock().unwrap(), [expected]);
        assert!(reports.waiting().take().is_empty());
    }

    #[tokio::test]
    async fn what_is_refused_is_told_again_before_what_came_later_and_a_later_heartbeat_wins() {
        let (reports, listener) = (Reports::default(), Listener { refusals: Mutex::new(1), ..Listener::default() });
        reports.add(report("a", OPENED));
        reports.add(report("a", WEB));
        assert!(!reports.tell_once(&listener, &service()).await);
        let later = report("a", What::Heartbeat { platform: Platform::Mobile });
        reports.add(later.clone());
        reports.waiting().put_back(vec![Happened { report: report("a", WEB), at: None }]);
        reports.add(report("b", OPENED));
        assert!(reports.tell_once(&listener, &service()).await);
        assert_eq!(*listener.told.lock().unwrap(), [words(&[("a", OPENED), ("b", OPENED), ("a", later.what)])]);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_the_oldest_changes_give_way() {
        let mut waiting = Waiting::default();
        for number in 0..WAITING + 2 {
            waiting.add(report(&format!("s{number}"), OPENED));
            waiting.add(report(&format!("s{number}"), WEB));
        }
        assert_eq!((waiting.changes.len(), waiting.heartbeats.len(), waiting.dropped), (WAITING, WAITING, 2));
        assert_eq!(waiting.changes[0].session_id.as_str(), "s2");
        for number in 0..10 {
            waiting.add(report(&format!("s{number}"), CLOSED));
        }
        assert_eq!(waiting.heartbeats.len(), WAITING - 10);
    }

    #[tokio::test]
    async fn the_last_words_are_told_after_the_stop_however_often_it_takes() {
        let (reports, listener) = (Reports::default(), Listener { refusals: Mutex::new(2), ..Listener::default() });
        reports.add(report("a", CLOSED));
        let stop = CancellationToken::new();
        stop.cancel();
        reports.tell(&listener, &service(), &stop, Duration::from_secs(10)).await;
        assert_eq!(*listener.told.lock().unwrap(), [words(&[("a", CLOSED)])]);
    }
}
