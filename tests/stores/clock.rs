//! The store's clock as hosts carry it on.

use std::sync::Arc;
use std::time::Duration;

use presence::clock::{Clock, StoreClock};
use presence::domain::Rules;
use presence::store::{RedisConfig, RedisStore};
use presence_tests::{Fault, Proxy, Store, now_ms};

/// How long anything takes on its way, each way.
const WAY: Duration = Duration::from_millis(50);

#[tokio::test]
async fn the_first_reading_is_ahead_by_a_round_trip_at_most_and_not_by_the_time_it_takes_to_connect() {
    let server = Store::start_single().await;
    let proxy = Proxy::to(server.port()).await;
    proxy.set(Fault::Delay(WAY));
    let config =
        RedisConfig { url: server.url_through(proxy.port()), cluster: false, wait_replicas: 0, replica_url: None };
    let clock = StoreClock::new(Arc::new(RedisStore::new(&config, Rules::default()).unwrap()));
    let read = clock.now().await.unwrap();
    let ahead = read.millis() - now_ms();
    let round_trip = 2 * WAY.as_millis() as i64;
    assert!((-1..=round_trip).contains(&ahead), "{ahead} ms ahead of the store on this very host");
}
