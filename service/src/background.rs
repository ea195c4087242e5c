//! What the process does without being asked, from its start to its shutdown.

use std::sync::Arc;
use std::time::Duration;

use presence::{PresenceService, Sweeper};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often the sweeper looks for users whose deadline has passed.
const TICK: Duration = Duration::from_secs(1);

/// Sweeps each second until `shutdown`. A failed tick is told once an outage and made up for by the next.
pub(crate) async fn sweep(service: Arc<PresenceService>, shutdown: CancellationToken) {
    let sweeper = Sweeper::new(service);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        match sweeper.tick().await {
            Ok(_) if failing => {
                tracing::info!("the sweeper works again");
                failing = false;
            }
            Ok(_) => {}
            Err(error) if !failing => {
                tracing::warn!(%error, "the sweeper cannot work; it tries again each second");
                failing = true;
            }
            Err(_) => {}
        }
    }
}
