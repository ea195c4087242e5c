//! `voice.session.ended` as a function.

use std::process::ExitCode;

use presence_functions::{entry, event::voice_session_ended};

fn main() -> ExitCode {
    entry::batch(voice_session_ended::SUBSCRIPTION)
}
