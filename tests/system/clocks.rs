//! Wall clocks that are wrong by minutes: those of processes, and that of NATS. Only the store's counts, and where that
//! is wrong, everyone is wrong alike.

use std::time::Duration;

use presence_tests::{Api, Emulator, JetStream, Nats, Service, Store, User, clock_off_by, eventually, now_ms, seen};
use serde_json::json;
use tokio::time::{Instant, interval};

use crate::world::{CLOCK_ERROR, SOON, is_between, millis};

/// Seconds.
const OFF: i64 = 300;

/// The times of messages are corrected in steps of this, in milliseconds.
const STEP: i64 = 100;

/// The store's clock is off as well, and so NATS's, which is right, is off by as much from where it should be.
#[tokio::test]
async fn sessions_deadlines_events_and_reads_are_right_though_every_process_has_another_time() {
    for off in [OFF, -OFF] {
        let (store, nats) = (Store::start_off_by(off).await, Nats::start(JetStream::On).await);
        let service = |off| Service::builder().store(&store).nats(&nats).heartbeat_timeout(2).clock_off_by(off).start();
        let (ahead, behind) = (service(OFF).await, service(-OFF).await);
        a_life([&ahead, &behind], &nats, off, Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn functions_and_their_bridge_are_right_though_each_has_another_time() {
    let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let times = [("HEARTBEAT_INTERVAL", "4"), ("HEARTBEAT_TIMEOUT", "8")];
    let clock = clock_off_by(OFF);
    let variables: Vec<_> = clock.iter().map(|(name, value)| (*name, value.as_str())).chain(times).collect();
    let functions = Emulator::start_with(&store, &nats, &variables).await;
    let bridge = Service::bridge_to(&functions).store(&store).nats(&nats).envs(&times).clock_off_by(-OFF);
    let _bridge = bridge.start().await;
    functions.warm_up().await;
    a_life([&functions, &functions], &nats, 0, Duration::from_secs(8)).await;
}

/// From the open of a session to the end that silence makes of it, as two processes and a listener see it. The store's
/// clock is off by so many seconds from this test's.
async fn a_life(processes: [&Api; 2], nats: &Nats, store_off: i64, heartbeat_timeout: Duration) {
    let by_store = || now_ms() + store_off * 1000;
    let heartbeat_timeout_ms = i64::try_from(heartbeat_timeout.as_millis()).unwrap();
    let (user, mut events) = (User::new(), nats.events().await);
    let session = json!({ "user_id": user.id(), "session_id": "first" });

    nats.tell("gateway.connection.opened", session.clone()).await;
    assert_eq!(events.next_of(&user).await.data()["status"], "online");
    for (process, status) in processes.into_iter().zip(["idle", "dnd"]) {
        process.post(&user, "/presence/status", &json!({ "status": status })).await.ok();
        assert_eq!(events.next_of(&user).await.data()["status"], status, "the later choice, whoever took it");
        for process in processes {
            assert_eq!(process.presence(&user).await["status"], status);
        }
    }

    let began = Instant::now();
    let mut pace = interval(heartbeat_timeout / 8);
    let mut beat = (0, 0);
    while began.elapsed() < heartbeat_timeout * 3 / 2 {
        pace.tick().await;
        let before = by_store();
        nats.tell("gateway.heartbeat.received", session.clone()).await;
        beat = (before, by_store());
        for process in processes {
            assert_eq!(process.presence(&user).await["status"], "dnd", "heartbeats keep the session");
        }
    }

    let (mut online, mut offline) = (Vec::new(), Vec::new());
    let looks = eventually("both to read that it is over", heartbeat_timeout + SOON, async || {
        let mut looks = Vec::new();
        for process in processes {
            let before = by_store();
            let presence = process.presence(&user).await;
            if presence["status"] == "offline" {
                offline.push(by_store())
            } else {
                online.push(before)
            }
            looks.push(presence);
        }
        seen(looks.iter().all(|look| look["status"] == "offline"), looks)
    })
    .await;
    let last_seen = millis(&looks[0]["last_seen"]);
    assert_eq!(looks[0], looks[1]);
    let deadline = last_seen + heartbeat_timeout_ms;
    assert!(is_between(beat.0 - STEP, last_seen, beat.1 + STEP), "the last heartbeat: {beat:?}, not {last_seen}");
    assert!(online.iter().all(|began| *began < deadline), "online after {deadline}: {online:?}");
    assert!(offline.iter().all(|ended| *ended > deadline - CLOCK_ERROR), "offline before {deadline}: {offline:?}");

    let told = events.next_of(&user).await;
    let late = by_store() - deadline;
    assert_eq!(told.data()["status"], "offline");
    assert!((0..10_000).contains(&late), "told {late} ms after the deadline");
}
