//! The whole service from outside: HTTP, NATS and Redis, as its users see it. What it must do is what the
//! documentation says; no type of ours is named here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests, and their helpers fail as tests do"
)]

mod arrivals;
mod bridge_crashes;
mod bridge_process;
mod clocks;
mod devices;
mod documented_keys;
mod events;
mod explain;
mod failover;
mod fn_invoke;
mod foreign_client;
mod gateway_client;
mod golden;
mod harness;
mod inputs_crashes;
mod inputs_load;
mod invisible;
mod limits;
mod order;
mod outages;
mod overload;
mod processes;
mod replicas;
mod silence;
mod traces;
mod trials;
mod two_worlds;
mod walk;
mod world;
