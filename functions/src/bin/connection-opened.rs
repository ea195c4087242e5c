//! `gateway.connection.opened` as a function.

use std::process::ExitCode;

use presence_functions::{entry, event::connection_opened};

fn main() -> ExitCode {
    entry::batch(connection_opened::SUBSCRIPTION)
}
