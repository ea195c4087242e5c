//! Waiting for a condition, the only way in which a test waits.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// How long between two questions. Short against every deadline, long against the cost of a question.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until the answer is `Ok`, which it gives back. Fails the test when `within` is over, and then tells `what` was
/// awaited and the last `Err`: what was seen instead.
pub async fn eventually<T, S: Debug>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Result<T, S>) -> T {
    let deadline = Instant::now() + within;
    let mut last = None;
    loop {
        match timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(seen)) => last = Some(seen),
            Err(_) => panic!("{what}: not within {within:?}; the last question had no answer, before it: {last:?}"),
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}; seen instead: {last:?}");
        sleep(PAUSE).await;
    }
}

/// `seen` as the answer that [`eventually`] waits for if `good`, else as what was seen instead.
pub fn seen<T>(good: bool, seen: T) -> Result<T, T> {
    if good { Ok(seen) } else { Err(seen) }
}
