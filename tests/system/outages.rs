//! Redis, NATS or the way to them is away: no crash, no loss, no hanging, and recovery by itself.

use std::time::{Duration, Instant};

use presence_tests::{Event, Fault, JetStream, Nats, Proxy, Service, Store, StoreKind, User, eventually, now_ms, seen};
use serde_json::json;

use crate::world::{SOON, World, assert_problem, let_last, of, retry_after};

/// Longer than any single request may hang, on a machine that is busy with other tests.
const HANG: Duration = Duration::from_secs(5);

/// A change that could not be told is tried again after half its age, and after 30 s at the latest.
const TOLD_AGAIN: Duration = Duration::from_secs(40);

async fn assert_unavailable(service: &Service) {
    let user = User::new();
    let path = format!("/presence/{}", user.id());
    for is_read in [true, false] {
        let start = Instant::now();
        let answer = if is_read {
            service.get(&user, &path).await
        } else {
            service.post(&user, "/presence/status", &json!({ "status": "online" })).await
        };
        assert!(start.elapsed() < HANG, "it took {:?}", start.elapsed());
        assert_problem(&answer, 503);
        retry_after(&answer);
    }
    assert_eq!(service.get_openly("/health").await.status, 200, "alive");
    eventually("not ready", SOON, async || {
        let status = service.get_openly("/ready").await.status;
        seen(status == 503, status)
    })
    .await;
}

async fn assert_ready(service: &Service) {
    eventually("the service to be ready", Duration::from_secs(30), async || {
        let status = service.get_openly("/ready").await.status;
        seen(status == 200, status)
    })
    .await;
}

/// Recovery by itself: updates succeed again, and what was written before is there.
async fn assert_recovers(service: &Service, user: &User, custom_status: &str) {
    assert_ready(service).await;
    service.update(&User::new(), &json!({ "status": "online" })).await;
    assert_eq!(service.presence(user).await["custom_status"], custom_status);
}

#[tokio::test]
async fn a_store_that_crashes_is_a_503_and_comes_back_by_itself() {
    let mut world = World::start().await;
    let user = world.online_user().await;
    world.service.update(&user, &json!({ "custom_status": "Before" })).await;
    world.store.kill();
    assert_unavailable(&world.service).await;
    world.store.restart().await;
    assert_recovers(&world.service, &user, "Before").await;
    assert!(world.service.process().is_alive());
}

#[tokio::test]
async fn a_store_that_freezes_is_a_503_and_comes_back_by_itself() {
    let world = World::start().await;
    let user = world.online_user().await;
    world.service.update(&user, &json!({ "custom_status": "Before" })).await;
    world.store.freeze();
    assert_unavailable(&world.service).await;
    world.store.thaw();
    assert_recovers(&world.service, &user, "Before").await;
}

#[tokio::test]
async fn a_link_to_the_store_that_breaks_in_any_way_is_mended() {
    let (store, nats) = (Store::start_single().await, Nats::start(JetStream::On).await);
    let proxy = Proxy::to(store.port()).await;
    let service = Service::builder().env("REDIS_URL", store.url_through(proxy.port())).nats(&nats).start().await;
    let user = User::new();
    service.update(&user, &json!({ "status": "online", "custom_status": "Before" })).await;
    for fault in [Fault::Reset, Fault::Cut, Fault::BlackHole] {
        proxy.set(fault);
        assert_unavailable(&service).await;
        proxy.set(Fault::None);
        assert_recovers(&service, &user, "Before").await;
    }
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    assert_recovers(&service, &user, "Before").await;
}

#[tokio::test]
async fn updates_go_on_without_nats_and_are_told_when_it_is_back() {
    for jetstream in [JetStream::On, JetStream::Off] {
        let mut world = World::on(jetstream, |service| service).await;
        let user = world.online_user().await;
        world.nats.kill();
        let start = Instant::now();
        let accepted = world.service.update(&user, &json!({ "status": "dnd", "custom_status": "Unheard" })).await;
        assert!(start.elapsed() < HANG, "it took {:?}", start.elapsed());
        assert_eq!(world.service.presence(&user).await["status"], "dnd");
        let_last(Duration::ZERO).await;
        assert_eq!(world.service.get_openly("/health").await.status, 200);

        world.nats.restart().await;
        let mut events = world.nats.events().await;
        let told = |event: &Event| event.data()["version"] == accepted["version"];
        if jetstream == JetStream::On {
            eventually("the event in the stream", Duration::from_secs(30), async || {
                let all = world.nats.stream("PRESENCE_EVENTS").await;
                seen(of(&user, &all).into_iter().any(told), all)
            })
            .await;
        } else {
            // Nobody kept it: it must be published again, and this consumer was there in time or gets the next telling.
            eventually("the event at last", TOLD_AGAIN, async || {
                let all = events.so_far().await;
                seen(of(&user, &all).first().is_some_and(|event| told(event)), all)
            })
            .await;
        }
        // The inputs come through again as well.
        assert_ready(&world.service).await;
        world.until_status(&world.online_user().await, "online").await;
    }
}

#[tokio::test]
async fn a_nats_that_freezes_holds_up_no_update() {
    let world = World::start().await;
    let user = world.online_user().await;
    world.nats.freeze();
    let start = Instant::now();
    let accepted = world.service.update(&user, &json!({ "status": "dnd" })).await;
    assert!(start.elapsed() < HANG, "it took {:?}", start.elapsed());
    world.nats.thaw();
    eventually("the event in the stream", Duration::from_secs(30), async || {
        let all = world.nats.stream("PRESENCE_EVENTS").await;
        let told = of(&user, &all).into_iter().any(|event| event.data()["version"] == accepted["version"]);
        seen(told, all)
    })
    .await;
}

#[tokio::test]
async fn a_crash_between_write_and_publish_loses_no_event() {
    let mut world = World::start().await;
    let user = world.online_user().await;
    world.nats.kill();
    let accepted = world.service.update(&user, &json!({ "status": "idle" })).await;
    world.service.process().kill();
    world.nats.restart().await;
    world.service.crash_and_restart().await;
    eventually("the event in the stream", Duration::from_secs(30), async || {
        let all = world.nats.stream("PRESENCE_EVENTS").await;
        let told = of(&user, &all).into_iter().any(|event| event.data()["version"] == accepted["version"]);
        seen(told, all)
    })
    .await;
}

#[tokio::test]
async fn a_service_that_starts_before_its_servers_waits_for_them() {
    let mut store = Store::stopped(StoreKind::of_this_run());
    let mut nats = Nats::stopped(JetStream::On);
    let service = Service::builder().store(&store).nats(&nats).start_unready().await;
    assert_unavailable(&service).await;
    store.restart().await;
    nats.restart().await;
    let mut world = World::around(service, nats, store);
    assert_ready(&world.service).await;
    world.online_user().await;
    assert!(world.service.process().is_alive());
}

#[tokio::test]
async fn a_store_that_forgot_everything_is_healed_by_heartbeats() {
    let mut world = World::start().await;
    let user = world.online_user().await;
    let before = world.service.presence(&user).await["version"].as_u64();
    world.store.kill();
    world.store.forget();
    world.store.restart().await;
    assert_ready(&world.service).await;
    world.heartbeat(&user, "first").await;
    let after = world.until_status(&user, "online").await["version"].as_u64();
    assert!(after > before, "no version is used twice: {before:?}, {after:?}");
}

#[tokio::test]
async fn an_outage_of_the_store_does_not_turn_everyone_offline() {
    let mut world = World::with(|service| service.env("HEARTBEAT_INTERVAL", 4).env("HEARTBEAT_TIMEOUT", 5)).await;
    let mut events = world.nats.events().await;
    let user = world.online_user().await;
    world.store.kill();
    // The deadline passes.
    let_last(Duration::from_millis(5500)).await;
    world.store.restart().await;
    assert_ready(&world.service).await;
    // Reads tell the truth at once; of an expiry nothing is told while heartbeats may still come.
    let back = now_ms();
    eventually("two ticks of the sweeper to pass", SOON, async || {
        assert_eq!(world.service.presence(&user).await["status"], "offline");
        seen(now_ms() > back + 2200, ())
    })
    .await;
    let held = events.so_far().await;
    let offline = |events: &[Event]| of(&user, events).iter().filter(|one| one.data()["status"] == "offline").count();
    assert_eq!(offline(&held), 0, "{held:?}");

    // Its gateway was there all the time, and the next heartbeat comes within one interval.
    world.heartbeat(&user, "first").await;
    world.until_status(&user, "online").await;
    world.settle().await;
    let last = world.nats.stream("PRESENCE_EVENTS").await;
    assert_eq!(of(&user, &last).last().unwrap().data()["status"], "online");
}
