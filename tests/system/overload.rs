//! Promise 9: at twice the load that the service can take, it does nearly as much as at its peak, and the rest is told
//! so at once. What it can take is set by few places and a slow way to the store, so that the machine is no part of it.

use std::time::{Duration, Instant};

use presence_tests::{Answer, Api, Fault, JetStream, Nats, Proxy, Service, Store, User, eventually, seen};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::world::{SOON, assert_problem, of, retry_after};

/// Requests that are served at once.
const PLACES: usize = 12;

/// How much later everything comes on its way to the store, and on its way back.
const DELAY: Duration = Duration::from_millis(20);

/// How long each load lasts.
const LOAD: Duration = Duration::from_secs(5);

/// A read of a load.
struct Read {
    answer: Answer,
    took: Duration,
    /// Whether it was answered before the load was over.
    in_time: bool,
}

impl Read {
    async fn from(api: Api, load_began: Instant) -> Self {
        let user = User::new();
        let began = Instant::now();
        let answer = api.get(&user, &format!("/presence/{}", user.id())).await;
        Self { answer, took: began.elapsed(), in_time: load_began.elapsed() < LOAD }
    }

    fn is_served(&self) -> bool {
        self.answer.status == 200
    }
}

/// As many readers as there are places, each of whom asks again once answered.
async fn closed_loop(api: Api) -> Vec<Read> {
    let began = Instant::now();
    let mut readers = JoinSet::new();
    for _ in 0..PLACES {
        readers.spawn(async move {
            let mut reads = Vec::new();
            while began.elapsed() < LOAD {
                reads.push(Read::from(api, began).await);
            }
            reads
        });
    }
    readers.join_all().await.into_iter().flatten().collect()
}

/// Reads that come at their own pace, whether those before them are answered or not.
async fn open_loop(api: Api, rate: f64) -> Vec<Read> {
    let began = Instant::now();
    let mut reads = JoinSet::new();
    let mut pace = interval(Duration::from_secs_f64(1.0 / rate));
    while began.elapsed() < LOAD {
        pace.tick().await;
        reads.spawn(Read::from(api, began));
    }
    reads.join_all().await
}

/// How many reads a second were served.
fn goodput(reads: &[Read]) -> f64 {
    reads.iter().filter(|read| read.is_served() && read.in_time).count() as f64 / LOAD.as_secs_f64()
}

/// The time within which 99 of 100 of them were answered.
fn p99<'a>(reads: impl Iterator<Item = &'a Read>) -> Duration {
    let mut times: Vec<Duration> = reads.map(|read| read.took).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

// On threads of their own, readers that are many do not keep the way to the store waiting, which runs in this process as
// well: a command that waits for half a second is given up, and the connection with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_twice_its_capacity_the_service_does_as_much_as_ever_and_turns_the_rest_away_in_time() {
    let (store, nats) = (Store::start_single().await, Nats::start(JetStream::On).await);
    let way = Proxy::to(store.port()).await;
    let service = Service::builder()
        .env("REDIS_URL", store.url_through(way.port()))
        .nats(&nats)
        .heartbeat_timeout(5)
        .env("MAX_IN_FLIGHT", PLACES)
        .start()
        .await;
    let api = Api::at(service.port());
    let mut events = nats.events().await;
    let connected = User::new();
    nats.tell("gateway.connection.opened", json!({ "user_id": connected.id() })).await;
    eventually("the user to be online", SOON, async || {
        let status = service.presence(&connected).await["status"].clone();
        seen(status == "online", status)
    })
    .await;
    way.set(Fault::Delay(DELAY));

    let loads = async {
        let usual = closed_loop(api).await;
        let twice = open_loop(api, 2.0 * goodput(&usual)).await;
        // A machine that has other work as well may do less by now than it did before.
        (usual, twice, closed_loop(api).await)
    };
    let heartbeats = async {
        let mut pace = interval(Duration::from_secs(1));
        loop {
            pace.tick().await;
            nats.tell("gateway.heartbeat.received", json!({ "user_id": connected.id() })).await;
        }
    };
    let probes = async {
        let mut pace = interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            assert_eq!(service.get_openly("/health").await.status, 200);
        }
    };
    let (usual, twice, later) = tokio::select! {
        loaded = loads => loaded,
        () = heartbeats => unreachable!("it goes on"),
        () = probes => unreachable!("it goes on"),
    };

    assert!(usual.iter().chain(&later).all(Read::is_served), "none was too many");
    let (served, refused): (Vec<&Read>, Vec<&Read>) = twice.iter().partition(|read| read.is_served());
    assert!(!refused.is_empty(), "twice the load is too much");
    for Read { answer, .. } in &refused {
        assert_eq!(assert_problem(answer, 503)["type"], "urn:presence:problem:overloaded");
        retry_after(answer);
    }
    let (peak, under_load) = (goodput(&usual).min(goodput(&later)), goodput(&twice));
    let (usual, served, turned_away) = (p99(usual.iter()), p99(served.into_iter()), p99(refused.iter().copied()));
    println!(
        "at its peak {peak:.0}/s, p99 {usual:?}; offered {:.0}/s: {under_load:.0}/s, p99 {served:?}; {} refused, p99 \
         {turned_away:?}",
        twice.len() as f64 / LOAD.as_secs_f64(),
        refused.len(),
    );
    assert!(under_load >= 0.9 * peak, "{under_load:.0} of {peak:.0} a second");
    let waited = turned_away.max(served.saturating_sub(usual));
    assert!(waited < Duration::from_secs(1), "{waited:?} in a queue");

    way.set(Fault::None);
    assert!(Read::from(api, Instant::now()).await.is_served(), "and then it is over");
    let told = events.so_far().await;
    let told: Vec<_> = of(&connected, &told).iter().map(|event| event.data()["status"].clone()).collect();
    assert_eq!(told, ["online"], "heartbeats are heard in the middle of it");
}
