//! A real NATS server for one test, on a free port of its own.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub(crate) mod proxy;

use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// How long a test waits for a condition that is bound to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server that ends with the test.
pub(crate) struct Server {
    directory: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// Without JetStream.
    pub(crate) fn core() -> Self {
        Self::start(&[])
    }

    /// With JetStream, in a directory of its own.
    pub(crate) fn jetstream() -> Self {
        Self::start(&["-js"])
    }

    /// With these flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("presence-nats-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).unwrap();
        let mut server = Self { child: spawn(&directory, "-1", flags), port: 0, directory };
        server.port = server.await_port();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server, as a crash does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
        // Its pid, in the name of the file, may come back.
        for file in self.ports_files() {
            std::fs::remove_file(file).unwrap();
        }
    }

    /// Starts it again on the same port and directory.
    pub(crate) fn restart(&mut self, flags: &[&str]) {
        self.kill();
        self.child = spawn(&self.directory, &self.port.to_string(), flags);
        assert_eq!(self.await_port(), self.port);
    }

    /// The server itself says where it listens: nobody else's port can be meant.
    fn await_port(&mut self) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("nats-server ended: {status}");
            }
            let port = self.ports_files().first().and_then(|file| {
                let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
                ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
            });
            if let Some(port) = port {
                return port;
            }
            assert!(Instant::now() < deadline, "nats-server does not tell its port");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ports_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "ports")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(directory: &PathBuf, port: &str, flags: &[&str]) -> Child {
    let binary = std::env::var("NATS_SERVER_BIN").expect("NATS_SERVER_BIN names the nats-server binary that tests run");
    Command::new(&binary)
        .args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir"])
        .arg(directory)
        .arg("-sd")
        .arg(directory)
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{binary}: {error}"))
}

/// Waits until the condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
