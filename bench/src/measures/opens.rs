//! Connections opened and closed, each stored and told over JetStream.

use std::sync::Arc;

use presence::events::nats::{NatsLink, NatsOptions, NatsPublisher, Streams};

use crate::contest::{self, Contestant};
use crate::crowd::{Crowd, closes, opens};
use crate::peers;
use crate::report::Section;
use crate::stage::{Kept, Stage, progress};

/// What Stoat's presence crate reached on such a machine, joining and leaving: not replayed here.
const STOAT: f64 = 8_000.0;

pub(crate) async fn measure(stage: &Stage) -> Section {
    let users = stage.users;
    let mut section = Section::new("opens", format!("Connections of {users} users, opened and closed"));
    let link = link(stage).await;
    let mut raw = Contestant::new("limit: HGETALL, HSET, EXPIRE, ZADD; nobody is told");
    let mut opened = Contestant::of("ours: opened, told to NATS", &stage.with_nats(&[]));
    let mut closed = Contestant::of("ours: closed, told to NATS", &stage.with_nats(&[]));
    let publisher = Arc::new(NatsPublisher::new(link));
    let crowd = Crowd::with_publisher(stage, users, Kept::OnDisk, publisher).await;
    let bar = progress("opens", stage.rounds);
    for _ in 0..stage.rounds {
        crowd.clock.turn_ms(1000);
        opened.round(&crowd.redis, users, crowd.apply(&crowd.users, opens)).await;
        crowd.clock.turn_ms(1000);
        closed.round(&crowd.redis, users, crowd.apply(&crowd.users, closes)).await;
        raw.round(&crowd.redis, users, peers::pipelined(&crowd.redis, &crowd.users, peers::raw_open)).await;
        bar.inc(1);
    }
    section.find_rate("opens", &opened, Some(&raw), Some(STOAT));
    section.tables.push(contest::table("", &[&raw, &opened, &closed]));
    section.notes.extend(crowd.remark());
    section
}

/// A connection to NATS as the service has it, once it knows the streams.
pub(crate) async fn link(stage: &Stage) -> NatsLink {
    let options = NatsOptions::new(stage.servers.nats_url.parse().unwrap(), "presence-bench", Streams::Ensure);
    let link = NatsLink::connect(options).await.unwrap();
    assert!(link.has_jetstream().await, "NATS has no JetStream");
    link
}
