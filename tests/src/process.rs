//! One child process: it never outlives its test, and a test can stop it in every way that the world does.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;
use crate::port::is_held_by;

/// How long a process may take to come up on a busy machine.
const START: Duration = Duration::from_secs(20);
/// How long a process may take to end after it was asked to.
const END: Duration = Duration::from_secs(20);
/// How many lines of its log are told where a test fails.
const TOLD: usize = 40;

/// A running child, with its log and its process id in a folder of its own. Dropping it kills it and waits.
pub struct Process {
    name: &'static str,
    child: Child,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose output goes to `log` in the folder. Its environment is what the command itself sets: no
    /// variable of the machine reaches it, but for `PATH` and `HOME`.
    ///
    /// The process id stands in the file `pid` beside the log for as long as the process lives, so that whoever started
    /// the test can end the process even if the test was killed.
    pub(crate) fn start(name: &'static str, command: &mut Command, dir: &Path) -> Self {
        let log = dir.join("log");
        let output: File = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let pid_file = dir.join("pid");
        fs::write(&pid_file, child.id().to_string()).unwrap();
        Self { name, child, pid_file, log }
    }

    /// Waits until the process itself listens on the port and `is_up` agrees. A process that ends before fails the
    /// test with its last words.
    pub(crate) async fn wait_until_up(&mut self, port: u16, mut is_up: impl AsyncFnMut() -> bool) {
        let what = format!("{} to come up", self.name);
        eventually(&what, START, async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended at its start ({status}): {}", self.name, self.last_words());
            }
            if is_held_by(port, self.child.id()) && is_up().await { Ok(()) } else { Err(self.last_words()) }
        })
        .await;
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a crash does (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.pid_file);
    }

    /// The same for everything that it started, and that they started.
    pub fn kill_with_descendants(&mut self) {
        let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().expect("ps runs");
        let listed = String::from_utf8_lossy(&listed.stdout);
        let processes: Vec<(i32, i32)> = listed.lines().filter_map(child_and_parent).collect();
        let mut doomed: Vec<i32> = i32::try_from(self.child.id()).into_iter().collect();
        let mut next = 0;
        while let Some(parent) = doomed.get(next).copied() {
            doomed.extend(processes.iter().filter(|(_, of)| *of == parent).map(|(child, _)| child));
            next += 1;
        }
        // The parent first, so that it starts nothing anew.
        for pid in doomed.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.kill();
    }

    /// Asks it to end (SIGTERM) and waits until it has, with its status.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until it has ended by itself, with its status.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("{} to end", self.name);
        let status = eventually(&what, END, async || self.child.try_wait().unwrap().ok_or("still running")).await;
        let _ = fs::remove_file(&self.pid_file);
        status
    }

    /// Stops it without ending it (SIGSTOP): its connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{} can't be signalled: {error}", self.name));
    }

    fn last_words(&self) -> String {
        self.last_lines(5)
    }

    fn last_lines(&self, count: usize) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// A line of `ps`.
fn child_and_parent(line: &str) -> Option<(i32, i32)> {
    let (child, parent) = line.trim().split_once(char::is_whitespace)?;
    Some((child.parse().ok()?, parent.trim().parse().ok()?))
}

impl Drop for Process {
    /// The log goes with the process; of a test that fails it tells what the test could not see.
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "shown with the failure")]
            {
                eprintln!("the last words of {}:\n{}", self.name, self.last_lines(TOLD));
            }
        }
    }
}
