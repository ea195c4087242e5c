//! `gateway.connection.closed` as a function.

use std::process::ExitCode;

use presence_functions::{entry, event::connection_closed};

fn main() -> ExitCode {
    entry::batch(connection_closed::SUBSCRIPTION)
}
