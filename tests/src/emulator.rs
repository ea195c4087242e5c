//! The local Lambda emulator (`cargo lambda watch`), with the functions as they were built before.

use std::ops::Deref;
use std::process::Command;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::{ours, profile_dir, tool, variable, workspace};
use crate::port::free_port;
use crate::process::Process;
use crate::{Api, Nats, Store};

/// What the emulator's cargo must have as the cargo that ran this test had it, to find everything built. What cargo told
/// this test about itself must not reach it: build scripts look at that, and would run again.
const BUILD_VARIABLES: [&str; 7] =
    ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_INCREMENTAL", "RUSTFLAGS"];

/// A running emulator: every function of the workspace behind the router of the root manifest. It is an [`Api`].
pub struct Emulator {
    api: Api,
    port: u16,
    process: Process,
    // Dropped after the process that writes to it.
    _dir: TempDir,
}

impl Emulator {
    /// Starts it; its functions inherit where the store and NATS are. The functions themselves start at their first
    /// request.
    pub async fn start(store: &Store, nats: &Nats) -> Self {
        Self::start_with(store, nats, &[]).await
    }

    /// The same with variables of the configuration.
    pub async fn start_with(store: &Store, nats: &Nats, variables: &[(&str, &str)]) -> Self {
        // The emulator would build what is missing, for minutes, and nobody would know why it hangs.
        ours("get-presence");
        ours("sweep-timeouts");
        let dir = tempfile::Builder::new().prefix("emulator.").tempdir().unwrap();
        let port = free_port();
        let target = profile_dir();
        let mut command = Command::new(tool("CARGO_LAMBDA_BIN"));
        command
            .env_clear()
            .envs(BUILD_VARIABLES.iter().filter_map(|name| Some((name, variable(name)?))))
            .args(["lambda", "watch", "--ignore-changes", "--invoke-address", "127.0.0.1", "--invoke-port"])
            .arg(port.to_string())
            .current_dir(workspace())
            .env("CARGO_TARGET_DIR", target.parent().unwrap())
            .env("CARGO_NET_OFFLINE", "true")
            .env("REDIS_URL", store.url())
            .env("NATS_URL", nats.url_of("presence-functions"))
            .env("JWT_DEVELOPMENT_TOKENS", "on")
            .envs(variables.iter().copied());
        let mut process = Process::start("cargo lambda watch", &mut command, dir.path());
        process.wait_until_up(port, async || true).await;
        Self { api: Api::at(port), port, process, _dir: dir }
    }

    /// Invokes a function as Lambda's API does: the status, which is 500 for a function error, and what the function says.
    pub async fn invoke(&self, function: &str, event: &Value) -> (u16, Value) {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let request = Request::post(path).body(Bytes::from(event.to_string())).unwrap();
        let answer = self.send(request).await;
        (answer.status, answer.json())
    }

    /// Where it is, for clients of Lambda and of the API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Everything it and its functions logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as Ctrl-C does, so that it ends its functions.
    pub async fn stop(mut self) {
        self.process.terminate().await;
    }
}

impl Deref for Emulator {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}
