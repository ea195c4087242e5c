//! When messages were published, by the clock that everything is decided by: the store's.
//!
//! A stream notes when it took a message, by the clock of its host, and hosts disagree: by milliseconds where someone
//! looks after the clocks, by minutes where not. The difference is measured and taken off. It is held steady and
//! corrected in coarse steps, because a message must have one time, however often it comes and whoever takes it: a
//! repeated open must not move to after its close.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use presence::PresenceService;
use presence::domain::Timestamp;
use presence::events::nats::{INPUT_STREAM, NatsLink};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Clocks that differ by less are as good as equal, and a correction that is off by less is kept: more than the error
/// of a measurement, less than anyone notices.
const TOLERANCE: i64 = 100;
/// A measurement as exact as this is not tried again: it can't lead to another step than one without error, but for
/// clocks that differ by close to half a step.
const GOOD_ERROR: i64 = 10;
/// A measurement that is less exact than this says nothing.
const WORST_ERROR: i64 = 500;
const TRIES: usize = 10;

const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Corrects the times of messages. Clones share what is known.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// What to add to a time of the stream, in milliseconds; none before the first measurement.
    correction: watch::Receiver<Option<i64>>,
}

impl Times {
    /// Measures now and then until the end of `shutdown`.
    pub(crate) fn start(link: NatsLink, service: Arc<PresenceService>, shutdown: CancellationToken) -> Self {
        let (sender, correction) = watch::channel(None);
        tokio::spawn(async move { shutdown.run_until_cancelled(keep_measuring(link, service, sender)).await });
        Self { correction }
    }

    /// Waits until the clocks were compared for the first time.
    pub(crate) async fn known(&self) {
        let mut correction = self.correction.clone();
        if correction.wait_for(Option::is_some).await.is_err() {
            // Nobody measures any more: the process ends.
            std::future::pending::<()>().await;
        }
    }

    /// When a message was published by the store's clock.
    pub(crate) fn correct(&self, published: Timestamp) -> Timestamp {
        let correction = (*self.correction.borrow()).unwrap_or(0);
        Timestamp::from_millis(published.millis().saturating_add(correction))
    }

    #[cfg(test)]
    pub(crate) fn fixed(correction: i64) -> Self {
        Self { correction: watch::channel(Some(correction)).1 }
    }
}

async fn keep_measuring(link: NatsLink, service: Arc<PresenceService>, correction: watch::Sender<Option<i64>>) {
    let mut is_told = false;
    loop {
        let measured = if link.has_jetstream().await { Some(measure(&link, &service).await) } else { None };
        let pause = match measured {
            None => INTERVAL,
            Some(Ok(Measured { offset, error })) => {
                is_told = false;
                let held = *correction.borrow();
                let steady = steady(held, offset, error);
                if held != Some(steady) {
                    tell(held, steady);
                    correction.send_replace(Some(steady));
                }
                INTERVAL
            }
            Some(Err(reason)) => {
                if !is_told {
                    tracing::warn!(reason, "the clocks of the store and of NATS can't be compared; trying on");
                    is_told = true;
                }
                INTERVAL_AFTER_FAILURE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn tell(held: Option<i64>, steady: i64) {
    metrics::gauge!(crate::metrics::CORRECTION).set(steady as f64 / 1000.0);
    if steady != 0 {
        tracing::warn!(
            milliseconds = steady,
            "the clock of the NATS host differs from the store's: times of messages are corrected by this"
        );
    } else if held.is_some() {
        tracing::info!("the clock of the NATS host agrees with the store's again");
    }
}

/// By how much the store is ahead of the stream, in milliseconds, and how exact that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measured {
    offset: i64,
    error: i64,
}

/// The best of some tries: only a quick answer tells the time exactly, and a busy host gives one now and then.
async fn measure(link: &NatsLink, service: &PresenceService) -> Result<Measured, String> {
    let mut best: Option<Measured> = None;
    for _ in 0..TRIES {
        let measured = measure_once(link, service).await?;
        if best.is_none_or(|best| measured.error < best.error) {
            best = Some(measured);
        }
        if measured.error <= GOOD_ERROR {
            break;
        }
    }
    best.filter(|best| best.error <= WORST_ERROR).ok_or_else(|| "NATS answers too slowly".to_owned())
}

async fn measure_once(link: &NatsLink, service: &PresenceService) -> Result<Measured, String> {
    let now = async || service.now().await.map(Timestamp::millis).map_err(|error| error.to_string());
    let before = now().await?;
    let theirs = server_time(link).await?.millis();
    let after = now().await?;
    Ok(Measured { offset: before.midpoint(after) - theirs, error: (after - before).abs() / 2 + 1 })
}

/// The correction to go on with: the one that is held, unless it is plainly wrong.
fn steady(held: Option<i64>, offset: i64, error: i64) -> i64 {
    let fits = |correction: &i64| (offset - correction).abs() <= TOLERANCE + error;
    let coarse = (offset as f64 / TOLERANCE as f64).round() as i64 * TOLERANCE;
    held.or(Some(0)).filter(fits).unwrap_or(coarse)
}

#[derive(Deserialize)]
struct StreamTime {
    /// Since NATS 2.10.
    ts: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Created {
    name: String,
    created: Timestamp,
}

/// What time it is for the stream, from the host that also stamps its messages.
async fn server_time(link: &NatsLink) -> Result<Timestamp, String> {
    match link.jetstream().request(format!("STREAM.INFO.{INPUT_STREAM}"), &json!({})).await {
        Ok(Response::Ok(StreamTime { ts: Some(time) })) => Ok(time),
        Ok(Response::Ok(StreamTime { ts: None })) => time_of_creation(link).await,
        Ok(Response::Err { error }) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Older servers tell the time only of what they make: a consumer that nobody uses.
async fn time_of_creation(link: &NatsLink) -> Result<Timestamp, String> {
    let config = json!({ "deliver_policy": "new", "ack_policy": "explicit", "inactive_threshold": 5_000_000_000_u64 });
    let request = json!({ "stream_name": INPUT_STREAM, "config": config });
    match link.jetstream().request(format!("CONSUMER.CREATE.{INPUT_STREAM}"), &request).await {
        Ok(Response::Ok(Created { name, created })) => {
            let delete = format!("CONSUMER.DELETE.{INPUT_STREAM}.{name}");
            // It goes by itself where this fails.
            let _: Result<serde_json::Value, _> = link.jetstream().request(delete, &json!({})).await;
            Ok(created)
        }
        Ok(Response::Err { error }) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_nearly_agree_are_taken_to_agree() {
        for offset in [0, 1, -99, 100] {
            assert_eq!(steady(None, offset, 1), 0, "{offset}");
        }
    }

    #[test]
    fn clocks_that_differ_are_corrected_in_coarse_steps() {
        for (offset, correction) in [(120_007, 120_000), (-120_049, -120_000), (151, 200), (-149, -100)] {
            assert_eq!(steady(None, offset, 1), correction, "{offset}");
        }
    }

    #[test]
    fn a_correction_holds_until_it_is_plainly_wrong() {
        assert_eq!(steady(Some(120_000), 120_090, 5), 120_000);
        assert_eq!(steady(Some(120_000), 119_905, 5), 120_000);
        assert_eq!(steady(Some(120_000), 120_160, 5), 120_200);
        assert_eq!(steady(Some(120_000), 30, 5), 0, "their clock was set right");
        assert_eq!(steady(Some(0), 104, 5), 0, "an inexact measurement changes less");
    }

    #[test]
    fn times_are_corrected_for_good_and_stay_in_range() {
        let published = Timestamp::from_millis(1_000_000);
        assert_eq!(Times::fixed(-400).correct(published).millis(), 999_600);
        assert_eq!(Times::fixed(i64::MIN).correct(published).millis(), 0);
    }
}
