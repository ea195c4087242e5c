//! `GET /presence/{user_id}` as a function. It also answers every path that no function has.

use std::process::ExitCode;

use presence_functions::{entry, http::get_presence};

fn main() -> ExitCode {
    entry::http_reads(get_presence::routes)
}
