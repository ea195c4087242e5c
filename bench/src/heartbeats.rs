//! Heartbeats of known sessions. The raw limit is what a heartbeat has to do, as plain commands without a decision.

use futures::stream::{self, StreamExt};
use presence::domain::{SessionId, UserId};

use crate::contest::{self, Contestant};
use crate::crowd::{AT_ONCE, BATCH, Crowd, beats};

pub(crate) async fn measure(crowd: &Crowd, rounds: usize) {
    crowd.open_all().await;
    let users = crowd.users.len();
    let mut raw = Contestant::new("raw: HMGET, HSET, EXPIRE, ZADD in thousands");
    let mut ours = Contestant::new("ours: a batch of heartbeats");
    let mut set = Contestant::new("peer: SET EX, nothing else");
    let mut hash = Contestant::new("peer: HSET and EXPIRE, no deadline index, no sessions");
    for _ in 0..rounds {
        crowd.clock.turn_ms(1000);
        ours.round(&crowd.redis, users, crowd.apply(&crowd.users, beats)).await;
        raw.round(&crowd.redis, users, pipelined(crowd, raw_heartbeat, true)).await;
        set.round(&crowd.redis, users, pipelined(crowd, tutorial_heartbeat, false)).await;
        hash.round(&crowd.redis, users, pipelined(crowd, hash_heartbeat, false)).await;
    }
    contest::print(&format!("heartbeats, {users} users online"), &[raw, ours, set, hash]);
}

async fn pipelined(crowd: &Crowd, heartbeat: fn(&mut redis::Pipeline, UserId, &SessionId), index: bool) {
    let batches = crowd.users.chunks(BATCH).map(|chunk| {
        let mut redis = crowd.redis.clone();
        async move {
            let mut pipe = redis::pipe();
            for (user, session) in chunk {
                heartbeat(&mut pipe, *user, session);
            }
            if index {
                pipe.cmd("ZADD").arg("raw:deadlines");
                for (user, _) in chunk {
                    pipe.arg(1_700_000_045_000_i64).arg(user.to_string());
                }
                pipe.ignore();
            }
            pipe.exec_async(&mut redis).await.unwrap();
        }
    });
    stream::iter(batches).buffer_unordered(AT_ONCE).collect::<()>().await;
}

fn raw_heartbeat(pipe: &mut redis::Pipeline, user: UserId, session: &SessionId) {
    let (key, field) = (format!("raw:user:{user}"), format!("s:{session}"));
    pipe.cmd("HMGET").arg(&key).arg(&[&*field, "status", "p", "m", "t", "r", "last_seen"]).ignore();
    pipe.cmd("HSET").arg(&key).arg(&field).arg("1700000000000,w,30000,30000");
    pipe.arg("r").arg(1_700_000_000_000_i64).arg("last_seen").arg(1_700_000_000).ignore();
    pipe.cmd("EXPIRE").arg(&key).arg(300).ignore();
}

fn tutorial_heartbeat(pipe: &mut redis::Pipeline, user: UserId, _: &SessionId) {
    pipe.cmd("SET").arg(format!("peer:set:{user}")).arg("online").arg("EX").arg(45).ignore();
}

fn hash_heartbeat(pipe: &mut redis::Pipeline, user: UserId, _: &SessionId) {
    let key = format!("peer:hash:{user}");
    pipe.cmd("HSET").arg(&key).arg("last_seen").arg(1_700_000_000).ignore();
    pipe.cmd("EXPIRE").arg(&key).arg(300).ignore();
}
