//! The rules of presence, by the domain's public API alone: no store, no clock, no network.
//!
//! Random tests widen with `PROPTEST_CASES`, those of every order with `PRESENCE_INPUTS`.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod bounds;
mod events;
mod every_order;
mod exchange;
mod history;
mod inputs;
mod invisible;
mod looks;
mod order;
mod random_order;
mod renewing;
mod seen;
mod time;
mod user;
