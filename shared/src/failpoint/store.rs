//! A store that can be broken.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::reach;
use crate::domain::{ChannelId, Timestamp, Transition, UserId};
use crate::store::{Change, Committed, Due, Ending, Heartbeat, Index, Loaded, PresenceStore, StoreError};

/// Points around what a change goes through.
pub(super) struct Breakable(pub(super) Arc<dyn PresenceStore>);

#[async_trait]
impl PresenceStore for Breakable {
    async fn load(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        if let Err(error) = reach("load.before").await {
            return all(users, &error);
        }
        let loaded = self.0.load(users).await;
        reach("load.after").await.map_or_else(|error| all(users, &error), |()| loaded)
    }

    async fn read(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        if let Err(error) = reach("load.before").await {
            return all(users, &error);
        }
        let loaded = self.0.read(users).await;
        reach("load.after").await.map_or_else(|error| all(users, &error), |()| loaded)
    }

    async fn commit(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        if let Err(error) = reach("commit.before").await {
            return all(changes, &error);
        }
        let committed = self.0.commit(changes).await;
        reach("commit.after").await.map_or_else(|error| all(changes, &error), |()| committed)
    }

    async fn finish(&self, endings: &[Ending]) -> Result<(), StoreError> {
        reach("finish.before").await?;
        self.0.finish(endings).await?;
        reach("finish.after").await
    }

    async fn touch(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        if let Err(error) = reach("touch.before").await {
            return all(heartbeats, &error);
        }
        let touched = self.0.touch(heartbeats, now).await;
        reach("touch.after").await.map_or_else(|error| all(heartbeats, &error), |()| touched)
    }

    async fn due(&self, index: Index, shard: u8, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        let due = self.0.due(index, shard, now, limit).await?;
        if !due.is_empty() {
            reach("due.after").await?;
        }
        Ok(due)
    }

    async fn time(&self) -> Result<Timestamp, StoreError> {
        self.0.time().await
    }

    async fn take_shard(&self, shard: u8, sweeper: &str) -> Result<bool, StoreError> {
        self.0.take_shard(shard, sweeper).await
    }

    async fn release_shard(&self, shard: u8, sweeper: &str) -> Result<(), StoreError> {
        self.0.release_shard(shard, sweeper).await
    }

    async fn held_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.0.held_until().await
    }

    async fn hold(&self, until: Timestamp) -> Result<(), StoreError> {
        self.0.hold(until).await
    }

    async fn sign_ticker(&self) -> Result<(), StoreError> {
        self.0.sign_ticker().await
    }

    async fn has_ticker(&self) -> Result<bool, StoreError> {
        self.0.has_ticker().await
    }

    async fn size(&self, index: Index) -> Result<u64, StoreError> {
        self.0.size(index).await
    }

    async fn note(&self, user: UserId, transitions: &[Transition], keep: Duration) -> Result<(), StoreError> {
        self.0.note(user, transitions, keep).await
    }

    async fn noted(&self, user: UserId) -> Result<Vec<Transition>, StoreError> {
        self.0.noted(user).await
    }

    async fn start_typing(&self, channel: ChannelId, user: UserId, now: Timestamp) -> Result<bool, StoreError> {
        self.0.start_typing(channel, user, now).await
    }

    async fn untell_typing(&self, channel: ChannelId, user: UserId) -> Result<(), StoreError> {
        self.0.untell_typing(channel, user).await
    }

    async fn typing(&self, channel: ChannelId, now: Timestamp) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        self.0.typing(channel, now).await
    }
}

fn all<I, T>(items: &[I], error: &StoreError) -> Vec<Result<T, StoreError>> {
    items.iter().map(|_| Err(error.clone())).collect()
}
