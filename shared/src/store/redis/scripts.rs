//! The scripts: one operation a file, each with a head that tells its keys, arguments and answer.

use redis::{Cmd, Pipeline, RedisResult};

use super::node::Node;

/// One script. It is called by its digest, and loaded into a server that does not know it, also after that has
/// forgotten it.
pub(super) struct Script {
    text: &'static str,
    digest: String,
    at_once: usize,
}

/// All of them.
pub(super) struct Scripts {
    pub(super) commit: Script,
    pub(super) finish: Script,
    pub(super) touch: Script,
    pub(super) release: Script,
    pub(super) start_typing: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            commit: Script::new(include_str!("scripts/commit.lua")).for_users(32),
            finish: Script::new(include_str!("scripts/finish.lua")).for_users(32),
            touch: Script::new(include_str!("scripts/touch.lua")).for_users(128),
            release: Script::new(include_str!("scripts/release.lua")),
            start_typing: Script::new(include_str!("scripts/start_typing.lua")),
        }
    }
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, digest: redis::Script::new(text).get_hash().to_owned(), at_once: 1 }
    }

    /// The same for so many users in one call. It should take Redis less than half a millisecond, in which nobody else is
    /// served; more would save nothing that can be measured.
    fn for_users(self, at_once: usize) -> Self {
        Self { at_once, ..self }
    }

    /// How many users one call may be for, on a server that has all of them.
    pub(super) fn at_once(&self) -> usize {
        self.at_once
    }

    /// The beginning of a call; so many arguments are to follow.
    pub(super) fn call(&self, keys: &[String], arguments: usize) -> Cmd {
        begin("EVALSHA", &self.digest, keys, arguments)
    }

    /// The same for a server that need not know the script.
    pub(super) fn call_whole(&self, keys: &[String], arguments: usize) -> Cmd {
        begin("EVAL", self.text, keys, arguments)
    }

    /// Makes the script known to a server.
    pub(super) async fn load(&self, node: &Node) -> RedisResult<()> {
        let mut load = Pipeline::new();
        load.cmd("SCRIPT").arg("LOAD").arg(self.text);
        node.send(&load).await?.into_iter().try_for_each(|answer| answer.extract_error().map(drop))
    }
}

/// A call with room for what is to follow: one that had to grow again and again would be copied each time.
fn begin(name: &str, script: &str, keys: &[String], arguments: usize) -> Cmd {
    const ARGUMENT: usize = 24;
    let bytes = name.len() + script.len() + keys.iter().map(String::len).sum::<usize>() + ARGUMENT * (arguments + 1);
    let mut command = Cmd::with_capacity(3 + keys.len() + arguments, bytes);
    command.arg(name).arg(script).arg(keys.len()).arg(keys);
    command
}
