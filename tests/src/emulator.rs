//! The local Lambda emulator (`cargo lambda watch`), with the functions as they were built before.

use std::ops::Deref;
use std::process::Command;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binaries::{ours, profile_dir, tool, variable, workspace};
use crate::port::free_port;
use crate::process::Process;
use crate::{Api, Nats, Store, User};

/// What the emulator's cargo must have as the cargo that ran this test had it, to find everything built. What cargo told
/// this test about itself must not reach it: build scripts look at that, and would run again.
const BUILD_VARIABLES: [&str; 7] =
    ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_INCREMENTAL", "RUSTFLAGS"];

/// The functions that take messages of NATS.
const MESSAGE_FUNCTIONS: [&str; 5] =
    ["connection-opened", "connection-closed", "heartbeat-received", "voice-session-created", "voice-session-ended"];

/// A running emulator: every function of the workspace behind the router of the root manifest. It is an [`Api`].
pub struct Emulator {
    api: Api,
    port: u16,
    variables: Vec<(String, String)>,
    process: Process,
    // Dropped after the process that writes to it.
    dir: TempDir,
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
        let (url, nats) = (store.url(), nats.url_of("presence-functions"));
        let always = [
            ("REDIS_URL", url.as_str()),
            ("REDIS_CLUSTER", if store.is_cluster() { "on" } else { "off" }),
            ("NATS_URL", nats.as_str()),
            ("JWT_DEVELOPMENT_TOKENS", "on"),
        ];
        let variables = always.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let variables: Vec<(String, String)> = variables.collect();
        let process = spawn(port, &variables, &dir).await;
        Self { api: Api::at(port), port, variables, process, dir }
    }

    /// Ends it and its functions as the crash of a machine does, whatever they are at, and starts it again on its port.
    pub async fn crash_and_restart(&mut self) {
        self.process.kill_with_descendants();
        self.process = spawn(self.port, &self.variables, &self.dir).await;
    }

    /// Invokes a function as Lambda's API does: the status, which is 500 for a function error, and what the function says.
    pub async fn invoke(&self, function: &str, event: &Value) -> (u16, Value) {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let request = Request::post(path).body(Bytes::from(event.to_string())).unwrap();
        let answer = self.send(request).await;
        (answer.status, answer.json())
    }

    /// Starts the functions that take messages and those that set and read a status, which takes seconds where much else
    /// runs: before anything depends on time.
    pub async fn warm_up(&self) {
        for function in MESSAGE_FUNCTIONS {
            let answer = self.invoke(function, &json!({ "Records": [] })).await;
            assert_eq!(answer, (200, json!({ "batchItemFailures": [] })), "{function}");
        }
        let user = User::new();
        assert_eq!(self.get_openly(&format!("/presence/{}", user.id())).await.status, 401);
        let update = Request::post("/presence/status").body(Bytes::new()).unwrap();
        assert_eq!(self.send(update).await.status, 401);
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

async fn spawn(port: u16, variables: &[(String, String)], dir: &TempDir) -> Process {
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
        .envs(variables.iter().map(|(name, value)| (name, value)));
    let mut process = Process::start("cargo lambda watch", &mut command, dir.path());
    process.wait_until_up(port, async || true).await;
    process
}

impl Deref for Emulator {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}
