//! The whole as it runs in the cloud, under load, while something dies: the bridge, the functions, NATS, the store.

use presence_tests::{Emulator, JetStream, Nats, Service, Store};

use crate::arrivals::{Arrivals, PATIENT, assert_told_online_once, random_moments};

/// An emulator runs one invocation of a function at a time.
const USERS: usize = 900;

struct World {
    // Dropped in this order.
    bridge: Service,
    emulator: Emulator,
    nats: Nats,
    store: Store,
}

impl World {
    async fn start() -> Self {
        let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
        let emulator = Emulator::start_with(&store, &nats, &PATIENT).await;
        let bridge = another_bridge(&emulator, &nats, &store).await;
        Self { bridge, emulator, nats, store }
    }

    /// All of the load took effect, once, and nothing else did.
    async fn assert_nothing_is_lost(self, arrivals: Arrivals) {
        let users = arrivals.until_online(&self.emulator).await;
        assert_told_online_once(&self.nats, &users).await;
        assert!(self.nats.stream("PRESENCE_DLQ").await.is_empty(), "a crash is no failure of a message");
        self.emulator.stop().await;
    }
}

async fn another_bridge(emulator: &Emulator, nats: &Nats, store: &Store) -> Service {
    Service::bridge_to(emulator).store(store).nats(nats).envs(&PATIENT).start().await
}

#[tokio::test]
async fn a_bridge_that_is_killed_under_load_loses_nothing() {
    let mut world = World::start().await;
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    for told in random_moments(3, USERS) {
        arrivals.until_told(told).await;
        world.bridge.crash_and_restart().await;
    }
    world.assert_nothing_is_lost(arrivals).await;
}

#[tokio::test]
async fn functions_that_are_killed_under_load_lose_nothing() {
    let mut world = World::start().await;
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    for told in random_moments(3, USERS) {
        arrivals.until_told(told).await;
        world.emulator.crash_and_restart().await;
    }
    world.assert_nothing_is_lost(arrivals).await;
}

#[tokio::test]
async fn servers_that_restart_under_the_load_of_a_bridge_lose_nothing() {
    let mut world = World::start().await;
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    let [first, second] = random_moments(2, USERS)[..] else { unreachable!("there are two") };
    arrivals.until_told(first).await;
    world.nats.kill();
    world.nats.restart().await;
    arrivals.until_told(second).await;
    world.store.kill();
    arrivals.until_told(second + USERS / 8).await;
    world.store.restart().await;
    world.assert_nothing_is_lost(arrivals).await;
}

#[tokio::test]
async fn a_bridge_that_is_asked_to_end_under_load_hands_its_messages_to_another() {
    let mut world = World::start().await;
    let arrivals = Arrivals::begin(&world.nats, USERS).await;
    for told in random_moments(2, USERS) {
        arrivals.until_told(told).await;
        let next = another_bridge(&world.emulator, &world.nats, &world.store).await;
        let status = world.bridge.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", world.bridge.log());
        world.bridge = next;
    }
    world.assert_nothing_is_lost(arrivals).await;
}
