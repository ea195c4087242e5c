//! The store inside one process: the embedded default, and the reference that the other store is tested against.
//! Nothing is kept when the process ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::redis::Stored;
use super::{
    Change, Committed, Due, Ending, Heartbeat, Index, Loaded, NOTES, PresenceStore, SHARDS, StoreError, TICKER_SIGN,
    shard_of,
};
use crate::domain::{ChannelId, Rules, TYPING_REPEAT, Timestamp, Transition, UserId, UserRecord};

/// How long a user's sessions are kept after the last commit or heartbeat.
const USER_TTL: Duration = Duration::from_secs(300);

/// Keeps everything in maps behind one lock, which no await is held across.
pub struct MemoryStore {
    rules: Rules,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    users: HashMap<UserId, User>,
    profiles: HashMap<UserId, UserRecord>,
    notes: HashMap<UserId, Notes>,
    typing: HashMap<ChannelId, Channel>,
    /// When what may go.
    expiries: BTreeSet<(Timestamp, Expiring)>,
    indexes: BTreeMap<Index, ByTime>,
    held_until: Option<Timestamp>,
    ticker_until: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Expiring {
    User(UserId),
    Notes(UserId),
    Channel(ChannelId),
}

struct User {
    record: UserRecord,
    revision: u64,
    expires_at: Option<Timestamp>,
}

/// Changes, the latest first.
#[derive(Default)]
struct Notes {
    transitions: VecDeque<Transition>,
    expires_at: Option<Timestamp>,
}

#[derive(Default)]
struct Channel {
    users: HashMap<UserId, Typing>,
    expires_at: Option<Timestamp>,
}

struct Typing {
    said_at: Timestamp,
    told_at: Option<Timestamp>,
}

/// Users by the moment at which to look at them.
#[derive(Default)]
struct ByTime {
    moments: HashMap<UserId, Timestamp>,
    order: BTreeSet<(u8, Timestamp, UserId)>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(rules: Rules) -> Self {
        Self { rules, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.expire(wall_clock());
        state
    }
}

impl State {
    fn expire(&mut self, now: Timestamp) {
        while let Some((at, what)) = self.expiries.first().copied()
            && at <= now
        {
            self.expiries.remove(&(at, what));
            match what {
                Expiring::User(user) => drop(self.users.remove(&user)),
                Expiring::Notes(user) => drop(self.notes.remove(&user)),
                Expiring::Channel(channel) => drop(self.typing.remove(&channel)),
            }
        }
    }

    /// Notes until when a user is kept; for as long as something is pending if there is no such moment.
    fn keep(&mut self, user_id: UserId, until: Option<Timestamp>) {
        let Some(user) = self.users.get_mut(&user_id) else { return };
        let what = Expiring::User(user_id);
        if let Some(old) = std::mem::replace(&mut user.expires_at, until) {
            self.expiries.remove(&(old, what));
        }
        self.expiries.extend(until.map(|until| (until, what)));
    }

    fn load(&self, user_id: UserId) -> Loaded {
        if let Some(user) = self.users.get(&user_id) {
            return Loaded { record: user.record.clone(), revision: Some(user.revision), stored: Stored::new() };
        }
        let mut record = self.profiles.get(&user_id).cloned().unwrap_or_else(|| UserRecord::unknown(user_id));
        record.lapsed = self.indexes.get(&Index::Deadlines).and_then(|index| index.moments.get(&user_id)).copied();
        Loaded { record, revision: None, stored: Stored::new() }
    }

    fn commit(&mut self, change: &Change, until: Timestamp) -> Committed {
        let user_id = change.record.user_id;
        if self.users.get(&user_id).map(|user| user.revision) != change.loaded.revision {
            return Committed::Conflict;
        }
        if change.valid_until.is_some_and(|until| until <= wall_clock()) {
            return Committed::Conflict;
        }
        let revision = change.loaded.revision.unwrap_or_default() + 1;
        let expires_at = self.users.get(&user_id).and_then(|user| user.expires_at);
        self.users.insert(user_id, User { record: change.record.clone(), revision, expires_at });
        self.keep(user_id, change.record.pending.is_empty().then_some(until));
        if change.durable {
            self.profiles.insert(user_id, change.record.profile());
        }
        Committed::Done(revision)
    }

    fn confirm(&mut self, user_id: UserId, revision: u64, until: Timestamp) {
        if let Some(user) = self.users.get_mut(&user_id)
            && user.revision == revision
        {
            user.record.pending.clear();
            self.keep(user_id, Some(until));
        }
    }

    /// The renewed session's deadline, or none if the heartbeat must be decided in full.
    fn touch(&mut self, heartbeat: &Heartbeat, now: Timestamp, rules: &Rules) -> Option<Timestamp> {
        let user = self.users.get_mut(&heartbeat.user_id)?;
        let known = user.record.last_sign_of_life();
        let Heartbeat { session_id, platform, at, .. } = heartbeat;
        let latest = user.record.renew(session_id, *platform, *at, now, rules)?;
        if Some(latest) > known {
            user.revision += 1;
        }
        Some(latest + rules.heartbeat_timeout)
    }

    fn index(&mut self, index: Index) -> &mut ByTime {
        self.indexes.entry(index).or_default()
    }
}

impl ByTime {
    fn set(&mut self, user: UserId, at: Option<Timestamp>) {
        let old = match at {
            Some(at) => self.moments.insert(user, at),
            None => self.moments.remove(&user),
        };
        if let Some(old) = old {
            self.order.remove(&(shard_of(user), old, user));
        }
        self.order.extend(at.map(|at| (shard_of(user), at, user)));
    }

    /// As `reindex.lua`: where something else than expected stands, an earlier moment wins, and is made another one if it
    /// stood there before.
    fn change(&mut self, user: UserId, expected: Option<Timestamp>, new: Option<Timestamp>) {
        let current = self.moments.get(&user).copied();
        let moment = match (current, new) {
            (Some(current), Some(new)) if Some(current) != expected && current < new => {
                Some(current - Duration::from_millis(1))
            }
            (Some(current), Some(new)) if Some(current) != expected => Some(current.min(new)),
            (Some(current), None) if Some(current) != expected => Some(current),
            _ => new,
        };
        if moment != current {
            self.set(user, moment);
        }
    }
}

#[async_trait]
impl PresenceStore for MemoryStore {
    async fn time(&self) -> Result<Timestamp, StoreError> {
        Ok(wall_clock())
    }

    async fn load(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        let state = self.state();
        users.iter().map(|user| Ok(state.load(*user))).collect()
    }

    async fn commit(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        let mut state = self.state();
        let until = wall_clock() + USER_TTL;
        let mut commit = |change: &Change| {
            if let Some(at) = change.remind_at {
                state.index(Index::Reminders).set(change.record.user_id, Some(at));
            }
            Ok(state.commit(change, until))
        };
        changes.iter().map(&mut commit).collect()
    }

    async fn finish(&self, endings: &[Ending]) -> Result<(), StoreError> {
        let mut state = self.state();
        let until = wall_clock() + USER_TTL;
        for ending in endings {
            let user = ending.user_id;
            if ending.concerns_deadlines() {
                state.index(Index::Deadlines).change(user, ending.old_deadline, ending.new_deadline);
            }
            if let Some(revision) = ending.published {
                state.confirm(user, revision, until);
            }
            let reminders = state.index(Index::Reminders);
            match (ending.old_reminder, ending.new_reminder) {
                (_, Some(new)) => reminders.set(user, Some(new)),
                (Some(old), None) if reminders.moments.get(&user) == Some(&old) => reminders.set(user, None),
                _ => {}
            }
        }
        Ok(())
    }

    async fn touch(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        let mut state = self.state();
        let until = wall_clock() + USER_TTL;
        let mut touch = |heartbeat: &Heartbeat| {
            let Some(deadline) = state.touch(heartbeat, now, &self.rules) else { return Ok(false) };
            state.keep(heartbeat.user_id, Some(until));
            state.index(Index::Deadlines).set(heartbeat.user_id, Some(deadline));
            Ok(true)
        };
        heartbeats.iter().map(&mut touch).collect()
    }

    async fn due(&self, index: Index, shard: u8, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        debug_assert!(shard < SHARDS);
        let mut state = self.state();
        let from = (shard, Timestamp::default(), UserId::new(uuid::Uuid::nil()));
        let entries = state.index(index).order.range(from..);
        let due = entries.take_while(|(of, at, _)| *of == shard && *at <= now).take(limit);
        Ok(due.map(|(_, at, user_id)| Due { user_id: *user_id, at: *at }).collect())
    }

    async fn size(&self, index: Index) -> Result<u64, StoreError> {
        Ok(self.state().index(index).moments.len() as u64)
    }

    async fn take_shard(&self, _shard: u8, _sweeper: &str) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn release_shard(&self, _shard: u8, _sweeper: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn held_until(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.state().held_until)
    }

    async fn hold(&self, until: Timestamp) -> Result<(), StoreError> {
        self.state().held_until = Some(until);
        Ok(())
    }

    async fn sign_ticker(&self) -> Result<(), StoreError> {
        self.state().ticker_until = Some(wall_clock() + TICKER_SIGN);
        Ok(())
    }

    async fn has_ticker(&self) -> Result<bool, StoreError> {
        Ok(self.state().ticker_until.is_some_and(|until| wall_clock() < until))
    }

    async fn note(&self, user: UserId, transitions: &[Transition], keep: Duration) -> Result<(), StoreError> {
        let mut state = self.state();
        let until = wall_clock() + keep;
        let notes = state.notes.entry(user).or_default();
        for transition in transitions {
            notes.transitions.push_front(transition.clone());
        }
        notes.transitions.truncate(NOTES);
        if let Some(old) = notes.expires_at.replace(until) {
            state.expiries.remove(&(old, Expiring::Notes(user)));
        }
        state.expiries.insert((until, Expiring::Notes(user)));
        Ok(())
    }

    async fn noted(&self, user: UserId) -> Result<Vec<Transition>, StoreError> {
        let state = self.state();
        Ok(state.notes.get(&user).map(|notes| notes.transitions.iter().cloned().collect()).unwrap_or_default())
    }

    async fn start_typing(&self, channel: ChannelId, user: UserId, now: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        if !state.load(user).record.choice.intent.is_visible() {
            return Ok(false);
        }
        let until = wall_clock() + self.rules.typing_timeout;
        let typing = state.typing.entry(channel).or_default();
        typing.users.retain(|_, typing| now < typing.said_at + self.rules.typing_timeout);
        let old = typing.expires_at.replace(until);
        let entry = typing.users.entry(user).or_insert(Typing { said_at: now, told_at: None });
        entry.said_at = entry.said_at.max(now);
        let tell = entry.told_at.is_none_or(|told| now == told || now >= told + TYPING_REPEAT);
        if tell {
            entry.told_at = Some(now);
        }
        if let Some(old) = old {
            state.expiries.remove(&(old, Expiring::Channel(channel)));
        }
        state.expiries.insert((until, Expiring::Channel(channel)));
        Ok(tell)
    }

    async fn untell_typing(&self, channel: ChannelId, user: UserId) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(entry) = state.typing.get_mut(&channel).and_then(|typing| typing.users.get_mut(&user)) {
            entry.told_at = None;
        }
        Ok(())
    }

    async fn typing(&self, channel: ChannelId, now: Timestamp) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        let state = self.state();
        let Some(typing) = state.typing.get(&channel) else { return Ok(Vec::new()) };
        let current = typing.users.iter().filter(|(_, typing)| now < typing.said_at + self.rules.typing_timeout);
        let mut typists: Vec<(UserId, Timestamp)> = current.map(|(user, typing)| (*user, typing.said_at)).collect();
        typists.sort_by_key(|(user, said_at)| (*said_at, *user));
        Ok(typists)
    }
}

/// The clock of this store is this host's.
#[expect(clippy::disallowed_methods, reason = "this is the clock that everyone else asks for")]
fn wall_clock() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(elapsed.as_millis() as i64)
}
