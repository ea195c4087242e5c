//! What every store must do, told as stories over the whole service. Each runs on both.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use presence::domain::{
    ActivityKind, ActivityUpdate, CustomStatus, InputKind, Intent, Rules, Status, StatusUpdate, Timestamp, Traceparent,
    UserId, UserRecord,
};
use presence::events::EventKind;
use presence::store::{Change, Committed, Ending, Index, Loaded, RedisConfig, RedisStore, SHARDS};
use presence::{ErrorKind, Sweeper};
use presence_tests::{Store, now_ms};
use uuid::Uuid;

use crate::world::{World, beats, closes, on_each_store, opens, somebody, status};

fn chooses(intent: Intent) -> StatusUpdate {
    StatusUpdate { status: Some(intent), ..StatusUpdate::default() }
}

async fn load(world: &World, user: UserId) -> Loaded {
    world.store.load(&[user]).await.pop().unwrap().unwrap()
}

/// Everyone that either index holds, however far ahead.
async fn indexed(world: &World, index: Index) -> Vec<(UserId, Timestamp)> {
    let later = world.now() + Duration::from_secs(1_000_000);
    let shards = (0..SHARDS).map(|shard| world.store.due(index, shard, later, 1000));
    let due = join_all(shards).await.into_iter().flat_map(Result::unwrap);
    due.map(|due| (due.user_id, due.at)).collect()
}

#[tokio::test]
async fn a_change_is_told_once_and_leaves_nothing_to_do_but_its_deadline() {
    on_each_store(async |world| {
        let user = somebody();
        world.happens(user, opens("a")).await;
        let told = world.told.take();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].kind, EventKind::Status);
        assert_eq!(indexed(world, Index::Reminders).await, []);
        assert_eq!(indexed(world, Index::Deadlines).await, [(user, world.now() + Duration::from_secs(45))]);
        world.happens(user, closes("a")).await;
        assert_eq!(indexed(world, Index::Deadlines).await, []);
        assert_eq!(status(world, user).await, Status::Offline);
    })
    .await;
}

#[tokio::test]
async fn heartbeats_keep_a_user_online_and_silence_ends_it() {
    on_each_store(async |world| {
        let user = somebody();
        world.happens(user, opens("a")).await;
        for _ in 0..3 {
            world.turn(Duration::from_secs(30));
            world.happens(user, beats("a")).await;
        }
        world.told.take();
        world.turn(Duration::from_millis(44_999));
        assert_eq!(status(world, user).await, Status::Online);
        assert_eq!(world.sweeper.tick().await.unwrap().expired, 0);
        world.turn(Duration::from_millis(1));
        assert_eq!(status(world, user).await, Status::Offline);
        let read = world.service.presence(somebody(), user).await.unwrap();
        assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
        assert_eq!(world.told.take().len(), 1);
        assert_eq!(world.service.presence(somebody(), user).await.unwrap(), read);
        assert_eq!(world.sweeper.tick().await.unwrap().expired, 0);
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_after_the_deadline_is_told_as_a_return() {
    on_each_store(async |world| {
        let user = somebody();
        world.happens(user, opens("a")).await;
        world.told.take();
        world.turn(Duration::from_secs(45));
        world.happens(user, beats("a")).await;
        let told = world.told.take();
        assert_eq!(told.len(), 2, "offline at the deadline, and online again");
        assert_eq!(status(world, user).await, Status::Online);
    })
    .await;
}

#[tokio::test]
async fn what_could_not_be_published_is_published_by_whoever_comes_next() {
    on_each_store(async |world| {
        let (swept, touched) = (somebody(), somebody());
        world.told.set_away(true);
        world.happens(swept, opens("a")).await;
        world.happens(touched, opens("a")).await;
        assert_eq!(world.told.take(), []);
        assert_eq!(indexed(world, Index::Reminders).await.len(), 2);

        world.told.set_away(false);
        world.turn(Duration::from_secs(1));
        world.happens(touched, beats("a")).await;
        assert_eq!(world.told.take().iter().map(|event| event.user_id).collect::<Vec<_>>(), [touched]);

        world.turn(Duration::from_secs(1));
        assert_eq!(world.sweeper.tick().await.unwrap().reminded, 1);
        assert_eq!(world.told.take().iter().map(|event| event.user_id).collect::<Vec<_>>(), [swept]);
        assert_eq!(indexed(world, Index::Reminders).await, []);
        assert_eq!(indexed(world, Index::Deadlines).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn choices_outlive_every_session() {
    on_each_store(async |world| {
        let user = somebody();
        let words: CustomStatus = "gone fishing, back at 5".parse().unwrap();
        let update = StatusUpdate { custom_status: Some(Some(words.clone())), ..chooses(Intent::Dnd) };
        world.update(user, update).await.unwrap();
        world.turn(Duration::from_secs(60));
        world.sweeper.tick().await.unwrap();
        assert_eq!(status(world, user).await, Status::Offline);
        world.happens(user, opens("a")).await;
        let presence = world.service.presence(somebody(), user).await.unwrap();
        assert_eq!((presence.status, presence.custom_status), (Status::Dnd, Some(words)));
    })
    .await;
}

#[tokio::test]
async fn the_rate_limit_is_kept_with_the_user() {
    on_each_store(async |world| {
        let user = somebody();
        for _ in 0..5 {
            world.update(user, chooses(Intent::Idle)).await.unwrap();
            world.turn(Duration::from_secs(1));
        }
        let refused = world.update(user, chooses(Intent::Dnd)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::RateLimited { retry_after: Duration::from_secs(15) });
        assert_eq!(status(world, user).await, Status::Idle);
        world.turn(Duration::from_secs(15));
        world.update(user, chooses(Intent::Dnd)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn everyone_who_writes_at_once_gets_their_turn() {
    on_each_store(async |world| {
        let user = somebody();
        let ids: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
        join_all(ids.iter().map(|id| world.happens(user, opens(id)))).await;
        join_all(ids[1..].iter().map(|id| world.happens(user, closes(id)))).await;
        assert_eq!(status(world, user).await, Status::Online);
        world.happens(user, closes("s0")).await;
        assert_eq!(status(world, user).await, Status::Offline);
        let told = world.told.take();
        let mut distinct: Vec<&str> = told.iter().map(|event| event.id.as_str()).collect();
        distinct.dedup();
        assert_eq!(distinct.len(), 2, "online and offline: {distinct:?}");
    })
    .await;
}

#[tokio::test]
async fn of_many_who_decided_on_one_record_one_commits() {
    on_each_store(async |world| {
        let user = somebody();
        for round in 0..4 {
            let loaded = load(world, user).await;
            let change = |version| {
                let record = UserRecord { version, ..loaded.record.clone() };
                Change { loaded: loaded.clone(), record, durable: false, remind_at: None, valid_until: None }
            };
            let changes: Vec<Change> = (1..=8).map(|rival| change(round * 8 + rival)).collect();
            let (alone, together) = changes.split_at(4);
            let alone = join_all(alone.chunks(1).map(|change| world.store.commit(change)));
            let (alone, together) = futures::join!(alone, world.store.commit(together));
            let committed = alone.into_iter().flatten().chain(together).map(Result::unwrap);
            let won = committed.zip(&changes).filter(|(committed, _)| *committed != Committed::Conflict);
            let won: Vec<u64> = won.map(|(_, change)| change.record.version).collect();
            assert_eq!(won, [load(world, user).await.record.version]);
        }
    })
    .await;
}

#[tokio::test]
async fn many_sweepers_tell_each_user_once() {
    on_each_store(async |world| {
        let users: Vec<UserId> = (0..300).map(|_| somebody()).collect();
        for user in &users {
            world.happens(*user, opens("a")).await;
        }
        world.told.take();
        world.turn(Duration::from_secs(45));
        let sweepers: Vec<Sweeper> = (0..5).map(|_| Sweeper::new(world.service.clone())).collect();
        join_all(sweepers.iter().map(|sweeper| async { sweeper.tick().await.unwrap() })).await;
        world.sweeper.tick().await.unwrap();
        let mut told: Vec<UserId> = world.told.take().iter().map(|event| event.user_id).collect();
        told.sort();
        told.dedup();
        assert_eq!(told.len(), users.len());
        assert_eq!(indexed(world, Index::Deadlines).await, []);
    })
    .await;
}

#[tokio::test]
async fn typing_that_a_repeated_command_notes_is_told_all_the_same() {
    on_each_store(async |world| {
        let (user, channel) = (somebody(), Uuid::new_v4().to_string().parse().unwrap());
        let types = async |at: Timestamp| world.store.start_typing(channel, user, at).await.unwrap();
        let now = world.now();
        assert!(types(now).await);
        assert!(types(now).await, "the first answer may be lost");
        assert!(!types(now + Duration::from_millis(1)).await, "who types on is told of");
        assert!(types(now).await, "the first answer may be late");
    })
    .await;
}

#[tokio::test]
async fn typing_of_one_who_is_invisible_is_neither_told_nor_noted() {
    on_each_store(async |world| {
        let (user, channel) = (somebody(), Uuid::new_v4().to_string().parse().unwrap());
        let types = async || world.store.start_typing(channel, user, world.now()).await.unwrap();
        world.happens(user, opens("a")).await;
        world.update(user, chooses(Intent::Invisible)).await.unwrap();
        assert!(!types().await);
        assert_eq!(world.store.typing(channel, world.now()).await.unwrap(), []);
        world.update(user, chooses(Intent::Dnd)).await.unwrap();
        assert!(types().await);
        assert_eq!(world.store.typing(channel, world.now()).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn typing_is_told_once_in_five_seconds_and_ends_after_ten() {
    on_each_store(async |world| {
        let (user, channel) = (somebody(), Uuid::new_v4().to_string().parse().unwrap());
        let types = async || world.service.start_typing(user, channel, Traceparent::generate()).await.unwrap();
        types().await;
        world.turn(Duration::from_secs(4));
        types().await;
        assert_eq!(world.told.take().len(), 1);
        world.turn(Duration::from_secs(1));
        types().await;
        assert_eq!(world.told.take().len(), 1);
        world.turn(Duration::from_millis(9_999));
        assert_eq!(world.service.typing(channel).await.unwrap().len(), 1);
        world.turn(Duration::from_millis(1));
        assert_eq!(world.service.typing(channel).await.unwrap(), []);

        world.told.set_away(true);
        types().await;
        world.told.set_away(false);
        types().await;
        assert_eq!(world.told.take().len(), 1, "what could not be told is told by its repetition");

        world.update(user, chooses(Intent::Invisible)).await.unwrap();
        world.told.take();
        world.turn(Duration::from_secs(10));
        types().await;
        assert_eq!((world.told.take(), world.service.typing(channel).await.unwrap()), (vec![], vec![]));
    })
    .await;
}

#[tokio::test]
async fn a_held_expiry_is_told_when_the_hold_ends() {
    on_each_store(async |world| {
        let user = somebody();
        world.happens(user, opens("a")).await;
        world.told.take();
        world.turn(Duration::from_secs(50));
        world.store.hold(world.now() + Duration::from_secs(30)).await.unwrap();
        assert_eq!(world.sweeper.tick().await.unwrap().expired, 0);
        assert_eq!(status(world, user).await, Status::Offline, "reads are not held");
        world.turn(Duration::from_secs(30));
        assert_eq!(world.sweeper.tick().await.unwrap().expired, 1);
        assert_eq!(world.told.take().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_choice_of_invisible_waits_for_replicas_where_it_is_to_and_nothing_else_does() {
    let server = Store::start_single().await;
    let config = RedisConfig { url: server.admin_url(), cluster: false, wait_replicas: 1, replica_url: None };
    let redis = RedisStore::new(&config, Rules::default()).unwrap();
    let world = World::over(Arc::new(redis), Timestamp::from_millis(now_ms()));
    let user = somebody();
    world.update(user, chooses(Intent::Dnd)).await.unwrap();
    let refused = world.update(user, chooses(Intent::Invisible)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "there is no replica that could have it");
    world.update(user, chooses(Intent::Online)).await.unwrap();
}

#[tokio::test]
async fn an_online_user_stays_in_the_compact_form_of_a_hash() {
    let server = Store::start().await;
    let world = World::on(&server);
    let user = somebody();
    world.told.set_away(true);
    world.happens(user, opens("4aba8b81-aa8a-4cbd-abe4-ead004594017")).await;
    let activity = ActivityUpdate { kind: ActivityKind::Streaming, name: "The Witcher 3: Wild Hunt".parse().unwrap() };
    world.update(user, StatusUpdate { activity: Some(Some(activity)), ..chooses(Intent::Dnd) }).await.unwrap();
    let voice = "9dc0ff6b-6d1e-4d0b-90e5-5d0b3c1d7f0a".parse().unwrap();
    world.happens(user, InputKind::VoiceCreated { session_id: voice, name: "Friday evening".parse().unwrap() }).await;
    world.happens(user, closes("4aba8b81-aa8a-4cbd-abe4-ead004594017")).await;
    let mut connection = server.connect().await;
    let mut encoding = redis::cmd("OBJECT");
    encoding.arg("ENCODING").arg(format!("presence:user:{user}"));
    let encoding: String = encoding.query_async(&mut connection).await.unwrap();
    assert_eq!(encoding, "listpack", "one value over 64 bytes makes it three times as large, for good");
}

#[tokio::test]
async fn a_change_decided_before_an_earlier_one_was_confirmed_stays_pending() {
    on_each_store(async |world| {
        let user = somebody();
        world.told.set_away(true);
        world.happens(user, opens("a")).await;
        let load = async || world.store.load(&[user]).await.pop().unwrap().unwrap();
        let loaded = load().await;
        let confirmed = Ending {
            user_id: user,
            published: loaded.revision,
            old_deadline: None,
            new_deadline: None,
            old_reminder: None,
            new_reminder: None,
        };
        world.store.finish(&[confirmed]).await.unwrap();
        assert_eq!(load().await.record.pending, []);

        let mut record = loaded.record.clone();
        record.version += 1;
        record.pending[0].presence.version += 1;
        let expected = record.pending.clone();
        let change = Change { loaded, record, durable: false, remind_at: Some(world.now()), valid_until: None };
        assert!(matches!(world.store.commit(&[change]).await.pop(), Some(Ok(Committed::Done(_)))));
        assert_eq!(load().await.record.pending, expected);
    })
    .await;
}
