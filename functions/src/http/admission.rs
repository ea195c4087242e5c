//! What a process that is alone with its load takes on: so many requests at once, a short wait for the ones in a burst,
//! and a quick refusal for all beyond. A longer queue would only make everyone late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::Method;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::{ENDPOINTS, bulk_get_presence};

/// How much is taken on.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// Requests that are served at once; one for many users counts as [`BULK_WEIGHT`].
    pub in_flight: usize,
    /// How long a request may wait for others to end. Once a queue has stood for as long as that, few may wait, and a
    /// tenth of it: then those ahead of them are no burst that will be over.
    pub queue_time: Duration,
}

/// What a bulk read counts as. It may ask for a thousand users, and is known by its path before its body is read.
pub const BULK_WEIGHT: usize = 16;

/// At most so many requests wait for each that is served.
const WAITING: usize = 4;

/// While a queue stands, one waits for each of so many that are served. That keeps the places full. To let more wait
/// would be dear: who waits in vain costs more than who is refused at once.
const STANDING: usize = 4;

/// Why a request is turned away.
#[derive(Debug)]
pub(super) struct Overloaded;

/// Lets in as many requests as there are places.
#[derive(Debug)]
pub(super) struct Gate {
    admission: Admission,
    places: Semaphore,
    /// How many more may wait in a burst.
    burst: Semaphore,
    /// How many more may wait while a queue stands.
    standing: Semaphore,
    opened: Instant,
    /// When a request last found a place at once or soon after, in milliseconds since `opened`.
    soon_at: AtomicU64,
}

impl Gate {
    pub(super) fn new(admission: Admission) -> Self {
        let in_flight = admission.in_flight;
        Self {
            admission,
            places: Semaphore::new(in_flight),
            burst: Semaphore::new(in_flight.saturating_mul(WAITING).min(Semaphore::MAX_PERMITS)),
            standing: Semaphore::new((in_flight / STANDING).max(1)),
            opened: Instant::now(),
            soon_at: AtomicU64::new(0),
        }
    }

    /// The place of a request, if it needs one: those of endpoints do, with a method that the endpoint has.
    pub(super) async fn enter(
        &self,
        method: &Method,
        route: &'static str,
    ) -> Result<Option<SemaphorePermit<'_>>, Overloaded> {
        let endpoint = ENDPOINTS.iter().find(|(path, _)| *path == route);
        if !endpoint.is_some_and(|(_, allow)| allow.split(',').any(|allowed| allowed == method.as_str())) {
            return Ok(None);
        }
        let weight = if route == bulk_get_presence::PATH { BULK_WEIGHT } else { 1 };
        self.place(weight).await.map(Some).ok_or(Overloaded)
    }

    async fn place(&self, weight: usize) -> Option<SemaphorePermit<'_>> {
        let weight = u32::try_from(weight.min(self.admission.in_flight)).ok()?;
        let came = self.opened.elapsed();
        if let Ok(place) = self.places.try_acquire_many(weight) {
            self.soon_at.fetch_max(millis(came), Ordering::Relaxed);
            return Some(place);
        }
        let stands = self.stands(came);
        let (queue, patience) = if stands {
            (&self.standing, self.admission.queue_time / 10)
        } else {
            (&self.burst, self.admission.queue_time)
        };
        let _waits = queue.try_acquire().ok()?;
        let place = timeout(patience, self.places.acquire_many(weight)).await.ok()?.ok()?;
        let now = self.opened.elapsed();
        if !stands && now - came <= self.admission.queue_time / 20 {
            self.soon_at.fetch_max(millis(now), Ordering::Relaxed);
        }
        Some(place)
    }

    /// A queue stands if for the whole queue time nobody found a place soon: the rule of CoDel, by the shortest wait.
    /// That everybody waits for a moment is no sign: so it is whenever the places are well used. It ends when somebody
    /// finds a place at once: that those who may still wait do so for a moment only is because the others may not.
    fn stands(&self, now: Duration) -> bool {
        let stands_for = millis(now).saturating_sub(self.soon_at.load(Ordering::Relaxed));
        stands_for > millis(self.admission.queue_time)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::routing::{get, post};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::http::testing::{Answer, app, send};
    use crate::http::{HttpApp, app as serve, get_typing, health};

    const SLOW: &str = "/presence/typing/some";

    const SECOND: Duration = Duration::from_secs(1);

    /// A host whose requests last until they are released one by one.
    #[derive(Clone)]
    struct Host {
        app: HttpApp,
        entered: Arc<Semaphore>,
        release: Arc<Notify>,
    }

    impl Host {
        fn with(in_flight: usize) -> Self {
            let (entered, release) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
            let (enter, wait) = (Arc::clone(&entered), Arc::clone(&release));
            let handler = async move || {
                enter.add_permits(1);
                wait.notified().await;
            };
            let routes = Router::new()
                .route(get_typing::PATH, get(handler.clone()))
                .route(bulk_get_presence::PATH, post(handler))
                .merge(health::routes());
            let app = serve(routes, app()).behind(Admission { in_flight, queue_time: SECOND });
            Self { app, entered, release }
        }

        fn begin(&self, method: &'static str, path: &'static str) -> JoinHandle<Answer> {
            let app = self.app.clone();
            tokio::spawn(async move { send(&app, method, path, &[]).await })
        }

        /// For so often a request is served after another, and each of them has waited for so long.
        async fn hand_over(&self, times: usize, after: Duration) {
            for _ in 0..times {
                let _waits = self.begin("GET", SLOW);
                tokio::time::sleep(after).await;
                self.release.notify_one();
                self.entered.acquire().await.unwrap().forget();
            }
        }

        /// How long a request waits that finds no place.
        async fn patience(&self) -> Duration {
            let begun = Instant::now();
            assert_refused(&self.begin("GET", SLOW).await.unwrap());
            begun.elapsed()
        }

        /// Begins a request and waits until it is being served.
        async fn serve(&self) -> JoinHandle<Answer> {
            let begun = self.begin("GET", SLOW);
            self.entered.acquire().await.unwrap().forget();
            begun
        }
    }

    fn assert_refused(answer: &Answer) {
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "overloaded"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_place_for_its_time_and_is_then_refused() {
        let host = Host::with(1);
        let held = host.serve().await;
        let begun = Instant::now();
        assert_refused(&host.begin("GET", SLOW).await.unwrap());
        assert_eq!(begun.elapsed(), SECOND);

        let waits = host.serve();
        host.release.notify_one();
        let waits = waits.await;
        assert_eq!(held.await.unwrap().status, 200, "and who waits gets the place of who is done");
        host.release.notify_one();
        assert_eq!(waits.await.unwrap().status, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_overload_that_lasts_a_request_waits_for_a_tenth_of_its_time() {
        let host = Host::with(1);
        let held = host.serve().await;
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(host.patience().await, SECOND / 10);

        host.release.notify_one();
        held.await.unwrap();
        let _held = host.serve().await;
        assert_eq!(host.patience().await, SECOND, "once a place was free, it is a burst again");
    }

    #[tokio::test(start_paused = true)]
    async fn that_every_request_waits_for_a_moment_is_no_overload() {
        let host = Host::with(1);
        let _held = host.serve().await;
        host.hand_over(50, SECOND / 25).await;
        assert_eq!(host.patience().await, SECOND, "there was no place at once for two seconds, but always one soon");
    }

    #[tokio::test(start_paused = true)]
    async fn an_overload_is_not_over_because_the_queue_was_cut() {
        let host = Host::with(1);
        let _held = host.serve().await;
        host.hand_over(50, SECOND / 12).await;
        assert_eq!(host.patience().await, SECOND / 10);
        host.hand_over(10, SECOND / 25).await;
        assert_eq!(host.patience().await, SECOND / 10, "who may wait finds a place soon, because others may not");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_the_next_is_refused_at_once() {
        let host = Host::with(1);
        let _held = host.serve().await;
        let waiting: Vec<_> = (0..WAITING).map(|_| host.begin("GET", SLOW)).collect();
        tokio::task::yield_now().await;
        let begun = Instant::now();
        assert_refused(&host.begin("GET", SLOW).await.unwrap());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(waiting.iter().all(|waits| !waits.is_finished()));
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_overload_that_lasts_few_wait_and_the_next_is_refused_at_once() {
        let host = Host::with(2 * STANDING);
        for _ in 0..2 * STANDING {
            host.serve().await;
        }
        tokio::time::advance(2 * SECOND).await;
        let waiting = [(); 2].map(|()| host.begin("GET", SLOW));
        tokio::task::yield_now().await;
        assert_eq!(host.patience().await, Duration::ZERO);
        assert!(waiting.iter().all(|waits| !waits.is_finished()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bulk_read_takes_the_place_of_many() {
        let host = Host::with(2 * BULK_WEIGHT);
        let bulks = [(); 2].map(|()| host.begin("POST", bulk_get_presence::PATH));
        let _entered = host.entered.acquire_many(2).await.unwrap();
        assert_refused(&host.begin("GET", SLOW).await.unwrap());
        host.release.notify_waiters();
        for bulk in bulks {
            assert_eq!(bulk.await.unwrap().status, 200);
        }
        let single = Host::with(1);
        let _bulk = single.begin("POST", bulk_get_presence::PATH);
        single.entered.acquire().await.expect("it is served also where there are fewer places than that").forget();
    }

    #[tokio::test(start_paused = true)]
    async fn probes_and_what_is_not_there_need_no_place() {
        let host = Host::with(1);
        let _held = host.serve().await;
        for (method, path, status) in [
            ("GET", "/health", 200),
            ("GET", "/presence/some/where", 404),
            ("GET", "/nowhere", 404),
            ("DELETE", SLOW, 405),
        ] {
            assert_eq!(send(&host.app, method, path, &[]).await.status, status, "{method} {path}");
        }
    }
}
