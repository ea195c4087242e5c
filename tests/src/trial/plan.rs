//! What breaks, when, and for how long.

use std::time::Duration;

use fastrand::Rng;

use crate::{Direction, Fault};

/// What can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A service is killed, and started again.
    KillService,
    /// A service stands still, and goes on.
    FreezeService,
    /// A service ends itself at a failpoint.
    Abort,
    /// Calls fail or take long at a failpoint.
    Failpoint,
    /// The store is killed, and started again with its data.
    KillStore,
    /// The store stands still, of a cluster one node.
    FreezeStore,
    /// The store forgets its scripts.
    FlushScripts,
    /// NATS is killed, and started again with its data.
    KillNats,
    /// NATS stands still.
    FreezeNats,
    /// One service's way to the store breaks.
    StoreLink,
    /// One service's way to NATS breaks.
    NatsLink,
}

/// Everything that can break on one server.
pub const ALL: &[Kind] = &[
    Kind::KillService,
    Kind::FreezeService,
    Kind::Abort,
    Kind::Failpoint,
    Kind::KillStore,
    Kind::FreezeStore,
    Kind::FlushScripts,
    Kind::KillNats,
    Kind::FreezeNats,
    Kind::StoreLink,
    Kind::NatsLink,
];

/// What can break on a cluster whose slots move. Its nodes name their own addresses, so that no proxy can stand on the way
/// to them; and whoever moves a slot does not outlive its nodes here.
pub const ON_A_CLUSTER: &[Kind] = &[
    Kind::KillService,
    Kind::FreezeService,
    Kind::Abort,
    Kind::Failpoint,
    Kind::FreezeStore,
    Kind::FlushScripts,
    Kind::KillNats,
    Kind::FreezeNats,
    Kind::NatsLink,
];

/// Where a service can be broken.
pub(super) const POINTS: [&str; 13] = [
    "load.after",
    "commit.before",
    "commit.reminded",
    "commit.after",
    "publish.before",
    "publish.after",
    "finish.before",
    "finish.confirmed",
    "finish.after",
    "touch.before",
    "touch.renewed",
    "touch.after",
    "due.after",
];

/// One thing that breaks.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What.
    pub kind: Kind,
    /// Of which service, if it is one of them.
    pub service: usize,
    /// For how long.
    pub length: Duration,
    /// What is wrong with a way.
    pub fault: Fault,
    /// What `FAILPOINTS` says.
    pub failpoints: String,
}

impl Kind {
    /// Whether some sweeper may think afterwards that the store was away.
    pub(super) fn keeps_from_the_store(self) -> bool {
        use Kind::{Abort, Failpoint, FreezeService, FreezeStore, KillService, KillStore, StoreLink};
        matches!(self, KillStore | FreezeStore | StoreLink | FreezeService | Failpoint | Abort | KillService)
    }
}

/// The next trouble, and how long after the end of the last one it comes.
pub(super) fn next(rng: &mut Rng, kinds: &[Kind], services: usize) -> (Duration, Trouble) {
    let kind = kinds[rng.usize(..kinds.len())];
    // Mostly short, sometimes long enough to be an outage.
    let length = if rng.u8(..4) == 0 { rng.u64(3000..5000) } else { rng.u64(100..1500) };
    let faults = [
        Fault::Reset,
        Fault::Cut,
        Fault::BlackHole,
        Fault::HalfOpen,
        Fault::Delay(Duration::from_millis(rng.u64(5..120))),
        Fault::Slow(rng.usize(2_000..200_000)),
        Fault::CutAfter(Direction::Request, rng.usize(..20_000)),
        Fault::CutAfter(Direction::Reply, rng.usize(..20_000)),
    ];
    let point = POINTS[rng.usize(..POINTS.len())];
    let failpoints = if kind == Kind::Abort {
        format!("{point}={}*off->return(abort)", rng.usize(..12))
    } else if rng.bool() {
        format!("{point}=20%return(error)")
    } else {
        format!("{point}=30%return(wait:{})", rng.u64(5..300))
    };
    let trouble = Trouble {
        kind,
        service: rng.usize(..services),
        length: Duration::from_millis(length),
        fault: faults[rng.usize(..faults.len())],
        failpoints,
    };
    (Duration::from_millis(rng.u64(300..2500)), trouble)
}
