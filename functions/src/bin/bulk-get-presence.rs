//! `POST /presence/bulk` as a function.

use std::process::ExitCode;

use presence_functions::{entry, http::bulk_get_presence};

fn main() -> ExitCode {
    entry::http_reads(bulk_get_presence::routes)
}
