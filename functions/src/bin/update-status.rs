//! `POST /presence/status` as a function.

use std::process::ExitCode;

use presence_functions::{entry, http::update_status};

fn main() -> ExitCode {
    entry::http(update_status::routes)
}
