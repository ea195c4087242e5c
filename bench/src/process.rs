//! A process of this workspace, built for release, that is measured from outside.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::stage::Servers;

/// How long a process may take until it listens.
const START: Duration = Duration::from_secs(20);

/// A running process. Dropping it ends it.
pub(crate) struct Process {
    child: Child,
    dir: TempDir,
}

impl Process {
    /// Starts a binary that lies beside this one, with nothing but these variables.
    pub(crate) fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let path = beside(name);
        let dir = tempfile::Builder::new().prefix("bench.").tempdir().unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(&path);
        command.args(arguments).env_clear().envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| unreachable!("{} does not start: {error}", path.display()));
        Self { child, dir }
    }

    /// The service on the servers of the run, once it is ready.
    pub(crate) async fn service(servers: &Servers, variables: &[(&str, &str)]) -> (Self, SocketAddr) {
        let ours = [
            ("PORT", "0"),
            ("LOG_FORMAT", "text"),
            ("RUST_LOG", "info"),
            ("REDIS_URL", &*servers.redis_url),
            ("NATS_URL", &*servers.nats_url),
        ];
        let variables: Vec<(&str, &str)> = ours.into_iter().chain(variables.iter().copied()).collect();
        let mut process = Self::start("presence-service", &[], &variables);
        let address = process.listens().await;
        let deadline = Instant::now() + START;
        while !crate::http_load::is_ok(address, "/ready").await {
            assert!(Instant::now() < deadline, "the service does not get ready: {}", process.last_words());
            sleep(Duration::from_millis(20)).await;
        }
        (process, address)
    }

    /// This program again, as a contestant of its own process.
    pub(crate) async fn bare(servers: &Servers, what: &str) -> (Self, SocketAddr) {
        let arguments = ["bare", what, "--redis-url", &*servers.redis_url, "--nats-url", &*servers.nats_url];
        let mut process = Self::start("presence-bench", &arguments, &[]);
        let address = process.listens().await;
        (process, address)
    }

    /// The address that it says it listens on.
    async fn listens(&mut self) -> SocketAddr {
        let deadline = Instant::now() + START;
        loop {
            let log = self.log();
            let port = log.lines().find_map(|line| line.split("listening on http://127.0.0.1:").nth(1));
            if let Some(Ok(port)) = port.map(|text| text.trim().parse()) {
                return SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "it does not come up: {}", self.last_words());
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A sentence for the report if the process warned of something.
    pub(crate) fn remark(&self) -> Option<String> {
        let log = self.log();
        // That there is no key of tokens is as it should be here.
        let is_news = |line: &&str| !line.contains("no key of tokens");
        let mut warnings =
            log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).filter(is_news);
        let first = warnings.next()?;
        let told = first.split_once(": ").map_or(first, |(_, told)| told);
        Some(format!("The process warned {} times; first of: {told}", 1 + warnings.count()))
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes all that it gets of a core, until it is dropped: what other tenants do to a process.
pub(crate) struct Neighbour(Child);

impl Neighbour {
    pub(crate) fn on(core: usize) -> Self {
        let child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        keep_on(child.id(), &[core]);
        Self(child)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A binary of the same build as this one.
pub(crate) fn beside(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name(name);
    let built = Path::exists(&path);
    assert!(built, "{name} is not built beside this program: cargo build --release --workspace --bin {name}");
    path
}

/// Resident memory of a process in bytes; not a number where the system does not tell.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0
}

/// Processor time that a process has used, in seconds; not a number where the system does not tell.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the process, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / TICKS_A_SECOND
}

/// The cores that this process may run on; none where the system does not tell.
pub(crate) fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
}

/// Keeps a process and what it starts later on these cores.
pub(crate) fn keep_on(pid: u32, cores: &[usize]) {
    let mut allowed = CpuSet::new();
    cores.iter().for_each(|core| allowed.set(*core));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = threads.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse().ok());
    for thread in names.filter_map(Pid::from_raw) {
        // One that ended meanwhile needs no core.
        let _ = sched_setaffinity(Some(thread), &allowed);
    }
}

/// Lets this process have as many sockets as it may.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, maximum: allowed.maximum });
}
