//! `gateway.heartbeat.received` as a function.

use std::process::ExitCode;

use presence_functions::{entry, event::heartbeat_received};

fn main() -> ExitCode {
    entry::batch(heartbeat_received::SUBSCRIPTION)
}
