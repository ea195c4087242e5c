//! Bulk reads: a thousand users at once.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use hyper::Method;
use presence::domain::{Rules, UserId};
use redis::aio::MultiplexedConnection;
use serde_json::json;

use super::reads::{self, authorization};
use crate::contest::{self, Contestant};
use crate::crowd::{AT_ONCE, BATCH, Crowd, Member, open_online, strangers};
use crate::http_load::{Prepared, as_fast_as_answered};
use crate::peers;
use crate::process::Process;
use crate::report::Section;
use crate::stage::{Kept, Stage, progress};

/// Requests under way at once.
const CONNECTIONS: usize = 8;

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("bulk", "Bulk reads of 1000 users");
    in_the_store(stage, &mut section).await;
    over_http(stage, &mut section).await;
    section
}

async fn in_the_store(stage: &Stage, section: &mut Section) {
    let crowd = Crowd::gather(stage, stage.users, Kept::InMemory).await;
    crowd.bring_online().await;
    peers::pipelined(&crowd.redis, &crowd.users, peers::tutorial_heartbeat).await;
    let mut raw = Contestant::new("limit: HGETALL × 1000, pipelined");
    let mut ours = Contestant::new("ours");
    let mut tutorial = Contestant::new("peer: MGET of 1000 keys");
    let (redis, users) = (&crowd.redis, &crowd.users);
    let bar = progress("bulk reads in the store", stage.rounds);
    for _ in 0..stage.rounds {
        ours.round(redis, users.len(), read_presences(&crowd)).await;
        raw.round(redis, users.len(), read_hashes(redis, users)).await;
        tutorial.round(redis, users.len(), read_strings(redis, users)).await;
        bar.inc(1);
    }
    section.find("bulk-store", ours.ratio_to(&raw), None, Some(tutorial.ratio_to(&raw)));
    section.tables.push(contest::table("in the store, users", &[&raw, &ours, &tutorial]));
}

async fn read_presences(crowd: &Crowd) {
    let reads = crowd.users.chunks(BATCH).map(|batch| async move {
        let users: Vec<UserId> = batch.iter().map(|(user, _)| *user).collect();
        let presences = crowd.service.presences(users[0], &users).await.unwrap();
        assert_eq!(presences.len(), batch.len());
    });
    stream::iter(reads).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn read_hashes(redis: &MultiplexedConnection, users: &[Member]) {
    let reads = users.chunks(BATCH).map(|batch| async move {
        let (mut redis, mut pipe) = (redis.clone(), redis::pipe());
        for (user, _) in batch {
            pipe.cmd("HGETALL").arg(format!("presence:user:{user}"));
        }
        let found: Vec<Vec<(String, String)>> = pipe.query_async(&mut redis).await.unwrap();
        assert!(found.iter().all(|fields| !fields.is_empty()));
    });
    stream::iter(reads).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn read_strings(redis: &MultiplexedConnection, users: &[Member]) {
    let reads = users.chunks(BATCH).map(|batch| async move {
        let (mut redis, mut command) = (redis.clone(), redis::cmd("MGET"));
        batch.iter().for_each(|(user, _)| {
            command.arg(format!("peer:set:{user}"));
        });
        let found: Vec<Option<String>> = command.query_async(&mut redis).await.unwrap();
        assert_eq!(found.len(), batch.len());
    });
    stream::iter(reads).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn over_http(stage: &Stage, section: &mut Section) {
    let redis = stage.empty(Kept::OnDisk).await;
    let users = strangers(stage.users);
    open_online(stage, &users, Rules { heartbeat_timeout: reads::TIMEOUT, ..Rules::default() }).await;
    let (service, ours_at) = Process::service(&stage.servers, &reads::VARIABLES).await;
    let (bare, bare_at) = Process::bare(&stage.servers, "server").await;
    let token = authorization(users[0].0);
    let requests = users.chunks_exact(BATCH).map(|batch| {
        let ids: Vec<String> = batch.iter().map(|(user, _)| user.to_string()).collect();
        let body = json!({ "user_ids": ids }).to_string().into();
        Prepared { method: Method::POST, path: "/presence/bulk".to_owned(), authorization: token.clone(), body }
    });
    let requests: Arc<[Prepared]> = requests.collect();
    let asked = requests.len() * BATCH;
    let mut raw = Contestant::of("limit: a bare handler that does HGETALL × 1000", &[bare.id()]);
    let mut ours = Contestant::of("ours", &[service.id()]);
    let bar = progress("bulk reads over HTTP", stage.rounds);
    for _ in 0..stage.rounds {
        ours.round(&redis, asked, as_fast_as_answered(ours_at, CONNECTIONS, &requests)).await;
        raw.round(&redis, asked, as_fast_as_answered(bare_at, CONNECTIONS, &requests)).await;
        bar.inc(1);
    }
    section.find_rate("bulk-http", &ours, Some(&raw), None);
    section.tables.push(contest::table("over HTTP, users", &[&raw, &ours]));
}
