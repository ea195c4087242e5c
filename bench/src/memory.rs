//! What an online user with one session and nothing durable takes in Redis, indexes included.

use redis::aio::MultiplexedConnection;

use crate::crowd::Crowd;

pub(crate) async fn measure(crowd: &Crowd) {
    let before = used(&crowd.redis).await;
    crowd.open_all().await;
    let bytes = (used(&crowd.redis).await - before) / crowd.users.len() as f64;
    println!("\n### memory, {} users online\n\n{bytes:.0} bytes in Redis each", crowd.users.len());
}

async fn used(redis: &MultiplexedConnection) -> f64 {
    let mut redis = redis.clone();
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}
