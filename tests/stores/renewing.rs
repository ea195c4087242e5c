//! Heartbeats that take the short way, beside whoever else writes the same users.

use std::time::Duration;

use presence::domain::{Input, InputKind, Platform, Timestamp, UserId};
use presence::service::UserInput;
use presence::store::{Change, Committed, Ending, Heartbeat, Index, Loaded, StoreError, shard_of};
use presence_tests::Store;
use redis::AsyncCommands;

use crate::world::{TIMEOUT, World, beats, closes, on_each_store, opens, somebody};

const INTERVAL: Duration = Duration::from_secs(30);

fn beat(user_id: UserId, id: &str, at: Timestamp) -> Heartbeat {
    Heartbeat { user_id, session_id: id.parse().unwrap(), platform: None, at }
}

async fn touch(world: &World, user: UserId, id: &str) -> bool {
    world.store.touch(&[beat(user, id, world.now())], world.now()).await.pop().unwrap().unwrap()
}

async fn load(world: &World, user: UserId) -> Loaded {
    world.store.load(&[user]).await.pop().unwrap().unwrap()
}

/// What was decided of `loaded`, committed now.
async fn commit(world: &World, loaded: Loaded) -> Committed {
    let mut record = loaded.record.clone();
    record.version += 1;
    world
        .store
        .commit(&[Change { loaded, record, durable: false, remind_at: None, valid_until: None }])
        .await
        .pop()
        .unwrap()
        .unwrap()
}

async fn deadline(world: &World, user: UserId) -> Option<Timestamp> {
    let later = world.now() + Duration::from_secs(1000);
    let due = world.store.due(Index::Deadlines, shard_of(user), later, 100).await.unwrap();
    due.into_iter().find(|due| due.user_id == user).map(|due| due.at)
}

#[tokio::test]
async fn a_commit_that_did_not_see_a_heartbeat_is_decided_again() {
    on_each_store(async |world| {
        let user = somebody();
        world.happens(user, opens("a")).await;
        let before = load(world, user).await;
        world.turn(INTERVAL);
        assert!(touch(world, user, "a").await);
        assert_eq!(commit(world, before).await, Committed::Conflict);
        let after = load(world, user).await;
        assert!(matches!(commit(world, after.clone()).await, Committed::Done(_)));
        assert_eq!(load(world, user).await.record.sessions, after.record.sessions);
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_saw_neither_a_confirmation_nor_the_heartbeat_after_it_is_decided_again() {
    on_each_store(async |world| {
        let user = somebody();
        world.told.set_away(true);
        world.happens(user, opens("a")).await;
        let before = load(world, user).await;
        assert!(!touch(world, user, "a").await, "whoever comes next is to publish it");
        let confirmed = Ending {
            user_id: user,
            published: before.revision,
            old_deadline: None,
            new_deadline: None,
            old_reminder: None,
            new_reminder: None,
        };
        world.store.finish(&[confirmed]).await.unwrap();
        world.turn(INTERVAL);
        assert!(touch(world, user, "a").await);
        assert_eq!(commit(world, before).await, Committed::Conflict);
    })
    .await;
}

#[tokio::test]
async fn only_what_needs_no_decision_takes_the_short_way() {
    on_each_store(async |world| {
        let user = somebody();
        assert!(!touch(world, user, "a").await, "unknown");
        world.happens(user, opens("a")).await;
        assert!(touch(world, user, "a").await);
        assert!(!touch(world, user, "b").await, "another session");
        world.turn(Duration::from_secs(1));
        world.happens(user, opens("b")).await;
        assert!(!touch(world, user, "a").await, "one of two");
        world.happens(user, closes("b")).await;
        assert!(!touch(world, user, "b").await, "closed");
        assert!(!touch(world, user, "a").await, "the close is a later sign of life");
        world.turn(Duration::from_secs(1));
        world.happens(user, InputKind::Heartbeat { session_id: "a".parse().unwrap(), platform: None }).await;
        assert!(touch(world, user, "a").await);
        world.turn(TIMEOUT - Duration::from_millis(1));
        assert!(touch(world, user, "a").await, "just in time");
        world.turn(TIMEOUT);
        assert!(!touch(world, user, "a").await, "over");
    })
    .await;
}

#[tokio::test]
async fn heartbeats_that_name_a_platform_tell_it_of_a_session_that_no_open_told_of() {
    on_each_store(async |world| {
        let names = |platform| InputKind::Heartbeat { session_id: "a".parse().unwrap(), platform: Some(platform) };
        let platform = async |user| load(world, user).await.record.sessions.into_values().next().unwrap().platform;
        let (adopted, opened) = (somebody(), somebody());
        world.happens(adopted, beats("a")).await;
        world.happens(opened, opens("a")).await;
        for (named, known) in [
            (Platform::Web, Platform::Web),
            (Platform::Mobile, Platform::Mobile),
            (Platform::Web, Platform::Mobile),
            (Platform::Desktop, Platform::Desktop),
        ] {
            world.turn(Duration::from_secs(1));
            world.happens(adopted, names(named)).await;
            assert_eq!(platform(adopted).await, known, "as the rules have it when all of them are decided in full");
            assert!(touch(world, adopted, "a").await);
            world.happens(opened, names(named)).await;
            assert_eq!(platform(opened).await, Platform::Web, "an open knows better");
        }
        let mobile = Heartbeat { platform: Some(Platform::Mobile), ..beat(opened, "a", world.now()) };
        let on_mobile = Heartbeat { user_id: adopted, ..mobile.clone() };
        for touched in world.store.touch(&[mobile, on_mobile], world.now()).await {
            assert!(touched.unwrap(), "what would change nothing takes the short way");
        }
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_that_comes_late_moves_nothing_back() {
    on_each_store(async |world| {
        let user = somebody();
        world.happens(user, opens("a")).await;
        let opened = world.now();
        world.turn(INTERVAL);
        assert!(touch(world, user, "a").await);
        let (renewed, record) = (world.now(), load(world, user).await.record);
        world.turn(Duration::from_secs(5));
        let late = [beat(user, "a", opened + Duration::from_secs(15)), beat(user, "a", opened)];
        for touched in world.store.touch(&late, world.now()).await {
            assert!(touched.unwrap());
        }
        assert_eq!(load(world, user).await.record, record);
        assert_eq!(deadline(world, user).await, Some(renewed + TIMEOUT));
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_from_before_its_session_is_decided_in_full() {
    on_each_store(async |world| {
        let user = somebody();
        world.happens(user, opens("a")).await;
        let opened = world.now();
        world.turn(INTERVAL);
        assert!(touch(world, user, "a").await);
        let before = beat(user, "a", opened - Duration::from_millis(1));
        let touched = world.store.touch(&[before, beat(user, "a", opened)], world.now()).await;
        assert_eq!(touched.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [false, true]);
    })
    .await;
}

#[tokio::test]
async fn many_heartbeats_are_renewed_together_and_what_cannot_be_read_among_them_holds_up_nobody() {
    let server = Store::start().await;
    let world = World::on(&server);
    let users: Vec<UserId> = (0..1500).map(|_| somebody()).collect();
    let open = |user_id: &UserId| UserInput {
        user_id: *user_id,
        input: Input { at: world.now(), kind: opens("a") },
        traceparent: None,
    };
    for opened in world.service.apply(&users.iter().map(open).collect::<Vec<_>>()).await {
        opened.unwrap();
    }
    let (bad, unknown) = (7, 1200);
    let mut redis = server.connect().await;
    let () = redis.set(format!("presence:user:{}", users[bad]), "no hash").await.unwrap();
    let () = redis.del(format!("presence:user:{}", users[unknown])).await.unwrap();
    // A server that was restarted knows no script.
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await.unwrap();

    world.turn(INTERVAL);
    let beats: Vec<Heartbeat> = users.iter().map(|user| beat(*user, "a", world.now())).collect();
    for (place, touched) in world.store.touch(&beats, world.now()).await.into_iter().enumerate() {
        match touched {
            Err(error) => assert!(place == bad && matches!(error, StoreError::Corrupt(_)), "{place}: {error}"),
            Ok(renewed) => assert_eq!(renewed, place != unknown, "{place}"),
        }
    }
    assert_eq!(deadline(&world, users[0]).await, Some(world.now() + TIMEOUT));
    let ttl: i64 = redis.ttl(format!("presence:user:{}", users[0])).await.unwrap();
    assert!((299..=300).contains(&ttl), "{ttl}");
    let seen: i64 = redis.hget(format!("presence:user:{}", users[0]), "last_seen").await.unwrap();
    assert_eq!(seen, world.now().seconds());
}
