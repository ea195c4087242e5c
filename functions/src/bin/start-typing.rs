//! `POST /presence/typing` as a function.

use std::process::ExitCode;

use presence_functions::{entry, http::start_typing};

fn main() -> ExitCode {
    entry::http(start_typing::routes)
}
