//! The scripts: one operation a file, each with a head that tells its keys, arguments and answer.

use redis::{Cmd, Script, cmd};

/// The script of a commit.
pub(super) const COMMIT: &str = include_str!("scripts/commit.lua");

/// Loaded into a server when it does not know them, also after it has forgotten them.
pub(super) struct Scripts {
    pub(super) commit: Script,
    pub(super) confirm: Script,
    pub(super) touch: Script,
    pub(super) reindex: Script,
    pub(super) dismiss: Script,
    pub(super) release: Script,
    pub(super) start_typing: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            commit: Script::new(COMMIT),
            confirm: Script::new(include_str!("scripts/confirm.lua")),
            touch: Script::new(include_str!("scripts/touch.lua")),
            reindex: Script::new(include_str!("scripts/reindex.lua")),
            dismiss: Script::new(include_str!("scripts/dismiss.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
            start_typing: Script::new(include_str!("scripts/start_typing.lua")),
        }
    }
}

/// The beginning of a call of a script; its arguments are to follow.
pub(super) fn call(script: &Script, keys: &[String]) -> Cmd {
    let mut command = cmd("EVALSHA");
    command.arg(script.get_hash()).arg(keys.len()).arg(keys);
    command
}
