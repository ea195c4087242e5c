//! A million users online within seconds: one of them comes online as everyone does, and the others become copies of
//! what the store then holds of that one. Byte for byte what it would be, whatever the form of a record.

use presence::domain::UserId;
use presence::store::shard_of;
use redis::aio::MultiplexedConnection;

use crate::crowd::{BATCH, Member};

/// Makes each of the others what the first user is: online, known to the deadline index.
pub(crate) async fn copy(redis: &MultiplexedConnection, first: UserId, others: &[Member]) {
    let keys = keys_of(redis, first).await;
    let deadline = deadline_of(redis, first).await;
    for batch in others.chunks(BATCH) {
        let mut pipe = redis::pipe();
        for (user, _) in batch {
            for (key, ttl_ms, value) in &keys {
                let key = key.replace(&first.to_string(), &user.to_string());
                pipe.cmd("RESTORE").arg(key).arg(*ttl_ms).arg(value).ignore();
            }
            pipe.cmd("ZADD").arg(index(*user)).arg(deadline).arg(user.to_string()).ignore();
        }
        pipe.exec_async(&mut redis.clone()).await.unwrap();
    }
}

/// Every key of the user, with its time to live and its value as the server dumps it.
async fn keys_of(redis: &MultiplexedConnection, user: UserId) -> Vec<(String, i64, Vec<u8>)> {
    let mut redis = redis.clone();
    let names: Vec<String> = redis::cmd("KEYS").arg(format!("*{user}*")).query_async(&mut redis).await.unwrap();
    assert!(!names.is_empty(), "the first user is not in the store");
    let mut keys = Vec::new();
    for name in names {
        let ttl_ms: i64 = redis::cmd("PTTL").arg(&name).query_async(&mut redis).await.unwrap();
        let value: Vec<u8> = redis::cmd("DUMP").arg(&name).query_async(&mut redis).await.unwrap();
        keys.push((name, ttl_ms.max(0), value));
    }
    keys
}

async fn deadline_of(redis: &MultiplexedConnection, user: UserId) -> f64 {
    let mut score = redis::cmd("ZSCORE");
    let score: Option<f64> =
        score.arg(index(user)).arg(user.to_string()).query_async(&mut redis.clone()).await.unwrap();
    score.expect("the first user's deadline is in the index")
}

fn index(user: UserId) -> String {
    format!("presence:deadlines:{}", shard_of(user))
}
