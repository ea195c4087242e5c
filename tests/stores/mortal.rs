//! A process that dies at a chosen point: between two calls of the store or of the publisher, or in the middle of one,
//! of which a part has come through then. What it had begun goes no further, as after a real crash: the future that
//! does its work is dropped. And a publisher that gets only some of its events across.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use presence::domain::{ChannelId, Timestamp, Transition, UserId};
use presence::events::{Event, EventPublisher, PublishError};
use presence::store::{Change, Committed, Due, Ending, Heartbeat, Index, Loaded, PresenceStore, StoreError};
use tokio::sync::Notify;

/// Where a process dies, and where processes have died so far.
pub(crate) struct Death {
    /// How many points it still passes.
    left: AtomicI64,
    /// Which part of a call comes through in the middle of which it dies, of 1024.
    part: AtomicU64,
    died: Notify,
    places: Mutex<BTreeMap<&'static str, usize>>,
    /// Which events the other side does not take; it takes all if there is none.
    refuses: Mutex<Option<Rng>>,
}

impl Death {
    pub(crate) fn never() -> Arc<Self> {
        Arc::new(Self {
            left: AtomicI64::new(i64::MAX),
            part: AtomicU64::new(0),
            died: Notify::new(),
            places: Mutex::default(),
            refuses: Mutex::default(),
        })
    }

    /// Lets the life of a process go on to its end, or, if it comes so far, to this point.
    pub(crate) async fn after<T>(&self, points: i64, part: u64, life: impl Future<Output = T>) -> Option<T> {
        self.part.store(part, Ordering::SeqCst);
        self.left.store(points, Ordering::SeqCst);
        let lived = tokio::select! {
            biased;
            lived = life => Some(lived),
            () = self.died.notified() => None,
        };
        self.left.store(i64::MAX, Ordering::SeqCst);
        lived
    }

    /// From now on the other side takes about half of all events, or all of them again.
    pub(crate) fn set_refusal(&self, which: Option<Rng>) {
        *self.refuses.lock().unwrap() = which;
    }

    /// How often a process died at each place.
    pub(crate) fn places(&self) -> BTreeMap<&'static str, usize> {
        self.places.lock().unwrap().clone()
    }

    async fn pass(&self, place: &'static str) {
        if self.is_here(place) {
            self.died.notify_one();
            std::future::pending().await
        }
    }

    /// How much of a call of so many items comes through if the process dies in the middle of it.
    fn part(&self, place: &'static str, items: usize) -> Option<usize> {
        self.is_here(place).then(|| items * self.part.load(Ordering::SeqCst) as usize / 1024)
    }

    fn is_here(&self, place: &'static str) -> bool {
        let dies = self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        if dies {
            *self.places.lock().unwrap().entry(place).or_default() += 1;
        }
        dies
    }

    async fn die<T>(&self) -> T {
        self.died.notify_one();
        std::future::pending().await
    }
}

/// What a mortal process stores in.
pub(crate) struct MortalStore {
    pub(crate) store: Arc<dyn PresenceStore>,
    pub(crate) death: Arc<Death>,
}

/// What it tells by.
pub(crate) struct MortalPublisher {
    pub(crate) events: Arc<dyn EventPublisher>,
    pub(crate) death: Arc<Death>,
}

#[async_trait]
impl PresenceStore for MortalStore {
    async fn load(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        let loaded = self.store.load(users).await;
        self.death.pass("load.after").await;
        loaded
    }

    async fn commit(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        self.death.pass("commit.before").await;
        if let Some(part) = self.death.part("commit.within", changes.len()) {
            self.store.commit(&changes[..part]).await;
            return self.death.die().await;
        }
        let committed = self.store.commit(changes).await;
        self.death.pass("commit.after").await;
        committed
    }

    async fn finish(&self, endings: &[Ending]) -> Result<(), StoreError> {
        self.death.pass("finish.before").await;
        if let Some(part) = self.death.part("finish.within", endings.len()) {
            self.store.finish(&endings[..part]).await?;
            return self.death.die().await;
        }
        let finished = self.store.finish(endings).await;
        self.death.pass("finish.after").await;
        finished
    }

    async fn touch(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        self.death.pass("touch.before").await;
        if let Some(part) = self.death.part("touch.within", heartbeats.len()) {
            self.store.touch(&heartbeats[..part], now).await;
            return self.death.die().await;
        }
        let touched = self.store.touch(heartbeats, now).await;
        self.death.pass("touch.after").await;
        touched
    }

    async fn due(&self, index: Index, shard: u8, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.store.due(index, shard, now, limit).await
    }

    /// One sweeper is at work here. The lease of one that died would end after two seconds by the server's clock, which
    /// no test turns.
    async fn take_shard(&self, _shard: u8, _sweeper: &str) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn release_shard(&self, _shard: u8, _sweeper: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn time(&self) -> Result<Timestamp, StoreError> {
        self.store.time().await
    }

    async fn held_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.store.held_until().await
    }

    async fn hold(&self, until: Timestamp) -> Result<(), StoreError> {
        self.store.hold(until).await
    }

    async fn sign_ticker(&self) -> Result<(), StoreError> {
        self.store.sign_ticker().await
    }

    async fn has_ticker(&self) -> Result<bool, StoreError> {
        self.store.has_ticker().await
    }

    async fn size(&self, index: Index) -> Result<u64, StoreError> {
        self.store.size(index).await
    }

    async fn note(&self, user: UserId, transitions: &[Transition], keep: Duration) -> Result<(), StoreError> {
        self.store.note(user, transitions, keep).await
    }

    async fn noted(&self, user: UserId) -> Result<Vec<Transition>, StoreError> {
        self.store.noted(user).await
    }

    async fn start_typing(&self, channel: ChannelId, user: UserId, now: Timestamp) -> Result<bool, StoreError> {
        self.store.start_typing(channel, user, now).await
    }

    async fn untell_typing(&self, channel: ChannelId, user: UserId) -> Result<(), StoreError> {
        self.store.untell_typing(channel, user).await
    }

    async fn typing(&self, channel: ChannelId, now: Timestamp) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        self.store.typing(channel, now).await
    }
}

#[async_trait]
impl EventPublisher for MortalPublisher {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        self.death.pass("publish.before").await;
        if let Some(part) = self.death.part("publish.within", events.len()) {
            self.events.publish(&events[..part]).await;
            return self.death.die().await;
        }
        let mut results = Vec::with_capacity(events.len());
        for event in events {
            let refused = self.death.refuses.lock().unwrap().as_mut().is_some_and(Rng::bool);
            match refused {
                true => results.push(Err(PublishError("refused".to_owned()))),
                false => results.extend(self.events.publish(std::slice::from_ref(event)).await),
            }
        }
        self.death.pass("publish.after").await;
        results
    }

    async fn is_ready(&self) -> bool {
        self.events.is_ready().await
    }
}
