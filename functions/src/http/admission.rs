//! What a process that is alone with its load takes on: so many requests at once, a short wait for the ones in a burst,
//! and a quick refusal for all beyond. A longer queue would only make everyone late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::bulk_get_presence;
use super::problem::Problem;
use crate::App;

/// How much is taken on.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// Requests that are served at once; one for many users counts as [`BULK_WEIGHT`].
    pub in_flight: usize,
    /// How long a request may wait for others to end. Once a queue has stood for as long as that, it may wait a tenth
    /// of it: then those ahead of it are no burst that will be over, and waiting helps nobody.
    pub queue_time: Duration,
}

/// What a bulk read counts as. It may ask for a thousand users, and is known by its path before its body is read.
pub const BULK_WEIGHT: usize = 16;

/// At most so many requests wait for each that is served.
const WAITING: usize = 4;

/// The same routes behind the admission. A request is refused before its token is looked at.
pub fn admit(routes: Router<App>, admission: Admission) -> Router<App> {
    let gate = Arc::new(Gate::new(admission));
    routes.route_layer(middleware::from_fn(move |request: Request, next: Next| {
        let gate = Arc::clone(&gate);
        async move { gate.pass(request, next).await }
    }))
}

struct Gate {
    admission: Admission,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    opened: Instant,
    /// When a request last found a place at once or soon after, in milliseconds since `opened`.
    soon_at: AtomicU64,
}

impl Gate {
    fn new(admission: Admission) -> Self {
        let places = Arc::new(Semaphore::new(admission.in_flight));
        let waiting = Arc::new(Semaphore::new(admission.in_flight.saturating_mul(WAITING).min(Semaphore::MAX_PERMITS)));
        Self { admission, places, waiting, opened: Instant::now(), soon_at: AtomicU64::new(0) }
    }

    async fn pass(&self, request: Request, next: Next) -> Response {
        let weight = if request.uri().path() == bulk_get_presence::PATH { BULK_WEIGHT } else { 1 };
        match self.place(weight).await {
            Some(_held) => next.run(request).await,
            None => Problem::overloaded().into_response(),
        }
    }

    async fn place(&self, weight: usize) -> Option<OwnedSemaphorePermit> {
        let weight = u32::try_from(weight.min(self.admission.in_flight)).ok()?;
        let came = self.opened.elapsed();
        if let Ok(place) = Arc::clone(&self.places).try_acquire_many_owned(weight) {
            self.soon_at.fetch_max(millis(came), Ordering::Relaxed);
            return Some(place);
        }
        let _waits = self.waiting.try_acquire().ok()?;
        let place = Arc::clone(&self.places).acquire_many_owned(weight);
        let place = timeout(self.patience(came), place).await.ok()?.ok()?;
        let now = self.opened.elapsed();
        if now - came <= self.shortened() / 2 {
            self.soon_at.fetch_max(millis(now), Ordering::Relaxed);
        }
        Some(place)
    }

    /// A queue stands if for the whole queue time nobody found a place soon: the rule of CoDel, by the shortest wait.
    /// That everybody waits for a moment is no sign: so it is whenever the places are well used. While it stands, those
    /// who are served have waited for nearly as long as they may, which is longer than soon: so it does not end by
    /// being cut.
    fn patience(&self, now: Duration) -> Duration {
        let queue_time = self.admission.queue_time;
        let stands_for = millis(now).saturating_sub(self.soon_at.load(Ordering::Relaxed));
        if stands_for > millis(queue_time) { self.shortened() } else { queue_time }
    }

    fn shortened(&self) -> Duration {
        self.admission.queue_time / 10
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::http::app as serve;
    use crate::http::health;
    use crate::http::testing::{Answer, app, send};

    const SECOND: Duration = Duration::from_secs(1);

    /// A host whose requests last until they are released one by one.
    #[derive(Clone)]
    struct Host {
        router: Router,
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
            let routes =
                Router::new().route("/slow", get(handler.clone())).route(bulk_get_presence::PATH, post(handler));
            let routes = admit(routes, Admission { in_flight, queue_time: SECOND });
            Self { router: serve(routes.merge(health::routes()), app()), entered, release }
        }

        fn begin(&self, method: &'static str, path: &'static str) -> JoinHandle<Answer> {
            let router = self.router.clone();
            tokio::spawn(async move { send(&router, method, path, &[]).await })
        }

        /// For so often a request is served after another, and each of them has waited for so long.
        async fn hand_over(&self, times: usize, after: Duration) {
            for _ in 0..times {
                let _waits = self.begin("GET", "/slow");
                tokio::time::sleep(after).await;
                self.release.notify_one();
                self.entered.acquire().await.unwrap().forget();
            }
        }

        /// How long a request waits that finds no place.
        async fn patience(&self) -> Duration {
            let begun = Instant::now();
            assert_refused(&self.begin("GET", "/slow").await.unwrap());
            begun.elapsed()
        }

        /// Begins a request and waits until it is being served.
        async fn serve(&self) -> JoinHandle<Answer> {
            let begun = self.begin("GET", "/slow");
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
        assert_refused(&host.begin("GET", "/slow").await.unwrap());
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
        host.hand_over(1, SECOND / 25).await;
        assert_eq!(host.patience().await, SECOND, "it is over as soon as a place is found soon");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_the_next_is_refused_at_once() {
        let host = Host::with(1);
        let _held = host.serve().await;
        let waiting: Vec<_> = (0..WAITING).map(|_| host.begin("GET", "/slow")).collect();
        tokio::task::yield_now().await;
        let begun = Instant::now();
        assert_refused(&host.begin("GET", "/slow").await.unwrap());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(waiting.iter().all(|waits| !waits.is_finished()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bulk_read_takes_the_place_of_many() {
        let host = Host::with(2 * BULK_WEIGHT);
        let bulks = [(); 2].map(|()| host.begin("POST", bulk_get_presence::PATH));
        let _entered = host.entered.acquire_many(2).await.unwrap();
        assert_refused(&host.begin("GET", "/slow").await.unwrap());
        host.release.notify_waiters();
        for bulk in bulks {
            assert_eq!(bulk.await.unwrap().status, 200);
        }
        let single = Host::with(1);
        let _bulk = single.begin("POST", bulk_get_presence::PATH);
        single.entered.acquire().await.expect("it is served also where there are fewer places than that").forget();
    }

    #[tokio::test(start_paused = true)]
    async fn probes_and_paths_that_are_not_there_need_no_place() {
        let host = Host::with(1);
        let _held = host.serve().await;
        assert_eq!(send(&host.router, "GET", "/health", &[]).await.status, 200);
        assert_eq!(send(&host.router, "GET", "/nowhere", &[]).await.status, 404);
    }
}
