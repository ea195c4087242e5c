//! Both stores keep the same promises: one suite over each, and random histories that are lived through on both.
//! Redis here is the store of the run, which `scripts/test` makes Redis and Valkey in turn.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests, and their helpers fail as tests do")]

mod clock;
mod cluster;
mod conformance;
mod crashes;
mod histories;
mod holding;
mod mortal;
mod renewing;
mod replicas;
mod returning;
mod sweeping;
mod world;
