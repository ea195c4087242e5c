//! Where records are kept. A store knows no rules: it loads and commits records, renews sessions that it knows to be
//! live, and keeps two indexes by time, which lead the sweeper to whoever has to be looked at.
//!
//! Two stores implement [`PresenceStore`]: [`MemoryStore`] for one process, [`RedisStore`] for any number.

mod memory;
mod metered;
mod redis;

use std::time::Duration;

use async_trait::async_trait;

pub use self::memory::MemoryStore;
pub use self::metered::MeteredStore;
pub use self::redis::{RedisConfig, RedisStore};
use crate::domain::{ChannelId, Platform, SessionId, Timestamp, Transition, UserId, UserRecord};

/// Keeps users' records. Every method ends within a bounded time. Methods that take many items answer for each, in
/// its place.
#[async_trait]
pub trait PresenceStore: Send + Sync + 'static {
    /// The store's clock, by which all hosts agree.
    async fn time(&self) -> Result<Timestamp, StoreError>;

    /// Each user's record; an unknown one for a user who is not known.
    async fn load(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>>;

    /// The same for whoever only tells what is in it, and commits nothing: a replica may answer. It has everything that
    /// was confirmed before this was called, as [`load`](Self::load) has.
    async fn read(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        self.load(users).await
    }

    /// Writes each change whose record has not moved on since it was loaded. The reminder is written first, so that a
    /// crash at any point leaves something that the sweeper finds.
    async fn commit(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>>;

    /// Ends what [`commit`](Self::commit) began: notes the next deadline, and, of a change that is known to be
    /// published, takes out what was pending and the reminder.
    async fn finish(&self, endings: &[Ending]) -> Result<(), StoreError>;

    /// The hot path: renews sessions that are known, live, told of and alone, without loading a record. False says that
    /// the heartbeat must be decided in full.
    async fn touch(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>>;

    /// Users to look at by `now`, at most `limit`, from one shard of the index.
    async fn due(&self, index: Index, shard: u8, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError>;

    /// How many users an index holds, due or not.
    async fn size(&self, index: Index) -> Result<u64, StoreError>;

    /// Takes the shard for this sweeper, for a short time, so that sweepers at work at once share the work.
    async fn take_shard(&self, shard: u8, sweeper: &str) -> Result<bool, StoreError>;

    /// Gives the shard back.
    async fn release_shard(&self, shard: u8, sweeper: &str) -> Result<(), StoreError>;

    /// Until when expiries are held, for every sweeper.
    async fn held_until(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Holds expiries until then.
    async fn hold(&self, until: Timestamp) -> Result<(), StoreError>;

    /// Leaves a sign that someone sweeps each second. It holds for [`TICKER_SIGN`].
    async fn sign_ticker(&self) -> Result<(), StoreError>;

    /// Whether there is such a sign.
    async fn has_ticker(&self) -> Result<bool, StoreError>;

    /// Notes changes that others saw, for whoever asks why. At most [`NOTES`] of a user are kept, for so long after the
    /// last. It is no part of a record: a note may be lost.
    async fn note(&self, user: UserId, transitions: &[Transition], keep: Duration) -> Result<(), StoreError>;

    /// What was noted of a user, the latest first.
    async fn noted(&self, user: UserId) -> Result<Vec<Transition>, StoreError>;

    /// Notes that the user types, unless they chose to be invisible, and says whether the others are to be told. The same
    /// again at the same moment is a repetition of a call whose answer may be lost, and has the same answer: what it tells
    /// has the same id.
    async fn start_typing(&self, channel: ChannelId, user: UserId, now: Timestamp) -> Result<bool, StoreError>;

    /// Takes back that the others were told, so that the next repetition tells them.
    async fn untell_typing(&self, channel: ChannelId, user: UserId) -> Result<(), StoreError>;

    /// Who types, and when they last said so, the latest last.
    async fn typing(&self, channel: ChannelId, now: Timestamp) -> Result<Vec<(UserId, Timestamp)>, StoreError>;
}

/// How many changes of a user are kept where they are noted.
pub const NOTES: usize = 20;

/// Into how many shards each index is spread, so that no single key takes every write.
pub const SHARDS: u8 = 32;

/// How long the sign of someone who sweeps each second holds: two ticks may fail to come in time.
pub const TICKER_SIGN: Duration = Duration::from_secs(3);

/// The shard of both indexes that a user belongs to.
pub fn shard_of(user: UserId) -> u8 {
    user.uuid().as_bytes()[15] % SHARDS
}

/// The two indexes by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Index {
    /// When a visible user's next session ends. Proof that the user was once seen online.
    Deadlines,
    /// When to look at a user some of whose changes may not have been published.
    Reminders,
}

/// A user to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Whom.
    pub user_id: UserId,
    /// The moment for which the index has them.
    pub at: Timestamp,
}

/// A record as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The record.
    pub record: UserRecord,
    /// The commit that wrote it; none if the store holds no sessions of this user.
    pub revision: Option<u64>,
    /// The store's own form of it, from which a commit computes what to write.
    pub(in crate::store) stored: redis::Stored,
}

/// A record to write, and what it was when it was loaded.
#[derive(Debug, Clone)]
pub struct Change {
    /// What it was. The commit fails if it is not that any more.
    pub loaded: Loaded,
    /// What it is to be.
    pub record: UserRecord,
    /// Whether something in it must outlive the user's sessions.
    pub durable: bool,
    /// When the sweeper is to look whether what is pending was published; none if nothing is.
    pub remind_at: Option<Timestamp>,
    /// The commit fails from this moment on, by the store's clock: something ends then that the record as it was loaded
    /// tells of, and whoever has read it since may have told that end. None if nothing will.
    pub valid_until: Option<Timestamp>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is written, as this revision.
    Done(u64),
    /// Somebody else wrote in between, or too much time passed: load and decide again.
    Conflict,
}

/// What is left to do after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Of whom.
    pub user_id: UserId,
    /// The revision up to which everything pending is known to be published; none if something is not.
    pub published: Option<u64>,
    /// The deadline that the index is expected to hold.
    pub old_deadline: Option<Timestamp>,
    /// The deadline that it is to hold. Where the index holds something else than expected, an earlier moment wins: to
    /// look too early costs little, to look too late tells too late. It is not left as it was, because somebody who was
    /// led by it may be about to take it out.
    pub new_deadline: Option<Timestamp>,
    /// The reminder that is out, to be taken out if everything is published.
    pub old_reminder: Option<Timestamp>,
    /// The reminder to set instead.
    pub new_reminder: Option<Timestamp>,
}

impl Ending {
    /// Whether the index of deadlines is to be looked at. Where a reminder is out also if the deadline is the same as
    /// before: whoever moved it may have died before they came to the index, and this takes their reminder with it.
    fn concerns_deadlines(&self) -> bool {
        self.old_deadline != self.new_deadline || (self.old_reminder.is_some() && self.new_deadline.is_some())
    }
}

/// A heartbeat to renew a session with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose.
    pub user_id: UserId,
    /// Of which session.
    pub session_id: SessionId,
    /// Where it runs, if the heartbeat says so.
    pub platform: Option<Platform>,
    /// When it was sent.
    pub at: Timestamp,
}

/// Why a store did not do as it was asked. Absence is no error: a user who is not known is offline.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached in time. A write may or may not have happened.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It answered something that can't be read.
    #[error("the store holds what can't be read: {0}")]
    Corrupt(String),
}

impl From<StoreError> for crate::Error {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::Unavailable(_) => crate::ErrorKind::Unavailable,
            StoreError::Corrupt(_) => crate::ErrorKind::Internal,
        };
        crate::Error::new(kind, error)
    }
}
