//! `GET /presence/typing/{channel_id}` as a function.

use std::process::ExitCode;

use presence_functions::{entry, http::get_typing};

fn main() -> ExitCode {
    entry::http_reads(get_typing::routes)
}
