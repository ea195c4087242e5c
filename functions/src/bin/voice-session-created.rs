//! `voice.session.created` as a function.

use std::process::ExitCode;

use presence_functions::{entry, event::voice_session_created};

fn main() -> ExitCode {
    entry::batch(voice_session_created::SUBSCRIPTION)
}
