//! The store on Redis ≥ 7.0 or Valkey, single or cluster. Keys are in `keys.rs`, the form of a record in `codec.rs`,
//! the scripts in `scripts/`: each touches the keys of one slot and declares them.

mod cluster;
mod codec;
mod commit;
mod connection;
mod finish;
mod keys;
mod load;
mod node;
mod renew;
mod replica;
mod scripts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue, Value, cmd};

use self::connection::{Connection, Source};
use self::scripts::{Script, Scripts};
use super::{
    Change, Committed, Due, Ending, Heartbeat, Index, Loaded, NOTES, PresenceStore, SHARDS, StoreError, TICKER_SIGN,
    shard_of,
};
use crate::domain::{ChannelId, Rules, TYPING_REPEAT, Timestamp, Transition, UserId};

/// The fields that a record was loaded from.
pub(in crate::store) type Stored = codec::Fields;

/// How long a user's hash lives after the last commit or heartbeat.
const USER_TTL: Duration = Duration::from_secs(300);
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
    /// A replica, or a reader endpoint, as `url`. Not for a cluster. A secret.
    pub replica_url: Option<String>,
}

/// The store on Redis.
pub struct RedisStore {
    connection: Connection,
    rules: Rules,
    wait_replicas: u32,
    scripts: Scripts,
}

impl RedisStore {
    /// Prepares the store; nothing is sent yet. Fails if the URL can't be used.
    pub fn new(config: &RedisConfig, rules: Rules) -> Result<Self, StoreError> {
        Self::trusting(config, rules, None)
    }

    /// The same with certificate authorities in PEM, which are trusted instead of the public ones.
    pub fn trusting(config: &RedisConfig, rules: Rules, authorities: Option<&[u8]>) -> Result<Self, StoreError> {
        let connection = Connection::new(config, authorities)?;
        Ok(Self { connection, rules, wait_replicas: config.wait_replicas, scripts: Scripts::new() })
    }

    /// Commands that add to an index, or move within it, many users at once; with an option of `ZADD`.
    fn adds(&self, index: Index, option: Option<&str>, entries: impl Iterator<Item = (UserId, Timestamp)>) -> Vec<Cmd> {
        let mut shards: BTreeMap<u8, Cmd> = BTreeMap::new();
        for (user, at) in entries {
            let shard = shard_of(user);
            let command = shards.entry(shard).or_insert_with(|| {
                let mut command = cmd("ZADD");
                command.arg(keys::index(index, shard)).arg(option);
                command
            });
            command.arg(at.millis()).arg(member(user));
        }
        shards.into_values().collect()
    }

    /// Runs commands, and after them a script for each user, for as many by one call as it is for; in a cluster each has
    /// their own, and the order is not known. Says of each whether it was done: the script answers the places of the others.
    async fn for_each<T>(
        &self,
        before: Vec<Cmd>,
        script: &Script,
        users: &[T],
        call: impl Fn(&[T]) -> Cmd,
    ) -> Vec<Result<bool, StoreError>> {
        let at_once = if self.connection.is_cluster() { 1 } else { script.at_once() };
        let run = async |before: Vec<Cmd>, users: &[T], at_once: usize| {
            let prepared = before.len();
            let commands = before.into_iter().chain(users.chunks(at_once).map(&call)).collect();
            let mut answers = self.connection.run_all(commands, Some(script)).await.into_iter();
            let failure = answers.by_ref().take(prepared).find_map(Result::err);
            let mut done = Vec::with_capacity(users.len());
            for (users, answer) in users.chunks(at_once).zip(answers) {
                let answer = failure.clone().map_or(answer, Err);
                match read::<Vec<usize>>(answer) {
                    Ok(others) => done.extend((1..=users.len()).map(|place| Ok(!others.contains(&place)))),
                    Err(error) => done.extend(users.iter().map(|_| Err(error.clone()))),
                }
            }
            (failure.is_none(), done)
        };
        let (is_prepared, mut done) = run(before, users, at_once).await;
        for (users, done) in users.chunks(at_once).zip(done.chunks_mut(at_once)) {
            // What can't be read fails the call in the middle: only that one is to be passed over.
            if is_prepared && users.len() > 1 && matches!(done, [Err(StoreError::Corrupt(_)), ..]) {
                done.clone_from_slice(&run(Vec::new(), users, 1).await.1);
            }
        }
        done
    }

    async fn query<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        read(self.one(command, None).await)
    }

    async fn invoke<T: FromRedisValue>(&self, script: &Script, command: Cmd) -> Result<T, StoreError> {
        read(self.one(command, Some(script)).await)
    }

    /// Whether the user chose to be. The profile holds every choice that is not the default.
    async fn is_invisible(&self, user: UserId) -> Result<bool, StoreError> {
        let mut command = with_key("HGET", keys::profile(user));
        command.arg(keys::PROFILE_INTENT);
        let intent: Option<String> = self.query(command).await?;
        Ok(intent.is_some_and(|intent| codec::is_invisible(&intent)))
    }

    async fn one(&self, command: Cmd, script: Option<&Script>) -> Result<Value, StoreError> {
        let answer = self.connection.run_all(vec![command], script).await.pop();
        answer.unwrap_or_else(|| Err(StoreError::Unavailable("no answer".to_owned())))
    }
}

#[async_trait]
impl PresenceStore for RedisStore {
    async fn time(&self) -> Result<Timestamp, StoreError> {
        let (seconds, micros): (i64, i64) = self.query(cmd("TIME")).await?;
        Ok(Timestamp::from_millis(seconds * 1000 + micros / 1000))
    }

    async fn load(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        self.load_from(Source::Primary, users).await
    }

    async fn read(&self, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        self.load_from(Source::Replica, users).await
    }

    async fn commit(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        self.commit_all(changes).await
    }

    async fn finish(&self, endings: &[Ending]) -> Result<(), StoreError> {
        self.finish_all(endings).await
    }

    async fn touch(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        self.renew(heartbeats, now).await
    }

    async fn due(&self, index: Index, shard: u8, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        let mut command = cmd("ZRANGEBYSCORE");
        command.arg(keys::index(index, shard)).arg("-inf").arg(now.millis());
        command.arg("WITHSCORES").arg("LIMIT").arg(0).arg(limit);
        loop {
            let entries: Vec<(String, f64)> = self.query(command.clone()).await?;
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
            let mut remove = cmd("ZREM");
            remove.arg(keys::index(index, shard)).arg(strangers);
            self.query::<()>(remove).await?;
        }
    }

    async fn size(&self, index: Index) -> Result<u64, StoreError> {
        let commands = (0..SHARDS).map(|shard| with_key("ZCARD", keys::index(index, shard))).collect();
        let sizes = self.connection.run_all(commands, None).await.into_iter().map(read::<u64>);
        sizes.sum()
    }

    async fn take_shard(&self, shard: u8, sweeper: &str) -> Result<bool, StoreError> {
        let mut command = cmd("SET");
        command.arg(keys::sweeper(shard)).arg(sweeper).arg("NX").arg("GET");
        command.arg("PX").arg(SWEEPER_LEASE.as_millis() as u64);
        let holder: Option<String> = self.query(command).await?;
        // Its own name tells of a call that did take it, and whose answer is lost.
        Ok(holder.is_none_or(|holder| holder == sweeper))
    }

    async fn release_shard(&self, shard: u8, sweeper: &str) -> Result<(), StoreError> {
        let mut command = self.scripts.release.call(&[keys::sweeper(shard)], 1);
        command.arg(sweeper);
        self.invoke(&self.scripts.release, command).await
    }

    async fn held_until(&self) -> Result<Option<Timestamp>, StoreError> {
        let until: Option<i64> = self.query(with_key("GET", keys::HOLD)).await?;
        Ok(until.map(Timestamp::from_millis))
    }

    async fn hold(&self, until: Timestamp) -> Result<(), StoreError> {
        let mut command = cmd("SET");
        command.arg(keys::HOLD).arg(until.millis()).arg("PXAT").arg(until.millis());
        self.query(command).await
    }

    async fn sign_ticker(&self) -> Result<(), StoreError> {
        let mut command = cmd("SET");
        command.arg(keys::TICKER).arg(1).arg("PX").arg(TICKER_SIGN.as_millis() as u64);
        self.query(command).await
    }

    async fn has_ticker(&self) -> Result<bool, StoreError> {
        self.query(with_key("EXISTS", keys::TICKER)).await
    }

    async fn note(&self, user: UserId, transitions: &[Transition], keep: Duration) -> Result<(), StoreError> {
        let key = keys::notes(user);
        let texts: Vec<String> = transitions.iter().filter_map(|note| serde_json::to_string(note).ok()).collect();
        let (mut push, mut trim, mut expire) =
            (with_key("LPUSH", &key), with_key("LTRIM", &key), with_key("PEXPIRE", &key));
        push.arg(texts);
        trim.arg(0).arg(NOTES - 1);
        expire.arg(keep.as_millis() as u64);
        self.query::<()>(push).await?;
        all_done(self.connection.run_all(vec![trim, expire], None).await)
    }

    async fn noted(&self, user: UserId) -> Result<Vec<Transition>, StoreError> {
        let mut command = with_key("LRANGE", keys::notes(user));
        command.arg(0).arg(-1);
        let texts: Vec<String> = self.query(command).await?;
        // What a newer release noted may be unreadable, and a repeated command notes twice.
        let mut notes: Vec<Transition> = texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        let mut seen = BTreeSet::new();
        notes.retain(|note| seen.insert(note.version));
        Ok(notes)
    }

    async fn start_typing(&self, channel: ChannelId, user: UserId, now: Timestamp) -> Result<bool, StoreError> {
        let mut keys = vec![keys::typing(channel), keys::typing_told(channel)];
        if !self.connection.is_cluster() {
            keys.push(keys::profile(user));
        } else if self.is_invisible(user).await? {
            return Ok(false);
        }
        let mut command = self.scripts.start_typing.call(&keys, 4);
        command.arg(member(user)).arg(unix_seconds(now));
        command.arg(self.rules.typing_timeout.as_secs_f64()).arg(TYPING_REPEAT.as_secs_f64());
        self.invoke(&self.scripts.start_typing, command).await
    }

    async fn untell_typing(&self, channel: ChannelId, user: UserId) -> Result<(), StoreError> {
        let mut command = cmd("ZREM");
        command.arg(keys::typing_told(channel)).arg(member(user));
        self.query(command).await
    }

    async fn typing(&self, channel: ChannelId, now: Timestamp) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        let oldest = unix_seconds(now - self.rules.typing_timeout);
        let mut command = cmd("ZRANGEBYSCORE");
        command.arg(keys::typing(channel)).arg(format!("({oldest}")).arg("+inf").arg("WITHSCORES");
        let entries: Vec<(String, f64)> = self.query(command).await?;
        let typist = |(member, score): (String, f64)| {
            let user = member.parse().map_err(|_| StoreError::Corrupt("a typing entry that is no user".to_owned()))?;
            Ok((user, Timestamp::from_millis((score * 1000.0).round() as i64)))
        };
        entries.into_iter().map(typist).collect()
    }
}

/// A command with its key; its other arguments, if there are any, are few and short.
fn with_key(name: &str, key: impl redis::ToRedisArgs) -> Cmd {
    // Room for the key of a user: to grow twice costs a good part of what it takes to make the command.
    let mut command = Cmd::with_capacity(4, 96);
    command.arg(name).arg(key);
    command
}

/// What an answer says.
fn read<T: FromRedisValue>(answer: Result<Value, StoreError>) -> Result<T, StoreError> {
    T::from_redis_value(answer?).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// Whether every command succeeded.
fn all_done(answers: Vec<Result<Value, StoreError>>) -> Result<(), StoreError> {
    answers.into_iter().try_for_each(|answer| answer.map(drop))
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
