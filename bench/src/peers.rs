//! What others do for a heartbeat, as commands; and what ours has to do, as commands without a decision. All of them
//! are sent in batches as large as ours, as many at once.

use std::collections::BTreeMap;

use futures::stream::{FuturesUnordered, StreamExt};
use presence::domain::{SessionId, UserId};
use presence::store::shard_of;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline};

use crate::crowd::{AT_ONCE, BATCH, Member};

/// What is sent for one user.
pub(crate) type Commands = fn(&mut Pipeline, UserId, &SessionId);

/// Sends the commands of every user.
pub(crate) async fn pipelined(redis: &MultiplexedConnection, users: &[Member], commands: Commands) {
    send(redis, users, |pipe, batch| batch.iter().for_each(|(user, session)| commands(pipe, *user, session))).await;
}

/// What a heartbeat of ours has to do: look at the session, write it and `last_seen`, renew the five minutes, and move the
/// deadlines of a whole batch, shard by shard. Each moment (ms) is later than the one before, or nothing would move.
pub(crate) async fn raw_heartbeats(redis: &MultiplexedConnection, users: &[Member], at_ms: i64) {
    send(redis, users, |pipe, batch| {
        let mut shards = BTreeMap::<u8, Cmd>::new();
        for (user, session) in batch {
            let (key, field) = (format!("raw:user:{user}"), format!("s:{session}"));
            pipe.cmd("HGET").arg(&key).arg(&field).ignore();
            pipe.cmd("HSET").arg(&key).arg(&field).arg(format!("W{at_ms}{at_ms}{at_ms}"));
            pipe.arg("last_seen").arg(at_ms / 1000).ignore();
            pipe.cmd("EXPIRE").arg(&key).arg(300).ignore();
            let shard = shard_of(*user);
            let deadlines = shards.entry(shard).or_insert_with(|| {
                let mut command = redis::cmd("ZADD");
                command.arg(format!("raw:deadlines:{shard}")).arg("GT");
                command
            });
            deadlines.arg(at_ms + 45_000).arg(user.to_string());
        }
        for command in shards.into_values() {
            pipe.add_command(command).ignore();
        }
    })
    .await;
}

async fn send(redis: &MultiplexedConnection, users: &[Member], fill: impl Fn(&mut Pipeline, &[Member])) {
    let (mut batches, mut under_way) = (users.chunks(BATCH), FuturesUnordered::new());
    loop {
        while under_way.len() < AT_ONCE
            && let Some(batch) = batches.next()
        {
            let (mut redis, mut pipe) = (redis.clone(), redis::pipe());
            fill(&mut pipe, batch);
            under_way.push(async move { pipe.exec_async(&mut redis).await.unwrap() });
        }
        if under_way.next().await.is_none() {
            return;
        }
    }
}

/// What opening a connection has to write, where nobody has to be told: the record, its five minutes, its deadline.
pub(crate) fn raw_open(pipe: &mut Pipeline, user: UserId, session: &SessionId) {
    let key = format!("raw:user:{user}");
    pipe.cmd("HGETALL").arg(&key).ignore();
    pipe.cmd("HSET").arg(&key).arg(format!("s:{session}")).arg("1700000000000,w,0,");
    pipe.arg(&["z", "1", "status", "online", "r", "1700000000000", "v", "1700000000000"]);
    pipe.arg(&["t", "1700000000000", "last_seen", "1700000000"]).ignore();
    pipe.cmd("EXPIRE").arg(&key).arg(300).ignore();
    pipe.cmd("ZADD").arg("raw:deadlines").arg(1_700_000_045_000_i64).arg(user.to_string()).ignore();
}

/// The tutorials': a key that expires. No sessions, no `last_seen`, nobody is told.
pub(crate) fn tutorial_heartbeat(pipe: &mut Pipeline, user: UserId, _: &SessionId) {
    pipe.cmd("SET").arg(format!("peer:set:{user}")).arg("online").arg("EX").arg(45).ignore();
}

/// A hash with a time to live. No sessions; whoever wants to tell that someone left has to scan all of them.
pub(crate) fn hash_heartbeat(pipe: &mut Pipeline, user: UserId, _: &SessionId) {
    let key = format!("peer:hash:{user}");
    pipe.cmd("HSET").arg(&key).arg("last_seen").arg(1_700_000_000).ignore();
    pipe.cmd("EXPIRE").arg(&key).arg(300).ignore();
}

/// Centrifugo's, as its documentation describes it: a channel has a hash of clients and a sorted set of the moments
/// until which they count, both of which expire together; one script adds a client to both. Here each user has a channel
/// of their own, as where each user's presence is followed by others.
pub(crate) const CENTRIFUGO: &str = "\
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])";

/// The name by which the server knows the script from now on.
pub(crate) async fn load_centrifugo(redis: &MultiplexedConnection) -> String {
    redis::cmd("SCRIPT").arg("LOAD").arg(CENTRIFUGO).query_async(&mut redis.clone()).await.unwrap()
}

/// A heartbeat of each user with that script.
pub(crate) async fn centrifugo_heartbeats(redis: &MultiplexedConnection, users: &[Member], script: &str, at_ms: i64) {
    send(redis, users, |pipe, batch| {
        for (user, session) in batch {
            let info = format!(r#"{{"user":"{user}","client":"{session}"}}"#);
            pipe.cmd("EVALSHA").arg(script).arg(2);
            pipe.arg(format!("peer:presence.data.{user}")).arg(format!("peer:presence.expire.{user}"));
            pipe.arg(session.to_string()).arg(info).arg(at_ms / 1000 + 60).arg(60).ignore();
        }
    })
    .await;
}
