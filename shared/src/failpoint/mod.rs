//! Points at which a test makes the process crash, wait or fail, for real and on demand: before and after every call
//! of the store and of the publisher, and between the steps of one.
//!
//! They exist in builds with the feature `failpoints` and with debug assertions, which is how the tests build the
//! workspace. A release build has none, whatever its features.
//!
//! The variable `FAILPOINTS` sets them, in the syntax of the crate `fail`: `commit.after=20*off->return(abort)` crashes
//! the process after its 21st commit. What is returned says what happens:
//!
//! | | |
//! | --- | --- |
//! | `return(abort)` | the process ends at once, as if it was killed |
//! | `return(error)` | the call fails; if the point is after it, its effect is there all the same |
//! | `return(wait:20)` | it takes 20 ms longer |

#[cfg(all(feature = "failpoints", debug_assertions))]
mod events;
#[cfg(all(feature = "failpoints", debug_assertions))]
mod store;

use std::sync::Arc;

use crate::events::EventPublisher;
use crate::store::{PresenceStore, StoreError};

/// A store with points before and after each call that tests want to break.
#[cfg(all(feature = "failpoints", debug_assertions))]
pub(crate) fn around_store(store: Arc<dyn PresenceStore>) -> Arc<dyn PresenceStore> {
    Arc::new(store::Breakable(store))
}

/// The store as it is: this build has no points.
#[cfg(not(all(feature = "failpoints", debug_assertions)))]
pub(crate) fn around_store(store: Arc<dyn PresenceStore>) -> Arc<dyn PresenceStore> {
    store
}

/// A publisher with points before and after it publishes.
#[cfg(all(feature = "failpoints", debug_assertions))]
pub(crate) fn around_publisher(events: Arc<dyn EventPublisher>) -> Arc<dyn EventPublisher> {
    Arc::new(events::Breakable(events))
}

/// The publisher as it is: this build has no points.
#[cfg(not(all(feature = "failpoints", debug_assertions)))]
pub(crate) fn around_publisher(events: Arc<dyn EventPublisher>) -> Arc<dyn EventPublisher> {
    events
}

/// Does what is set for this point. Fails if that is to fail.
#[cfg(all(feature = "failpoints", debug_assertions))]
pub(crate) async fn reach(point: &str) -> Result<(), StoreError> {
    use std::sync::Once;
    use std::time::Duration;

    static SET: Once = Once::new();
    // Given up, it would be taken back.
    SET.call_once(|| std::mem::forget(fail::FailScenario::setup()));
    let Some(action) = fail::eval(point, Option::unwrap_or_default) else { return Ok(()) };
    let wait = action.strip_prefix("wait:").and_then(|millis| millis.parse().ok());
    match (action.as_str(), wait) {
        ("abort", _) => std::process::abort(),
        ("error", _) => Err(StoreError::Unavailable(format!("failpoint {point}"))),
        (_, Some(millis)) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(())
        }
        // A test that is written wrong must not pass.
        _ => {
            tracing::error!(point, action, "unknown action of a failpoint");
            std::process::abort()
        }
    }
}

/// Nothing is set in this build.
#[cfg(not(all(feature = "failpoints", debug_assertions)))]
pub(crate) async fn reach(_point: &str) -> Result<(), StoreError> {
    Ok(())
}
