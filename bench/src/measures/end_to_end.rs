//! Heartbeats from NATS JetStream by way of the service, as a process, to Redis; publisher, NATS, service and Redis share
//! the machine. The limit is a bare consumer that does the same commands without a decision.

use std::time::Duration;

use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use presence::domain::Rules;
use presence::events::nats::INPUT_STREAM;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use super::reads::{TIMEOUT, VARIABLES};
use crate::bare::{self, heartbeat_subject};
use crate::contest::{self, Contestant};
use crate::crowd::{Member, open_online, strangers};
use crate::process::{Process, cpu_seconds, resident};
use crate::report::{Plot, PlotKind, Section, Series, Table, median};
use crate::stage::{Kept, Stage, progress};

/// Messages whose acknowledgement is waited for at once.
const WINDOW: usize = 1000;
/// The durable consumer of the service: named after the function.
const CONSUMER: &str = "heartbeat-received";
/// Longer than a round may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(stage: &Stage) -> Section {
    let mut section = Section::new("end-to-end", "Heartbeats end to end: NATS JetStream → service → Redis");
    let mut curves = [(100, "ours, 100 a message"), (1, "ours, one a message")]
        .map(|(size, name)| (size, Series::new(name, Vec::new())));
    let mut sizes = Table::new("the service", &["memory, MB", "memory after all rounds, MB", "CPU of it, µs each"]);
    let mut rates = Vec::new();
    for &users in stage.sizes() {
        let world = World::start(stage, users).await;
        let before = resident(world.service.id()) / 1e6;
        let mut cpu = Vec::new();
        for (size, curve) in &mut curves {
            let [raw, ours] = world.contest(stage, *size, &mut cpu).await;
            curve.points.push((users as f64, ours.rate()));
            section.tables.push(contest::table(format!("{users} users online, {size} a message"), &[&raw, &ours]));
            if users == *stage.sizes().last().unwrap() {
                section.find_rate(&format!("end-to-end-{size}"), &ours, Some(&raw), None);
            }
            if *size == 100 {
                rates.push(ours.rate());
            }
        }
        let after = resident(world.service.id()) / 1e6;
        section.notes.extend(world.service.remark());
        sizes.row(format!("{users} users online"), &[before, after, median(cpu.into_iter())]);
        if users == *stage.sizes().last().unwrap() {
            section.find("service-memory", after, None, None);
        }
    }
    section.tables.push(sizes);
    let (least, most) =
        (rates.iter().copied().fold(f64::INFINITY, f64::min), rates.iter().copied().fold(0.0, f64::max));
    section.find("end-to-end-flat", (most - least) / most * 100.0, None, None);
    section.plots.push(Plot {
        file: "end-to-end-by-users".to_owned(),
        title: "Heartbeats end to end against users online".to_owned(),
        x: "users online".to_owned(),
        y: "heartbeats a second".to_owned(),
        kind: PlotKind::LogX,
        series: curves.into_iter().map(|(_, series)| series).collect(),
    });
    section.note("The publisher waits for JetStream's acknowledgements, and shares the two cores with all the others.");
    section
}

/// Users online, and both consumers in place.
struct World {
    service: Process,
    bare: Process,
    redis: MultiplexedConnection,
    jetstream: Context,
    users: Vec<Member>,
}

impl World {
    async fn start(stage: &Stage, count: usize) -> Self {
        let redis = stage.empty(Kept::OnDisk).await;
        let users = strangers(count);
        let bar = progress(&format!("{count} come online"), 1);
        open_online(stage, &users, Rules { heartbeat_timeout: TIMEOUT, ..Rules::default() }).await;
        bar.inc(1);
        let (service, _) = Process::service(&stage.servers, &VARIABLES).await;
        let (bare, _) = Process::bare(&stage.servers, "consumer").await;
        let jetstream = jetstream::new(stage.nats().await);
        Self { service, bare, redis, jetstream, users }
    }

    async fn contest(&self, stage: &Stage, size: usize, cpu: &mut Vec<f64>) -> [Contestant; 2] {
        let mut raw = Contestant::of("limit: a bare consumer, the same commands", &stage.with_nats(&[self.bare.id()]));
        let mut ours = Contestant::of("ours", &stage.with_nats(&[self.service.id()]));
        let a_round = stage.pick(if size == 1 { 40_000 } else { 100_000 }, 20_000).min(self.users.len());
        let bar = progress(&format!("{} online, {size} a message", self.users.len()), stage.rounds);
        let parts: Vec<&[Member]> = self.users.chunks_exact(a_round).collect();
        for round in 0..stage.rounds {
            let part = parts[round % parts.len()];
            let now = self.now_ms().await;
            let messages = messages(part, size, now);
            let before = cpu_seconds(self.service.id());
            ours.round(&self.redis, a_round, self.flow(&messages, false)).await;
            cpu.push((cpu_seconds(self.service.id()) - before) * 1e6 / a_round as f64);
            self.assert_renewed(part, now).await;
            raw.round(&self.redis, a_round, self.flow(&messages, true)).await;
            bar.inc(1);
        }
        [raw, ours]
    }

    /// Publishes all of them and waits until the consumer has acknowledged the last.
    async fn flow(&self, messages: &[Bytes], bare: bool) {
        let subject = heartbeat_subject(bare);
        let publish = |message: &Bytes| {
            let (jetstream, message) = (&self.jetstream, message.clone());
            async move { jetstream.publish(subject, message).await.unwrap().await.expect("JetStream has the message") }
        };
        stream::iter(messages.iter().map(publish)).buffer_unordered(WINDOW).for_each(async |_| {}).await;
        let stream = self.jetstream.get_stream(INPUT_STREAM).await.unwrap();
        let name = if bare { bare::CONSUMER } else { CONSUMER };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = stream.consumer_info(name).await.unwrap();
            if info.num_pending == 0 && info.num_ack_pending == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{} messages are never taken", info.num_pending);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// A measurement of heartbeats that were dropped would be a fast one.
    async fn assert_renewed(&self, users: &[Member], at_ms: i64) {
        for (user, _) in users.iter().step_by(users.len() / 100) {
            let key = format!("presence:user:{user}");
            let mut last_seen = redis::cmd("HGET");
            let last_seen: i64 =
                last_seen.arg(key).arg("last_seen").query_async(&mut self.redis.clone()).await.unwrap();
            assert!(last_seen >= at_ms / 1000, "a heartbeat was not heard");
        }
    }

    async fn now_ms(&self) -> i64 {
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut self.redis.clone()).await.unwrap();
        seconds * 1000 + micros / 1000
    }
}

/// Heartbeats as a gateway tells of them: arrays of so many, or each by itself.
fn messages(users: &[Member], size: usize, at_ms: i64) -> Vec<Bytes> {
    let element = |(user, session): &Member| {
        format!(r#"{{"user_id":"{user}","session_id":"{session}","platform":"web","timestamp":{at_ms}}}"#)
    };
    let message = |part: &[Member]| match part {
        [one] => element(one),
        many => format!("[{}]", many.iter().map(element).collect::<Vec<String>>().join(",")),
    };
    users.chunks(size).map(|part| message(part).into()).collect()
}
