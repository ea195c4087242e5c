//! The use cases: the only place that knows both the store and the publisher.

use std::sync::Arc;

use serde::Serialize;

use crate::domain::{ChannelId, Input, Presence, StatusUpdate, Timestamp, UserId};
use crate::error::Error;
use crate::events::{EventPublisher, Traceparent};

/// Who types in a channel, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Typist {
    /// Who types.
    pub user_id: UserId,
    /// When they last said so, in Unix seconds.
    pub timestamp: i64,
}

/// Something that happened to a user, and the trace that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInput {
    /// To whom.
    pub user_id: UserId,
    /// What, and when.
    pub input: Input,
    /// The trace of the message; events that follow carry it on.
    pub traceparent: Option<Traceparent>,
}

/// What the readiness probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The store answers.
    pub store: bool,
    /// Events can be carried.
    pub events: bool,
}

/// One method a use case.
pub struct PresenceService {
    events: Arc<dyn EventPublisher>,
}

impl PresenceService {
    /// Sets what the update names and gives back the caller's own presence.
    pub async fn update_status(
        &self,
        caller: UserId,
        update: StatusUpdate,
        trace: Traceparent,
    ) -> Result<Presence, Error> {
        todo!()
    }

    /// One user's presence as `caller` may see it.
    pub async fn presence(&self, caller: UserId, user: UserId) -> Result<Presence, Error> {
        todo!()
    }

    /// Several users' presences, one for each id and in its place.
    pub async fn presences(&self, caller: UserId, users: &[UserId]) -> Result<Vec<Presence>, Error> {
        todo!()
    }

    /// The caller types in a channel. Says nothing of whether anyone is told: an invisible caller must not learn it.
    pub async fn start_typing(&self, caller: UserId, channel: ChannelId, trace: Traceparent) -> Result<(), Error> {
        todo!()
    }

    /// Who types in a channel now, the latest last.
    pub async fn typing(&self, channel: ChannelId) -> Result<Vec<Typist>, Error> {
        todo!()
    }

    /// Decides what happened to many users at once, those of one user in their order; heartbeats of known sessions
    /// take the short way. One result an input, in its place; a failed one may be offered again.
    pub async fn apply(&self, inputs: &[UserInput]) -> Vec<Result<(), Error>> {
        todo!()
    }

    /// The store's clock, by which everything is decided.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        todo!()
    }

    /// Whether requests can be served. Never fails: that is the answer.
    pub async fn readiness(&self) -> Readiness {
        todo!()
    }
}
