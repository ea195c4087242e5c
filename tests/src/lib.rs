//! The harness: real servers and real processes, each on its own port with its own data, that a test can break, and
//! what a test needs to talk to them from outside. A test that uses it names no type of ours: it speaks HTTP, NATS and
//! Redis as everyone else does.
//!
//! Nothing here sleeps to let something happen; [`eventually()`] asks until it has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong here is a failed test, and must say where"
)]

mod access;
mod api;
mod binaries;
mod browser;
mod clock;
mod cluster;
mod collector;
mod connection;
mod emulator;
mod eventually;
pub mod history;
mod nats;
mod port;
mod process;
mod proxy;
mod service;
mod store;
pub mod trial;
mod user;

pub use access::{Access, PASSWORD, documented_acl, documented_nats};
pub use api::{Answer, Api};
pub use binaries::{setting, tool, workspace};
pub use browser::{Browser, Look, Window};
pub use clock::clock_off_by;
pub use cluster::{Cluster, Moving};
pub use collector::{Collector, Span};
pub use connection::Connection;
pub use emulator::Emulator;
pub use eventually::{eventually, seen};
pub use nats::{Event, Events, JetStream, Nats};
pub use port::free_port;
pub use process::Process;
pub use proxy::{Direction, Fault, Proxy};
pub use service::{Service, ServiceBuilder};
pub use store::{Store, StoreKind};
pub use user::{DEVELOPMENT_SECRET, User};

/// The wall clock in milliseconds since the epoch; all processes of a test share it.
#[expect(clippy::disallowed_methods, reason = "a test looks at the clock from outside")]
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}
