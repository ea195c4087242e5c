//! The rules of presence, by the domain's public API alone: no store, no clock, no network.
//!
//! Random tests widen with `PROPTEST_CASES`, those of orders with `PRESENCE_STRIDE`: 1 goes through every history of
//! their alphabet, which takes a release build and hours.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod bounds;
mod events;
mod history;
mod inputs;
mod invisible;
mod looks;
mod order;
mod random_order;
mod seen;
mod time;
mod user;
