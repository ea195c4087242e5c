//! Heartbeats of known sessions. The limit is what a heartbeat has to do, as plain commands without a decision.

use crate::contest::{self, Contestant};
use crate::crowd::{Crowd, Member, beats};
use crate::peers;
use crate::report::{Plot, PlotKind, Section, Series};
use crate::stage::{Kept, Stage, progress};

/// Heartbeats in a round, whatever the number of users: a part of them, by turns one and another.
const A_ROUND: usize = 100_000;

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("heartbeats", "Heartbeats in the store");
    let mut curves: Vec<Series> = Vec::new();
    for &users in stage.sizes() {
        let contest = hold(stage, users, Kept::InMemory, &mut section).await;
        for (place, one) in contest.iter().enumerate() {
            if curves.len() == place {
                curves.push(Series::new(NAMES[place], Vec::new()));
            }
            curves[place].points.push((users as f64, one.redis_micros()));
        }
        let all: Vec<&Contestant> = contest.iter().collect();
        section.tables.push(contest::table(format!("{users} users online"), &all));
        if users == stage.sizes()[1] {
            let [raw, ours, set, _, centrifugo] = &contest;
            section.find("heartbeat-cpu", ours.redis_micros(), Some(raw.redis_micros()), Some(set.redis_micros()));
            section.find("heartbeat-rate", ours.ratio_to(raw), None, Some(centrifugo.ratio_to(raw)));
        }
    }
    let users = stage.sizes()[1];
    let contest = hold(stage, users, Kept::OnDisk, &mut section).await;
    let all: Vec<&Contestant> = contest.iter().collect();
    section.tables.push(contest::table(format!("{users} users online, `appendonly yes`"), &all));
    section.plots.push(Plot {
        file: "heartbeats-by-users".to_owned(),
        title: "What a heartbeat costs Redis".to_owned(),
        x: "users online".to_owned(),
        y: "Redis CPU, µs".to_owned(),
        kind: PlotKind::LogX,
        series: curves,
    });
    section
}

/// In the order of the contest.
const NAMES: [&str; 5] = [
    "limit: HGET, HSET, EXPIRE, ZADD of a batch",
    "ours",
    "peer: SET EX, nothing else",
    "peer: HSET and EXPIRE, no deadlines, no sessions",
    "peer: Centrifugo's script",
];

async fn hold(stage: &Stage, users: usize, kept: Kept, section: &mut Section) -> [Contestant; 5] {
    let crowd = Crowd::gather(stage, users, kept).await;
    let script = peers::load_centrifugo(&crowd.redis).await;
    let bar = progress(&format!("heartbeats of {users}"), stage.rounds + 1);
    crowd.bring_online().await;
    bar.inc(1);
    let mut contest = NAMES.map(Contestant::new);
    let [raw, ours, set, hash, centrifugo] = &mut contest;
    let a_round = A_ROUND.min(users);
    let parts: Vec<_> = crowd.users.chunks_exact(a_round).take(2).collect();
    for round in 0..stage.rounds {
        crowd.clock.turn_ms(1000);
        let (part, redis) = (parts[round % parts.len()], &crowd.redis);
        let at_ms = 1_700_000_000_000 + 1000 * round as i64;
        // Keys of a first round are new for all but ours, so the round before the first is not counted.
        if round < parts.len() {
            warm_up(&crowd, part, &script, at_ms - 1000).await;
        }
        ours.round(redis, a_round, crowd.apply(part, beats)).await;
        raw.round(redis, a_round, peers::raw_heartbeats(redis, part, at_ms)).await;
        set.round(redis, a_round, peers::pipelined(redis, part, peers::tutorial_heartbeat)).await;
        hash.round(redis, a_round, peers::pipelined(redis, part, peers::hash_heartbeat)).await;
        centrifugo.round(redis, a_round, peers::centrifugo_heartbeats(redis, part, &script, at_ms)).await;
        bar.inc(1);
    }
    section.notes.extend(crowd.remark());
    contest
}

async fn warm_up(crowd: &Crowd, part: &[Member], script: &str, at_ms: i64) {
    peers::raw_heartbeats(&crowd.redis, part, at_ms).await;
    peers::pipelined(&crowd.redis, part, peers::tutorial_heartbeat).await;
    peers::pipelined(&crowd.redis, part, peers::hash_heartbeat).await;
    peers::centrifugo_heartbeats(&crowd.redis, part, script, at_ms).await;
}
