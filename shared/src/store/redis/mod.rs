//! The store on Redis ≥ 7.0 or Valkey, single or cluster. Keys are in `keys.rs`, the form of a record in `codec.rs`,
//! the scripts in `scripts/`: each touches the keys of one slot and declares them.

mod codec;
mod connection;
mod keys;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use redis::{FromRedisValue, Script, ScriptInvocation, cmd};

use self::connection::Connection;
use super::{
    Change, Committed, Due, Ending, Heartbeat, Index, Loaded, PresenceStore, StoreError, TICKER_SIGN, shard_of,
};
use crate::domain::{ChannelId, Rules, TYPING_REPEAT, Timestamp, UserId};

/// The fields that a record was loaded from.
pub(in crate::store) type Stored = codec::Fields;

/// How long a user's hash lives after the last commit or heartbeat.
const USER_TTL: Duration = Duration::from_secs(300);
/// How long the replicas may take to have the choice of invisible. Less than one command may take.
const REPLICAS_TIMEOUT: Duration = Duration::from_millis(300);
/// The script of a commit.
const COMMIT: &str = include_str!("scripts/commit.lua");
/// How long a sweeper keeps a shard that it does not give back.
const SWEEPER_LEASE: Duration = Duration::from_secs(2);

/// Where Redis is.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://` or `rediss://`, with credentials. A secret.
    pub url: String,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// How many replicas must have the choice of invisible before it is confirmed. Not for a cluster.
    pub wait_replicas: u32,
}

/// The store on Redis.
pub struct RedisStore {
    connection: Connection,
    rules: Rules,
    wait_replicas: u32,
    scripts: Scripts,
}

/// Loaded into the server when it does not know them, also after it has forgotten them.
struct Scripts {
    commit: Script,
    confirm: Script,
    touch: Script,
    reindex: Script,
    dismiss: Script,
    release: Script,
    start_typing: Script,
}

impl RedisStore {
    /// Prepares the store; nothing is sent yet. Fails if the URL can't be used.
    pub fn new(config: &RedisConfig, rules: Rules) -> Result<Self, StoreError> {
        Self::trusting(config, rules, None)
    }

    /// The same with certificate authorities in PEM, which are trusted instead of the public ones.
    pub fn trusting(config: &RedisConfig, rules: Rules, authorities: Option<&[u8]>) -> Result<Self, StoreError> {
        let connection = Connection::new(&config.url, config.cluster, authorities)
            .map_err(|error| StoreError::Unavailable(format!("REDIS_URL can't be used: {}", error.category())))?;
        let scripts = Scripts {
            commit: Script::new(COMMIT),
            confirm: Script::new(include_str!("scripts/confirm.lua")),
            touch: Script::new(include_str!("scripts/touch.lua")),
            reindex: Script::new(include_str!("scripts/reindex.lua")),
            dismiss: Script::new(include_str!("scripts/dismiss.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
            start_typing: Script::new(include_str!("scripts/start_typing.lua")),
        };
        Ok(Self { connection, rules, wait_replicas: config.wait_replicas, scripts })
    }

    async fn load_one(&self, user: UserId) -> Result<Loaded, StoreError> {
        let stored: Stored = self.query(cmd("HGETALL").arg(keys::user(user))).await?;
        if stored.is_empty() {
            return self.load_forgotten(user).await;
        }
        let mut record = codec::decode(user, &stored)?;
        if stored.contains_key(keys::PENDING) {
            let pending: Option<String> = self.query(cmd("GET").arg(keys::pending(user))).await?;
            record.pending = pending.map_or_else(|| Ok(Vec::new()), |text| codec::decode_pending(&text))?;
        }
        let revision = stored.get(keys::REVISION).and_then(|text| text.parse().ok());
        let revision = revision.ok_or_else(|| StoreError::Corrupt("a user's record without a revision".to_owned()))?;
        Ok(Loaded { record, revision: Some(revision), stored })
    }

    /// A user whose hash is gone: what outlives it, and whether they are still to be told offline.
    async fn load_forgotten(&self, user: UserId) -> Result<Loaded, StoreError> {
        let (mut profile, mut deadline) = (cmd("HGETALL"), cmd("ZSCORE"));
        profile.arg(keys::profile(user));
        deadline.arg(keys::index(Index::Deadlines, shard_of(user))).arg(member(user));
        let (profile, deadline): (Stored, Option<f64>) =
            futures::try_join!(self.query(&profile), self.query(&deadline))?;
        let mut record = codec::decode_profile(user, &profile)?;
        record.lapsed = deadline.map(|score| Timestamp::from_millis(score as i64));
        Ok(Loaded { record, revision: None, stored: Stored::new() })
    }

    async fn commit_one(&self, change: &Change) -> Result<Committed, StoreError> {
        let (record, loaded) = (&change.record, &change.loaded);
        let revision = (loaded.revision.unwrap_or_default() + 1).max(record.settled_at.millis() as u64);
        let mut fields = codec::encode(record, &self.rules);
        fields.insert(keys::REVISION.to_owned(), revision.to_string());
        let gone = loaded.stored.keys().filter(|name| codec::is_ours(name) && !fields.contains_key(*name));
        let gone: Vec<&String> = gone.collect();
        // The mark of what is pending may be gone since the load: confirming takes it out and raises no revision.
        let stands = |name: &str, value: &String| name != keys::PENDING && loaded.stored.get(name) == Some(value);
        let set = fields.iter().filter(|(name, value)| !stands(name, value));
        let set: Vec<(&String, &String)> = set.collect();

        let mut arguments = vec![loaded.revision.map_or_else(String::new, |revision| revision.to_string())];
        arguments.push(USER_TTL.as_secs().to_string());
        arguments.push(codec::encode_pending(&record.pending));
        arguments.push(gone.len().to_string());
        arguments.extend(gone.into_iter().cloned());
        arguments.push(set.len().to_string());
        arguments.extend(set.into_iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
        if change.durable {
            let expires_at = codec::profile_expires_at(record, &self.rules);
            arguments.push(expires_at.map_or(0, Timestamp::millis).to_string());
            arguments.extend(codec::encode_profile(record).into_iter().flat_map(|(name, value)| [name, value]));
        }
        let user = record.user_id;
        let keys = [keys::user(user), keys::profile(user), keys::pending(user)];
        let hides = loaded.record.choice.intent.is_visible() && !record.choice.intent.is_visible();
        let written = if hides && self.wait_replicas > 0 {
            self.commit_and_wait(&keys, &arguments).await?
        } else {
            self.invoke(self.scripts.commit.key(&keys).arg(&arguments)).await?
        };
        Ok(if written { Committed::Done(revision) } else { Committed::Conflict })
    }

    /// A commit that counts only once so many replicas have it too, so that a failover makes nobody visible. Sent as
    /// one, because the server waits for what came over the same connection.
    async fn commit_and_wait(&self, keys: &[String], arguments: &[String]) -> Result<bool, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("EVAL").arg(COMMIT).arg(keys.len()).arg(keys).arg(arguments);
        pipeline.cmd("WAIT").arg(self.wait_replicas).arg(REPLICAS_TIMEOUT.as_millis() as u64);
        let pipeline = &pipeline;
        let (written, replicas): (bool, u32) =
            self.connection.run(|mut handle| async move { pipeline.query_async(&mut handle).await }).await?;
        if written && replicas < self.wait_replicas {
            return Err(StoreError::Unavailable(format!("only {replicas} replicas have the choice of invisible")));
        }
        Ok(written)
    }

    async fn confirm_one(&self, user: UserId, revision: u64) -> Result<(), StoreError> {
        let mut call = self.scripts.confirm.key(keys::user(user));
        call.key(keys::pending(user)).arg(revision).arg(USER_TTL.as_secs());
        self.invoke(&call).await
    }

    /// The session's deadline, or none if the heartbeat must be decided in full.
    async fn touch_one(&self, heartbeat: &Heartbeat, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let mut call = self.scripts.touch.key(keys::user(heartbeat.user_id));
        call.arg(keys::session(&heartbeat.session_id)).arg(heartbeat.at.millis()).arg(now.millis());
        call.arg(self.rules.heartbeat_timeout.as_millis() as u64).arg(USER_TTL.as_secs());
        let deadline: i64 = self.invoke(&call).await?;
        Ok((deadline > 0).then_some(Timestamp::from_millis(deadline)))
    }

    /// Adds to an index, or moves within it, many users at once.
    async fn index(&self, index: Index, entries: impl Iterator<Item = (UserId, Timestamp)>) -> Result<(), StoreError> {
        let mut shards: BTreeMap<u8, redis::Cmd> = BTreeMap::new();
        for (user, at) in entries {
            let shard = shard_of(user);
            let command = shards.entry(shard).or_insert_with(|| {
                let mut command = cmd("ZADD");
                command.arg(keys::index(index, shard));
                command
            });
            command.arg(at.millis()).arg(member(user));
        }
        try_join_all(shards.values().map(|command| self.query::<()>(command))).await.map(drop)
    }

    /// Runs one script on each shard that has users.
    async fn on_shards(
        &self,
        script: &Script,
        index: Index,
        users: impl Iterator<Item = (UserId, Vec<String>)>,
    ) -> Result<(), StoreError> {
        let mut shards = BTreeMap::new();
        for (user, arguments) in users {
            let shard = shard_of(user);
            let call = shards.entry(shard).or_insert_with(|| script.key(keys::index(index, shard)));
            call.arg(member(user)).arg(arguments);
        }
        try_join_all(shards.values().map(|call| self.invoke::<()>(call))).await.map(drop)
    }

    async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, StoreError> {
        self.connection.run(|mut handle| async move { command.query_async(&mut handle).await }).await
    }

    async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.connection.run(|mut handle| async move { call.invoke_async(&mut handle).await }).await
    }
}

#[async_trait]
impl PresenceStore for RedisStore {
    async fn time(&self) -> Result<Timestamp, StoreError> {
        let (seconds, micros): (i64, i64) = self.query(&cmd("TIME")).await?;
        Ok(Timestamp::from_millis(seconds * 1000 + micros / 1000))
    }

    async fn load(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        join_all(users.iter().map(|user| self.load_one(*user))).await
    }

    async fn commit(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        let reminders = changes.iter().filter_map(|change| Some((change.record.user_id, change.remind_at?)));
        if let Err(error) = self.index(Index::Reminders, reminders).await {
            return changes.iter().map(|_| Err(error.clone())).collect();
        }
        join_all(changes.iter().map(|change| self.commit_one(change))).await
    }

    async fn finish(&self, endings: &[Ending]) -> Result<(), StoreError> {
        let moves = endings.iter().filter(|ending| ending.old_deadline != ending.new_deadline);
        let moves =
            moves.map(|ending| (ending.user_id, vec![moment(ending.old_deadline), moment(ending.new_deadline)]));
        let moved = self.on_shards(&self.scripts.reindex, Index::Deadlines, moves);
        let published = endings.iter().filter_map(|ending| Some((ending.user_id, ending.published?)));
        let confirmed = try_join_all(published.map(|(user, revision)| self.confirm_one(user, revision)));
        futures::try_join!(moved, confirmed)?;

        let done = endings.iter().filter(|ending| ending.new_reminder.is_none() && ending.old_reminder.is_some());
        let done = done.map(|ending| (ending.user_id, vec![moment(ending.old_reminder)]));
        let dismissed = self.on_shards(&self.scripts.dismiss, Index::Reminders, done);
        let again = endings.iter().filter_map(|ending| Some((ending.user_id, ending.new_reminder?)));
        let reminded = self.index(Index::Reminders, again);
        futures::try_join!(dismissed, reminded).map(drop)
    }

    async fn touch(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        let touched = join_all(heartbeats.iter().map(|heartbeat| self.touch_one(heartbeat, now))).await;
        let renewed = heartbeats.iter().zip(&touched);
        let renewed = renewed.filter_map(|(beat, result)| Some((beat.user_id, (*result.as_ref().ok()?)?)));
        if let Err(error) = self.index(Index::Deadlines, renewed).await {
            return heartbeats.iter().map(|_| Err(error.clone())).collect();
        }
        touched.into_iter().map(|result| result.map(|deadline| deadline.is_some())).collect()
    }

    async fn due(&self, index: Index, shard: u8, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        let mut command = cmd("ZRANGEBYSCORE");
        command.arg(keys::index(index, shard)).arg("-inf").arg(now.millis());
        command.arg("WITHSCORES").arg("LIMIT").arg(0).arg(limit);
        loop {
            let entries: Vec<(String, f64)> = self.query(&command).await?;
            let (mut due, mut strangers) = (Vec::with_capacity(entries.len()), Vec::new());
            for (name, score) in entries {
                match name.parse::<UserId>() {
                    Ok(user_id) if member(user_id) == name => {
                        due.push(Due { user_id, at: Timestamp::from_millis(score as i64) });
                    }
                    _ => strangers.push(name),
                }
            }
            if strangers.is_empty() {
                return Ok(due);
            }
            // They would stand in front of the users for ever.
            tracing::error!(?index, shard, entries = strangers.len(), "what is no user is taken out of an index");
            self.query::<()>(cmd("ZREM").arg(keys::index(index, shard)).arg(strangers)).await?;
        }
    }

    async fn take_shard(&self, shard: u8, sweeper: &str) -> Result<bool, StoreError> {
        let mut command = cmd("SET");
        command.arg(keys::sweeper(shard)).arg(sweeper).arg("NX").arg("PX").arg(SWEEPER_LEASE.as_millis() as u64);
        let taken: Option<String> = self.query(&command).await?;
        Ok(taken.is_some())
    }

    async fn release_shard(&self, shard: u8, sweeper: &str) -> Result<(), StoreError> {
        let mut call = self.scripts.release.key(keys::sweeper(shard));
        call.arg(sweeper);
        self.invoke(&call).await
    }

    async fn held_until(&self) -> Result<Option<Timestamp>, StoreError> {
        let until: Option<i64> = self.query(cmd("GET").arg(keys::HOLD)).await?;
        Ok(until.map(Timestamp::from_millis))
    }

    async fn hold(&self, until: Timestamp) -> Result<(), StoreError> {
        let mut command = cmd("SET");
        command.arg(keys::HOLD).arg(until.millis()).arg("PXAT").arg(until.millis());
        self.query(&command).await
    }

    async fn sign_ticker(&self) -> Result<(), StoreError> {
        let mut command = cmd("SET");
        command.arg(keys::TICKER).arg(1).arg("PX").arg(TICKER_SIGN.as_millis() as u64);
        self.query(&command).await
    }

    async fn has_ticker(&self) -> Result<bool, StoreError> {
        self.query(cmd("EXISTS").arg(keys::TICKER)).await
    }

    async fn start_typing(&self, channel: ChannelId, user: UserId, now: Timestamp) -> Result<bool, StoreError> {
        let mut call = self.scripts.start_typing.key(keys::typing(channel));
        call.key(keys::typing_told(channel));
        call.arg(member(user)).arg(unix_seconds(now));
        call.arg(self.rules.typing_timeout.as_secs_f64()).arg(TYPING_REPEAT.as_secs_f64());
        self.invoke(&call).await
    }

    async fn untell_typing(&self, channel: ChannelId, user: UserId) -> Result<(), StoreError> {
        let mut command = cmd("ZREM");
        command.arg(keys::typing_told(channel)).arg(member(user));
        self.query(&command).await
    }

    async fn typing(&self, channel: ChannelId, now: Timestamp) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        let oldest = unix_seconds(now - self.rules.typing_timeout);
        let mut command = cmd("ZRANGEBYSCORE");
        command.arg(keys::typing(channel)).arg(format!("({oldest}")).arg("+inf").arg("WITHSCORES");
        let entries: Vec<(String, f64)> = self.query(&command).await?;
        let typist = |(member, score): (String, f64)| {
            let user = member.parse().map_err(|_| StoreError::Corrupt("a typing entry that is no user".to_owned()))?;
            Ok((user, Timestamp::from_millis((score * 1000.0).round() as i64)))
        };
        entries.into_iter().map(typist).collect()
    }
}

/// How a user is written in the indexes and in the typing sets.
fn member(user: UserId) -> String {
    user.to_string()
}

/// A moment as an argument; an absent one is empty.
fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, |at| at.millis().to_string())
}

/// The documented score of typing: a Unix timestamp. Ours has a fraction, so that indicators end on time.
fn unix_seconds(at: Timestamp) -> String {
    format!("{}.{:03}", at.seconds(), at.millis() % 1000)
}
