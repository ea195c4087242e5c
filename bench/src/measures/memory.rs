//! What an online user with one session and nothing durable takes in Redis, indexes included.

use redis::aio::MultiplexedConnection;

use crate::crowd::Crowd;
use crate::peers;
use crate::report::{Section, Table};
use crate::stage::{Kept, Stage, progress};

pub(crate) async fn measure(stage: &Stage) -> Section {
    let users = stage.users;
    let mut section = Section::new("memory", format!("Memory of {users} users online"));
    let bar = progress("memory", 4);
    let crowd = Crowd::gather(stage, users, Kept::InMemory).await;
    let (redis, script) = (&crowd.redis, peers::load_centrifugo(&crowd.redis).await);
    let mut before = used(redis).await;
    let mut bytes = async || {
        bar.inc(1);
        let now = used(redis).await;
        let taken = (now - before) / users as f64;
        before = now;
        taken
    };
    crowd.open_all().await;
    let ours = bytes().await;
    peers::pipelined(redis, &crowd.users, peers::tutorial_heartbeat).await;
    let set = bytes().await;
    peers::pipelined(redis, &crowd.users, peers::hash_heartbeat).await;
    let hash = bytes().await;
    peers::centrifugo_heartbeats(redis, &crowd.users, &script, 1_700_000_000_000).await;
    let centrifugo = bytes().await;

    let mut table = Table::new("in Redis", &["bytes a user"]);
    table.row("ours: sessions, record, deadline index", &[ours]);
    table.row("peer: `SET EX`", &[set]);
    table.row("peer: `HSET` and `EXPIRE`, one field", &[hash]);
    table.row("peer: Centrifugo's script, a channel a user", &[centrifugo]);
    section.tables.push(table);
    section.find("memory", ours, Some(hash), Some(centrifugo));
    section.notes.extend(crowd.remark());
    section
}

async fn used(redis: &MultiplexedConnection) -> f64 {
    let mut redis = redis.clone();
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}
