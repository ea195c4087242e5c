//! Those who fell silent, as a function that a schedule starts each minute.
//!
//! One invocation makes a pass each second for most of its minute, so that silence is told soon although schedules are
//! coarse. Where a long-running process sweeps already it makes one pass and ends: that is the safety net for the day on
//! which that process is gone.

use std::time::Duration;

use presence::sweeper::Swept;
use presence::{Error, Sweeper};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How long an invocation works if its host does not end it earlier. The next one begins after a minute.
const WORK_TIME: Duration = Duration::from_secs(55);
/// How long before the host ends it an invocation ends by itself.
const MARGIN: Duration = Duration::from_secs(2);
/// How often it looks.
const TICK: Duration = Duration::from_secs(1);

/// What one invocation did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// Passes that were made.
    pub passes: usize,
    /// Passes that failed, as while the store is away.
    pub failed: usize,
    /// Users whose deadline had passed.
    pub expired: usize,
    /// Users with something that was not known to be published.
    pub reminded: usize,
    /// By how much the latest deadline was missed, in milliseconds.
    pub lag_ms: u64,
    /// Whether expiries were held in the last pass, because the store had been away.
    pub held: bool,
    /// Whether it ended early because somebody else sweeps.
    pub yielded: bool,
}

/// Sweeps until the minute is over, or `time_left` (less a margin), or until somebody else does it. Fails if no pass
/// succeeded.
///
/// Whatever comes as the event is taken: the payloads of schedules and rules differ, and can be set to anything. If it
/// says `"once": true`, itself or in its `detail`, one pass is made.
pub async fn handle(sweeper: &Sweeper, event: &Value, time_left: Option<Duration>) -> Result<Summary, Error> {
    let end = Instant::now() + time_to_work(time_left);
    let once = wants_one_pass(event);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut summary = Summary::default();
    let mut failure = None;
    // A pass that is cut short leaves nothing half done: what it had no time for stays due.
    while timeout_at(end, ticks.tick()).await.is_ok()
        && let Ok(swept) = timeout_at(end, sweeper.sweep()).await
    {
        match swept {
            Ok(swept) => summary.add(swept),
            Err(error) => {
                summary.failed += 1;
                failure = Some(error);
            }
        }
        summary.yielded = sweeper.has_ticker().await.unwrap_or(false);
        if once || summary.yielded {
            break;
        }
    }
    match failure {
        Some(error) if summary.passes == 0 => Err(error),
        _ => Ok(summary),
    }
}

impl Summary {
    fn add(&mut self, swept: Swept) {
        self.passes += 1;
        self.expired += swept.expired;
        self.reminded += swept.reminded;
        self.lag_ms = self.lag_ms.max(u64::try_from(swept.lag.as_millis()).unwrap_or(u64::MAX));
        self.held = swept.held_until.is_some();
    }
}

fn time_to_work(time_left: Option<Duration>) -> Duration {
    let Some(time_left) = time_left else { return WORK_TIME };
    WORK_TIME.min(time_left - MARGIN.min(time_left / 2))
}

fn wants_one_pass(event: &Value) -> bool {
    let says_so = |event: &Value| event["once"] == true;
    let detail = match &event["detail"] {
        // The default payload of a schedule has it as text.
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        detail => detail.clone(),
    };
    says_so(event) || says_so(&detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use presence::domain::Rules;
    use presence::events::MemoryBus;
    use presence::store::{MemoryStore, PresenceStore, RedisConfig, RedisStore};
    use presence::{ErrorKind, PresenceService};
    use serde_json::json;

    use super::*;

    fn sweeper(store: Arc<dyn PresenceStore>) -> Sweeper {
        Sweeper::new(Arc::new(PresenceService::new(store, Arc::new(MemoryBus::new()), Rules::default())))
    }

    fn memory() -> Arc<MemoryStore> {
        Arc::new(MemoryStore::new(Rules::default()))
    }

    #[test]
    fn one_pass_is_made_where_the_event_says_so_in_any_of_its_forms() {
        for once in [
            json!({ "once": true }),
            json!({ "detail-type": "Scheduled Event", "detail": { "once": true } }),
            json!({ "detail-type": "Scheduled Event", "detail": "{\"once\": true}" }),
        ] {
            assert!(wants_one_pass(&once), "{once}");
        }
        for other in [
            json!(null),
            json!({}),
            json!([{ "once": true }]),
            json!("once"),
            json!({ "once": "true" }),
            json!({ "detail-type": "Scheduled Event", "detail": {} }),
            json!({ "detail-type": "Scheduled Event", "detail": "{}" }),
            json!({ "detail": "not JSON" }),
            json!({ "detail": ["once"] }),
        ] {
            assert!(!wants_one_pass(&other), "{other}");
        }
    }

    #[test]
    fn an_invocation_ends_before_its_host_ends_it() {
        let seconds = Duration::from_secs;
        for (time_left, expected) in [
            (None, seconds(55)),
            (Some(seconds(900)), seconds(55)),
            (Some(seconds(57)), seconds(55)),
            (Some(seconds(30)), seconds(28)),
            (Some(seconds(3)), Duration::from_millis(1500)),
            (Some(Duration::ZERO), Duration::ZERO),
        ] {
            assert_eq!(time_to_work(time_left), expected, "{time_left:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn with_nobody_else_at_work_it_looks_each_second_until_its_time_is_over() {
        let started = Instant::now();
        let summary = handle(&sweeper(memory()), &json!({}), Some(Duration::from_millis(12_500))).await.unwrap();
        assert_eq!(summary, Summary { passes: 11, ..Summary::default() });
        assert_eq!(started.elapsed(), Duration::from_millis(10_500));
    }

    #[tokio::test]
    async fn where_somebody_sweeps_each_second_it_makes_one_pass() {
        let store = memory();
        sweeper(store.clone()).tick().await.unwrap();
        let summary = handle(&sweeper(store), &json!({}), None).await.unwrap();
        assert_eq!(summary, Summary { passes: 1, yielded: true, ..Summary::default() });
    }

    #[tokio::test]
    async fn told_to_make_one_pass_it_makes_one_and_others_need_not_yield_to_it() {
        let store = memory();
        let once = json!({ "once": true });
        for _ in 0..2 {
            let summary = handle(&sweeper(store.clone()), &once, None).await.unwrap();
            assert_eq!(summary, Summary { passes: 1, ..Summary::default() });
        }
    }

    #[tokio::test]
    async fn it_fails_if_no_pass_succeeded() {
        // Nobody listens on port 1.
        let redis =
            RedisConfig { url: "redis://127.0.0.1:1".into(), cluster: false, wait_replicas: 0, replica_url: None };
        let store = Arc::new(RedisStore::new(&redis, Rules::default()).unwrap());
        let failure = handle(&sweeper(store), &json!({ "once": true }), None).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn the_summary_is_short_json() {
        let summary = Summary { passes: 54, expired: 3, lag_ms: 812, ..Summary::default() };
        assert_eq!(
            serde_json::to_value(summary).unwrap(),
            json!({
                "passes": 54, "failed": 0, "expired": 3, "reminded": 0, "lag_ms": 812, "held": false, "yielded": false
            })
        );
    }
}
