//! A store whose operations are counted and timed.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tracing::Instrument;

use super::{Change, Committed, Due, Ending, Heartbeat, Index, Loaded, PresenceStore, StoreError};
use crate::domain::{ChannelId, Timestamp, Transition, UserId};
use crate::metrics::{STORE_ERRORS, STORE_SECONDS};
use crate::telemetry::SPANS;

/// Does what the store in it does, and tells how long it took and what failed.
pub struct MeteredStore<S> {
    store: S,
}

impl<S: PresenceStore> MeteredStore<S> {
    /// The same store, counted.
    pub fn new(store: S) -> Self {
        Self { store }
    }
}

async fn one<T>(operation: &'static str, run: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let started = Instant::now();
    let result = run.instrument(span(operation)).await;
    metrics::histogram!(STORE_SECONDS, "operation" => operation).record(started.elapsed());
    count(operation, result.as_ref().err());
    result
}

async fn many<T>(
    operation: &'static str,
    run: impl Future<Output = Vec<Result<T, StoreError>>>,
) -> Vec<Result<T, StoreError>> {
    let started = Instant::now();
    let results = run.instrument(span(operation)).await;
    metrics::histogram!(STORE_SECONDS, "operation" => operation).record(started.elapsed());
    for result in &results {
        count(operation, result.as_ref().err());
    }
    results
}

/// A part of a request, a batch or a sweep. What happens by itself, such as a look whether anyone is due, is no trace worth
/// telling.
fn span(operation: &'static str) -> tracing::Span {
    if tracing::Span::current().is_none() {
        return tracing::Span::none();
    }
    tracing::info_span!(target: SPANS, "store", otel.kind = "client", otel.name = operation)
}

fn count(operation: &'static str, error: Option<&StoreError>) {
    let kind = match error {
        None => return,
        Some(StoreError::Unavailable(_)) => "unavailable",
        Some(StoreError::Corrupt(_)) => "corrupt",
    };
    metrics::counter!(STORE_ERRORS, "operation" => operation, "kind" => kind).increment(1);
}

#[async_trait]
impl<S: PresenceStore> PresenceStore for MeteredStore<S> {
    async fn time(&self) -> Result<Timestamp, StoreError> {
        one("time", self.store.time()).await
    }

    async fn load(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        many("load", self.store.load(users)).await
    }

    async fn read(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        many("read", self.store.read(users)).await
    }

    async fn commit(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        many("commit", self.store.commit(changes)).await
    }

    async fn finish(&self, endings: &[Ending]) -> Result<(), StoreError> {
        one("finish", self.store.finish(endings)).await
    }

    async fn touch(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        many("touch", self.store.touch(heartbeats, now)).await
    }

    async fn due(&self, index: Index, shard: u8, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        one("due", self.store.due(index, shard, now, limit)).await
    }

    async fn size(&self, index: Index) -> Result<u64, StoreError> {
        one("size", self.store.size(index)).await
    }

    async fn take_shard(&self, shard: u8, sweeper: &str) -> Result<bool, StoreError> {
        one("take_shard", self.store.take_shard(shard, sweeper)).await
    }

    async fn release_shard(&self, shard: u8, sweeper: &str) -> Result<(), StoreError> {
        one("release_shard", self.store.release_shard(shard, sweeper)).await
    }

    async fn held_until(&self) -> Result<Option<Timestamp>, StoreError> {
        one("held_until", self.store.held_until()).await
    }

    async fn hold(&self, until: Timestamp) -> Result<(), StoreError> {
        one("hold", self.store.hold(until)).await
    }

    async fn sign_ticker(&self) -> Result<(), StoreError> {
        one("sign_ticker", self.store.sign_ticker()).await
    }

    async fn has_ticker(&self) -> Result<bool, StoreError> {
        one("has_ticker", self.store.has_ticker()).await
    }

    async fn note(&self, user: UserId, transitions: &[Transition], keep: Duration) -> Result<(), StoreError> {
        one("note", self.store.note(user, transitions, keep)).await
    }

    async fn noted(&self, user: UserId) -> Result<Vec<Transition>, StoreError> {
        one("noted", self.store.noted(user)).await
    }

    async fn start_typing(&self, channel: ChannelId, user: UserId, now: Timestamp) -> Result<bool, StoreError> {
        one("start_typing", self.store.start_typing(channel, user, now)).await
    }

    async fn untell_typing(&self, channel: ChannelId, user: UserId) -> Result<(), StoreError> {
        one("untell_typing", self.store.untell_typing(channel, user)).await
    }

    async fn typing(&self, channel: ChannelId, now: Timestamp) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        one("typing", self.store.typing(channel, now)).await
    }
}
