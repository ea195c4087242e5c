//! The rules of presence, by the domain's public API alone: no store, no clock, no network.
//!
//! Random tests widen with `PROPTEST_CASES`; `PRESENCE_EXHAUSTIVE=1` makes the test of orders go through every history
//! of its alphabet, which takes a release build and patience.
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
