//! The service itself: the binary, as it is deployed.

use std::ops::Deref;
use std::process::{Command, ExitStatus};

use bytes::Bytes;
use http::{Request, StatusCode};
use tempfile::TempDir;

use crate::binaries::ours;
use crate::clock::clock_off_by;
use crate::port::free_port;
use crate::process::Process;
use crate::{Api, Nats, Store};

/// A running `presence-service`. It is an [`Api`].
pub struct Service {
    api: Api,
    port: u16,
    process: Process,
    binary: &'static str,
    variables: Vec<(String, String)>,
    dir: TempDir,
}

/// What a service is started with.
#[derive(Debug)]
pub struct ServiceBuilder {
    binary: &'static str,
    variables: Vec<(String, String)>,
}

impl Service {
    /// A service with the embedded store and bus, until the builder is told of others.
    pub fn builder() -> ServiceBuilder {
        ServiceBuilder { binary: "presence-service", variables: Vec::new() }
    }

    /// A gateway by itself, which is started and ended as a service is.
    pub fn gateway_alone() -> ServiceBuilder {
        ServiceBuilder { binary: "presence-gateway", variables: Vec::new() }
    }

    /// The bridge to the functions behind a Lambda, which is started and ended as a service is; its only routes are the
    /// probes.
    pub fn bridge_to(lambda: &Api) -> ServiceBuilder {
        ServiceBuilder { binary: "presence-bridge", variables: Vec::new() }
            .env("AWS_ENDPOINT_URL_LAMBDA", lambda.url())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// The service against a store and a NATS, with the times of the documentation.
    pub async fn start(store: &Store, nats: &Nats) -> Self {
        Self::builder().store(store).nats(nats).start().await
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The process, to be broken.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it as a crash does, and starts it again on its port.
    pub async fn crash_and_restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.binary, self.port, &self.variables, &self.dir);
        self.up("/ready").await;
    }

    /// Ends it as a crash does, and starts it again on its port with these variables besides, as long as it lives. Does
    /// not wait until it is ready.
    pub fn restart_with(&mut self, variables: &[(&str, &str)]) {
        self.process.kill();
        let more = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let variables: Vec<_> = self.variables.iter().cloned().chain(more).collect();
        self.process = spawn(self.binary, self.port, &variables, &self.dir);
    }

    /// Waits until it is ready, after something was broken.
    pub async fn until_ready(&mut self) {
        self.up("/ready").await;
    }

    /// Asks it to end, as a deployment does.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate().await
    }

    async fn up(&mut self, path: &str) {
        let probe = || Request::get(path).body(Bytes::new()).unwrap();
        let api = self.api;
        let is_up = async || api.exchange(probe()).await.is_ok_and(|response| response.status() == StatusCode::OK);
        self.process.wait_until_up(self.port, is_up).await;
    }
}

impl ServiceBuilder {
    /// With a variable of the configuration.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// With several of them.
    pub fn envs(self, variables: &[(&str, &str)]) -> Self {
        variables.iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// On a host whose wall clock is off by so many seconds.
    pub fn clock_off_by(self, seconds: i64) -> Self {
        clock_off_by(seconds).into_iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// On that store.
    pub fn store(self, store: &Store) -> Self {
        let builder = self.env("REDIS_URL", store.url());
        if store.is_cluster() { builder.env("REDIS_CLUSTER", "on") } else { builder }
    }

    /// On that NATS.
    pub fn nats(self, nats: &Nats) -> Self {
        // A service has a gateway inside, and may do what both may.
        let user = if self.binary == "presence-service" { "presence" } else { self.binary };
        self.env("NATS_URL", nats.url_of(user))
    }

    /// With short times, in seconds: `HEARTBEAT_TIMEOUT`, and everything else that waits for it as short as it may be.
    pub fn heartbeat_timeout(self, seconds: u32) -> Self {
        assert!(seconds >= 2, "the interval must be shorter, and is a second at least");
        self.env("HEARTBEAT_INTERVAL", 1).env("HEARTBEAT_TIMEOUT", seconds)
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Service {
        let mut service = self.spawn();
        service.up("/ready").await;
        service
    }

    /// Starts it and waits until it is alive, where it can't become ready yet.
    pub async fn start_unready(self) -> Service {
        let mut service = self.spawn();
        service.up("/health").await;
        service
    }

    /// Starts it where it must refuse to start: how it ended, and everything it said.
    pub async fn fail(self) -> (ExitStatus, String) {
        let mut service = self.spawn();
        let status = service.process.ended().await;
        (status, service.log())
    }

    fn spawn(self) -> Service {
        let dir = tempfile::Builder::new().prefix("service.").tempdir().unwrap();
        let port = free_port();
        let process = spawn(self.binary, port, &self.variables, &dir);
        Service { api: Api::at(port), port, process, binary: self.binary, variables: self.variables, dir }
    }
}

impl Deref for Service {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

fn spawn(binary: &'static str, port: u16, variables: &[(String, String)], dir: &TempDir) -> Process {
    let mut command = Command::new(ours(binary));
    command.env_clear().env("PORT", port.to_string()).env("RUST_LOG", "info").env("RUST_BACKTRACE", "1");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Process::start(binary, &mut command, dir.path())
}
