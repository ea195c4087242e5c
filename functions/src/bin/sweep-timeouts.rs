//! The sweep as a function of a schedule.

use std::process::ExitCode;

use presence_functions::entry;

fn main() -> ExitCode {
    entry::sweep()
}
