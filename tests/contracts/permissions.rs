//! The permissions in `SECURITY.md`: with exactly those everything works, and with any one of them less it does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use presence::domain::{ChannelId, Input, InputKind, Intent, Rules, StatusUpdate, Timestamp, Traceparent, UserId};
use presence::events::{Event, EventPublisher, MemoryBus, PublishError};
use presence::service::UserInput;
use presence::store::{Ending, Index, PresenceStore, RedisConfig, RedisStore, StoreError, shard_of};
use presence::{Error, PresenceService, Sweeper};
use presence_tests::{Cluster, PASSWORD, Store, documented_acl, eventually, seen};
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

use crate::document::text;

/// A user of Redis as documented.
struct AclUser {
    name: String,
    /// `reset`, `on` and the password.
    account: Vec<String>,
    permissions: Vec<String>,
}

impl AclUser {
    /// The documented user of that name.
    fn documented(name: &str) -> Self {
        let words = documented_acl(name, PASSWORD).into_iter();
        let (permissions, account) = words.partition(|word| "+%~".contains(&word[..1]));
        Self { name: name.to_owned(), account, permissions }
    }

    /// With permissions that are documented beside the block, for some configurations only.
    fn with(mut self, permissions: &[&str]) -> Self {
        let security = text("SECURITY.md");
        for permission in permissions {
            assert!(security.contains(&format!("`{permission}`")), "{permission} is not documented");
            self.permissions.push((*permission).to_owned());
        }
        self
    }

    fn without(&self, permission: &str) -> Self {
        let permissions = self.permissions.iter().filter(|known| *known != permission).cloned().collect();
        Self { name: self.name.clone(), account: self.account.clone(), permissions }
    }

    /// Makes the server know it like this, and forget what was refused before.
    async fn set(&self, admin: &mut MultiplexedConnection) {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&self.name).arg(&self.account).arg(&self.permissions);
        command.exec_async(admin).await.unwrap();
        redis::cmd("ACL").arg("LOG").arg("RESET").exec_async(admin).await.unwrap();
    }

    fn url(&self, store: &Store) -> String {
        format!("redis://{}:{PASSWORD}@127.0.0.1:{}", self.name, store.port())
    }
}

/// What the server refused to that user since it was set.
async fn refused(user: &AclUser, admin: &mut MultiplexedConnection) -> BTreeSet<String> {
    let log: Vec<std::collections::HashMap<String, redis::Value>> =
        redis::cmd("ACL").arg("LOG").arg(128).query_async(admin).await.unwrap();
    let text = |value: &redis::Value| redis::from_redis_value_ref::<String>(value).unwrap_or_default();
    let of_user = log.iter().filter(|entry| text(&entry["username"]) == user.name);
    of_user.map(|entry| format!("{} {}", text(&entry["reason"]), text(&entry["object"]))).collect()
}

/// Everything that a reader does.
async fn read(store: &Arc<RedisStore>) -> Result<(), Error> {
    let service = PresenceService::new(store.clone(), Arc::new(MemoryBus::new()), Rules::default());
    let (reader, stranger) = (UserId::new(Uuid::new_v4()), UserId::new(Uuid::new_v4()));
    service.presence(reader, stranger).await?;
    service.presence(reader, KNOWN.parse().unwrap()).await?;
    service.typing(ChannelId::new(Uuid::new_v4())).await?;
    Ok(())
}

/// A user who is known when the test begins.
const KNOWN: &str = "5f0c7d3e-8a41-4a52-9d3c-2f6e1b7a9c04";

/// Nobody can be told.
struct Nobody;

#[async_trait]
impl EventPublisher for Nobody {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        events.iter().map(|_| Err(PublishError("nobody listens".to_owned()))).collect()
    }

    async fn is_ready(&self) -> bool {
        false
    }
}

/// Makes a user known, with a change that is not published.
async fn introduce(user: UserId, store: &Arc<RedisStore>) -> Result<(), Error> {
    let service = PresenceService::new(store.clone(), Arc::new(Nobody), Rules::default());
    let update = StatusUpdate { status: Some(Intent::Idle), ..StatusUpdate::default() };
    service.update_status(user, update, Traceparent::generate()).await.map(drop)
}

/// Everything that the others do, by way of every method of the store.
async fn write(store: &Arc<RedisStore>) -> Result<(), Error> {
    introduce(UserId::new(Uuid::new_v4()), store).await?;
    let service = Arc::new(PresenceService::new(store.clone(), Arc::new(MemoryBus::new()), Rules::default()));
    let user = UserId::new(Uuid::new_v4());
    let now = store.time().await?;
    let input = |kind| [UserInput { user_id: user, input: Input { at: now, kind }, traceparent: None }];
    let session = || "a".parse().unwrap();
    let applied = [
        InputKind::Opened { session_id: session(), platform: None, status: None },
        InputKind::Heartbeat { session_id: session(), platform: None },
        InputKind::Closed { session_id: session(), abnormal: false },
    ];
    for kind in applied {
        service.apply(&input(kind)).await.into_iter().collect::<Result<Vec<()>, Error>>()?;
    }
    for status in [Intent::Invisible, Intent::Online] {
        let update = StatusUpdate { status: Some(status), ..StatusUpdate::default() };
        service.update_status(user, update, Traceparent::generate()).await?;
    }
    finish(store).await?;
    read(store).await?;

    let channel = ChannelId::new(Uuid::new_v4());
    store.start_typing(channel, user, now).await?;
    store.untell_typing(channel, user).await?;
    store.typing(channel, now).await?;

    store.take_shard(0, "me").await?;
    store.release_shard(0, "me").await?;
    store.held_until().await?;
    store.has_ticker().await?;
    Sweeper::new(service).tick().await?;
    store.size(Index::Reminders).await?;
    store.hold(now + Duration::from_secs(1)).await?;
    Ok(())
}

/// Finishes changes of the known user. Errors count here, while the service leaves what it could not finish to the
/// sweeper.
async fn finish(store: &Arc<RedisStore>) -> Result<(), StoreError> {
    let user: UserId = KNOWN.parse().unwrap();
    let now = store.time().await?;
    let ending = |published, old: Option<Timestamp>, new: Option<Timestamp>| Ending {
        user_id: user,
        published,
        old_deadline: old,
        new_deadline: new,
        old_reminder: old,
        new_reminder: new,
    };
    store.finish(&[ending(None, None, Some(now))]).await?;
    store.finish(&[ending(Some(1), Some(now), None)]).await?;
    store.due(Index::Deadlines, shard_of(user), now, 1).await.map(drop)
}

fn store_at(url: String) -> Arc<RedisStore> {
    store_by(&RedisConfig { url, cluster: false, wait_replicas: 0, replica_url: None })
}

fn store_by(config: &RedisConfig) -> Arc<RedisStore> {
    Arc::new(RedisStore::new(config, Rules::default()).unwrap())
}

async fn every_permission_is_needed(user: AclUser, does: impl AsyncFn(&Arc<RedisStore>) -> Result<(), Error>) {
    let store = Store::start_single().await;
    let mut admin = store.connect_node().await;
    user.set(&mut admin).await;
    introduce(KNOWN.parse().unwrap(), &store_at(store.admin_url())).await.unwrap();
    let outcome = does(&store_at(user.url(&store))).await;
    assert!(outcome.is_ok(), "{outcome:?}, since {} may not: {:?}", user.name, refused(&user, &mut admin).await);
    assert_eq!(refused(&user, &mut admin).await, BTreeSet::new());
    assert!(user.permissions.len() > 5);
    for permission in &user.permissions {
        let less = user.without(permission);
        less.set(&mut admin).await;
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut admin).await.unwrap();
        // What is refused is not always an error: some of it is left to the sweeper.
        let _ = does(&store_at(less.url(&store))).await;
        assert_ne!(refused(&less, &mut admin).await, BTreeSet::new(), "{} does without {permission}", user.name);
    }
}

#[tokio::test]
async fn the_user_of_redis_that_changes_things_has_what_it_needs_and_no_more() {
    every_permission_is_needed(AclUser::documented("presence"), write).await;
}

#[tokio::test]
async fn the_user_of_redis_that_reads_has_what_it_needs_and_no_more() {
    every_permission_is_needed(AclUser::documented("presence-reader"), read).await;
}

#[tokio::test]
async fn in_cluster_mode_the_users_of_redis_also_ask_where_the_slots_are() {
    let store = Store::start_cluster().await;
    let mut admin = store.connect_node().await;
    let configured = |url| RedisConfig { url, cluster: true, wait_replicas: 0, replica_url: None };
    let user = AclUser::documented("presence").with(&["+cluster|slots", "+asking"]);
    user.set(&mut admin).await;
    write(&store_by(&configured(user.url(&store)))).await.unwrap();
    assert_eq!(refused(&user, &mut admin).await, BTreeSet::new());

    let less = user.without("+cluster|slots");
    less.set(&mut admin).await;
    let _ = write(&store_by(&configured(less.url(&store)))).await;
    assert_ne!(refused(&less, &mut admin).await, BTreeSet::new());
}

#[tokio::test]
async fn where_a_slot_moves_the_users_of_redis_also_say_that_they_were_sent() {
    let cluster = Cluster::start().await;
    let somebody = UserId::new(Uuid::new_v4());
    cluster.begin_move(&format!("presence:user:{somebody}")).await;
    for name in ["presence", "presence-reader"] {
        let user = AclUser::documented(name).with(&["+cluster|slots", "+asking"]);
        assert_eq!(load_as(&user, &cluster, somebody).await, (true, BTreeSet::new()), "{name}");
        let refused = BTreeSet::from(["command asking".to_owned()]);
        assert_eq!(load_as(&user.without("+asking"), &cluster, somebody).await, (false, refused), "{name}");
    }
}

/// Whether that user can load somebody, and what the nodes refused meanwhile.
async fn load_as(user: &AclUser, cluster: &Cluster, somebody: UserId) -> (bool, BTreeSet<String>) {
    let mut admins = join_all(cluster.nodes().iter().map(Store::connect_node)).await;
    for admin in &mut admins {
        user.set(admin).await;
    }
    let config = RedisConfig { url: user.url(&cluster.nodes()[0]), cluster: true, wait_replicas: 0, replica_url: None };
    let loaded = store_by(&config).load(&[somebody]).await;
    let refused = join_all(admins.iter_mut().map(|admin| refused(user, admin))).await;
    (loaded.iter().all(Result::is_ok), refused.into_iter().flatten().collect())
}

#[tokio::test]
async fn to_wait_for_replicas_takes_two_more_permissions() {
    let store = Store::start_single().await;
    let mut admin = store.connect_node().await;
    let user = AclUser::documented("presence").with(&["+eval", "+wait"]);
    let hide = async |user: &AclUser| {
        let config = RedisConfig { url: user.url(&store), cluster: false, wait_replicas: 1, replica_url: None };
        let service = PresenceService::new(store_by(&config), Arc::new(MemoryBus::new()), Rules::default());
        let update = StatusUpdate { status: Some(Intent::Invisible), ..StatusUpdate::default() };
        let hidden = service.update_status(UserId::new(Uuid::new_v4()), update, Traceparent::generate()).await;
        assert!(hidden.is_err(), "there is no replica to wait for");
    };
    user.set(&mut admin).await;
    hide(&user).await;
    assert_eq!(refused(&user, &mut admin).await, BTreeSet::new());
    for permission in ["+eval", "+wait"] {
        let less = user.without(permission);
        less.set(&mut admin).await;
        hide(&less).await;
        assert_ne!(refused(&less, &mut admin).await, BTreeSet::new(), "{permission} is not needed");
    }
}

#[tokio::test]
async fn to_note_changes_and_to_tell_them_takes_three_more_permissions() {
    let store = Store::start_single().await;
    let mut admin = store.connect_node().await;
    let more = ["+lpush", "+ltrim", "+lrange"];
    let user = AclUser::documented("presence").with(&more);
    let note = async |user: &AclUser| {
        let service = PresenceService::new(store_at(user.url(&store)), Arc::new(MemoryBus::new()), Rules::default());
        let service = service.keeping_notes(Duration::from_secs(60));
        let id = UserId::new(Uuid::new_v4());
        let update = StatusUpdate { status: Some(Intent::Dnd), ..StatusUpdate::default() };
        // What can't be noted is no error of the update.
        service.update_status(id, update, Traceparent::generate()).await.unwrap();
        service.explain(id).await.map(|told| told.transitions.len())
    };
    user.set(&mut admin).await;
    assert_eq!(note(&user).await.unwrap(), 1);
    assert_eq!(refused(&user, &mut admin).await, BTreeSet::new());
    for permission in more {
        let less = user.without(permission);
        less.set(&mut admin).await;
        let _ = note(&less).await;
        assert_ne!(refused(&less, &mut admin).await, BTreeSet::new(), "{permission} is not needed");
    }
}

#[tokio::test]
async fn to_read_a_replica_takes_one_more_permission_there_and_at_the_primary() {
    let primary = Store::start_single().await;
    let replica = primary.start_replica(primary.port()).await;
    let mut admins = [primary.connect_node().await, replica.connect_node().await];
    let user = AclUser::documented("presence-reader").with(&["+info|replication"]);
    let less = user.without("+info|replication");
    let strangers: Vec<UserId> = (0..40).map(|_| UserId::new(Uuid::new_v4())).collect();
    for (may, is_replica_read) in [([&user, &user], true), ([&less, &user], false), ([&user, &less], false)] {
        for (user, admin) in may.iter().zip(&mut admins) {
            user.set(admin).await;
        }
        let (url, replica_url) = (user.url(&primary), Some(user.url(&replica)));
        let store = store_by(&RedisConfig { url, cluster: false, wait_replicas: 0, replica_url });
        let service = PresenceService::new(store, Arc::new(MemoryBus::new()), Rules::default());
        eventually("the replica to be read, or refused", Duration::from_secs(20), async || {
            let [mut primary, mut replica] = admins.clone();
            redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut primary).await.unwrap();
            service.presences(strangers[0], &strangers).await.unwrap();
            let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut primary).await.unwrap();
            let mut refused_to_us = refused(&user, &mut primary).await;
            refused_to_us.extend(refused(&user, &mut replica).await);
            let is_primary_read = stats.contains("cmdstat_hgetall:");
            seen(is_primary_read != is_replica_read && refused_to_us.is_empty() == is_replica_read, refused_to_us)
        })
        .await;
    }
}
