//! The bridge: the binary, as it is deployed, with the local Lambda emulator for its Lambda.

use std::process::Command;

use bytes::Bytes;
use http::{Request, StatusCode};
use tempfile::TempDir;

use crate::binaries::ours;
use crate::port::free_port;
use crate::process::Process;
use crate::{Api, Emulator, Nats, Store};

/// A running `presence-bridge`, between a NATS and the functions of an emulator.
pub struct Bridge {
    process: Process,
    // Dropped after the process that writes to it.
    _dir: TempDir,
}

impl Bridge {
    /// Starts it with variables of the configuration, and waits until it is ready.
    pub async fn start(store: &Store, nats: &Nats, emulator: &Emulator, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("bridge.").tempdir().unwrap();
        let probes = free_port();
        let mut command = Command::new(ours("presence-bridge"));
        command
            .env_clear()
            .env("REDIS_URL", store.url())
            .env("NATS_URL", nats.url())
            .env("ADMIN_ADDR", format!("127.0.0.1:{probes}"))
            .env("AWS_ENDPOINT_URL_LAMBDA", emulator.url())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("RUST_LOG", "info")
            .envs(variables.iter().copied());
        let mut process = Process::start("presence-bridge", &mut command, dir.path());
        let api = Api::at(probes);
        let probe = || Request::get("/ready").body(Bytes::new()).unwrap();
        let is_up = async || api.exchange(probe()).await.is_ok_and(|response| response.status() == StatusCode::OK);
        process.wait_until_up(probes, is_up).await;
        Self { process, _dir: dir }
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The process, to be broken.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
