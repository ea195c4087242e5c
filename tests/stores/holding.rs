//! Expiries that are held once the store was away: for whom, for how long, and what is told meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use presence::domain::{Input, InputKind, Platform, Rules, Status, StatusUpdate, Timestamp};
use presence::service::UserInput;
use presence::store::{RedisConfig, RedisStore};
use presence::sweeper::Swept;
use presence::{Error, ErrorKind, Sweeper};
use presence_tests::{Fault, Proxy, Store, eventually, now_ms};

use crate::world::{TIMEOUT, World, all_open, beats, opens, somebody, status, told};

const INTERVAL: Duration = Duration::from_secs(30);
/// After so long without the store a sweeper takes it for an outage.
const OUTAGE: Duration = Duration::from_secs(3);

/// A world on the one server behind this port.
fn world_at(server: &Store, port: u16) -> World {
    let config = RedisConfig { url: server.url_through(port), cluster: false, wait_replicas: 0, replica_url: None };
    let store = RedisStore::new(&config, Rules::default()).unwrap();
    World::over(Arc::new(store), Timestamp::from_millis(now_ms()))
}

/// A world whose way to its server may break.
async fn behind_a_proxy() -> (Store, Proxy, World) {
    let server = Store::start_single().await;
    let proxy = Proxy::to(server.port()).await;
    let world = world_at(&server, proxy.port());
    (server, proxy, world)
}

fn is_unavailable(result: &Result<Swept, Error>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
}

/// The store is away from this world for long enough to be an outage; the sweeper tries all along.
async fn outage(world: &World, proxy: &Proxy, meanwhile: impl AsyncFn()) {
    proxy.set(Fault::Reset);
    let since = Instant::now();
    eventually("the outage to be long enough", 4 * OUTAGE, async || {
        assert!(is_unavailable(&world.sweeper.tick().await), "the store is away");
        meanwhile().await;
        if since.elapsed() > OUTAGE { Ok(()) } else { Err(since.elapsed()) }
    })
    .await;
    proxy.set(Fault::None);
}

#[tokio::test]
async fn after_an_outage_nobody_is_told_offline_for_one_interval_by_any_sweeper() {
    let (_server, proxy, world) = behind_a_proxy().await;
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.told.take();
    world.turn(TIMEOUT);
    outage(&world, &proxy, async || {}).await;

    let held = world.sweeper.tick().await.unwrap();
    assert_eq!(held, Swept { held_until: Some(world.now() + INTERVAL), ..Swept::default() });
    let newcomer = Sweeper::new(world.service.clone());
    assert_eq!(newcomer.tick().await.unwrap(), held, "it learns of the hold from the store");
    assert_eq!(status(&world, user).await, Status::Offline, "reads are not held");
    world.turn(INTERVAL - Duration::from_millis(1));
    assert_eq!(newcomer.tick().await.unwrap(), held);
    assert_eq!(told(&world), []);

    world.turn(Duration::from_millis(1));
    let swept = world.sweeper.tick().await.unwrap();
    assert_eq!((swept.expired, swept.lag, swept.held_until), (1, INTERVAL, None));
    assert_eq!(told(&world), [(user, "offline".to_owned())]);
}

#[tokio::test]
async fn after_an_outage_a_heartbeat_that_is_earlier_than_every_sweep_holds_expiries_itself() {
    let (_server, proxy, world) = behind_a_proxy().await;
    let (returning, staying_away) = (somebody(), somebody());
    all_open(&world, &[returning, staying_away]).await;
    world.told.take();
    world.turn(TIMEOUT + Duration::from_secs(1));
    outage(&world, &proxy, async || {}).await;

    world.happens(returning, beats("a")).await;
    assert_eq!(told(&world), [(returning, "online".to_owned())], "as returned, and not as gone");
    let held = world.sweeper.tick().await.unwrap();
    assert_eq!((held.expired, held.held_until), (0, Some(world.now() + INTERVAL)));
    world.turn(INTERVAL);
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
    assert_eq!(told(&world), [(staying_away, "offline".to_owned())]);
}

#[tokio::test]
async fn inputs_that_find_the_store_away_know_of_the_outage_without_a_sweeper() {
    let (_server, proxy, world) = behind_a_proxy().await;
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.told.take();
    world.turn(TIMEOUT + Duration::from_secs(1));
    let input = UserInput { user_id: user, input: Input { at: world.now(), kind: beats("a") }, traceparent: None };
    proxy.set(Fault::Reset);
    let since = Instant::now();
    eventually("the outage to be long enough", 4 * OUTAGE, async || {
        assert!(world.service.apply(std::slice::from_ref(&input)).await[0].is_err(), "the store is away");
        if since.elapsed() > OUTAGE { Ok(()) } else { Err(since.elapsed()) }
    })
    .await;
    proxy.set(Fault::None);
    eventually("the store", OUTAGE, async || {
        world.service.apply(std::slice::from_ref(&input)).await.remove(0).map_err(|error| error.kind())
    })
    .await;
    assert_eq!(told(&world), [(user, "online".to_owned())], "as returned, and not as gone");
}

#[tokio::test]
async fn a_blip_of_the_store_holds_nothing() {
    let (_server, proxy, world) = behind_a_proxy().await;
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.told.take();
    world.turn(TIMEOUT);
    proxy.set(Fault::Reset);
    assert!(is_unavailable(&world.sweeper.tick().await));
    proxy.set(Fault::None);
    let swept = world.sweeper.tick().await.unwrap();
    assert_eq!((swept.expired, swept.held_until), (1, None));
    assert_eq!(told(&world), [(user, "offline".to_owned())]);
}

#[tokio::test]
async fn a_sweeper_that_alone_was_cut_off_holds_up_nobody() {
    let server = Store::start_single().await;
    let proxy = Proxy::to(server.port()).await;
    let (cut_off, other) = (world_at(&server, proxy.port()), World::on(&server));
    let user = somebody();
    cut_off.happens(user, opens("a")).await;
    outage(&cut_off, &proxy, async || {
        other.sweeper.tick().await.unwrap();
    })
    .await;
    cut_off.turn(TIMEOUT);
    let swept = cut_off.sweeper.tick().await.unwrap();
    assert_eq!((swept.expired, swept.held_until), (1, None));
}

#[tokio::test]
async fn one_who_returns_while_expiries_are_held_is_told_as_returned_and_never_as_gone() {
    let server = Store::start().await;
    let world = World::on(&server);
    let (returning, staying_away) = (somebody(), somebody());
    all_open(&world, &[returning, staying_away]).await;
    let before = world.service.presence(returning, returning).await.unwrap().version;
    world.told.take();
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    let gone = world.service.presence(somebody(), returning).await.unwrap();
    assert_eq!(gone.status, Status::Offline);

    world.turn(Duration::from_secs(10));
    world.happens(returning, beats("a")).await;
    let back = world.service.presence(somebody(), returning).await.unwrap();
    assert!(before < gone.version && gone.version < back.version, "whoever read in between learns of the return");
    assert_eq!(told(&world), [(returning, "online".to_owned())]);

    world.turn(Duration::from_secs(20));
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
    assert_eq!(told(&world), [(staying_away, "offline".to_owned())]);
}

#[tokio::test]
async fn a_sign_of_life_that_waited_too_long_ends_nobody_while_expiries_are_held() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.told.take();
    let at = world.now();
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    // A heartbeat that was in time when it came meets the same: to renew may have taken long.
    let waited = UserInput { user_id: user, input: Input { at, kind: opens("b") }, traceparent: None };
    world.service.apply(&[waited]).await.pop().unwrap().unwrap();
    assert_eq!(told(&world), []);
    world.turn(Duration::from_secs(1));
    world.happens(user, beats("a")).await;
    assert_eq!(told(&world), [(user, "online".to_owned())], "as returned, and not as gone");
}

#[tokio::test]
async fn one_who_lost_two_sessions_and_does_not_return_is_told_offline_also_while_expiries_are_held() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.happens(user, opens("a")).await;
    world.turn(Duration::from_millis(1));
    let (session_id, platform) = ("b".parse().unwrap(), Some(Platform::Mobile));
    world.happens(user, InputKind::Opened { session_id, platform, status: None }).await;
    world.told.take();
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    let unseen = StatusUpdate { custom_status: Some(Some("Away".parse().unwrap())), ..StatusUpdate::default() };
    world.update(user, unseen).await.unwrap();
    assert_eq!(told(&world).last(), Some(&(user, "offline".to_owned())));
}

#[tokio::test]
async fn what_is_pending_is_told_while_expiries_are_held_and_ends_nobody() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.told.set_away(true);
    world.happens(user, opens("a")).await;
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    world.told.set_away(false);
    let held = world.sweeper.tick().await.unwrap();
    assert_eq!((held.reminded, held.expired), (1, 0));
    assert_eq!(told(&world), [(user, "online".to_owned())]);
    world.turn(INTERVAL);
    let swept = world.sweeper.tick().await.unwrap();
    assert_eq!((swept.reminded, swept.expired), (0, 1));
    assert_eq!(told(&world), [(user, "offline".to_owned())]);
}

#[tokio::test]
async fn while_heartbeats_of_an_outage_are_caught_up_with_expiries_stay_held() {
    const MOMENT: Duration = Duration::from_millis(1);
    let server = Store::start().await;
    let world = World::on(&server);
    let hear_an_old_one = async || {
        let input = Input { at: world.now() - TIMEOUT - MOMENT, kind: beats("a") };
        let heard = world.service.apply(&[UserInput { user_id: somebody(), input, traceparent: None }]).await;
        assert!(heard.iter().all(Result::is_ok));
    };
    world.happens(somebody(), opens("a")).await;
    world.turn(TIMEOUT);
    world.store.hold(world.now() + INTERVAL).await.unwrap();
    for _ in 0..2 {
        world.turn(INTERVAL - MOMENT);
        hear_an_old_one().await;
        assert_eq!(world.sweeper.tick().await.unwrap().expired, 0);
    }
    world.turn(INTERVAL);
    // It holds on, and does not begin.
    hear_an_old_one().await;
    assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
}
