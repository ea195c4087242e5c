//! Reads from a replica that has everything.
//!
//! A replica lags by a time that nobody knows. So the primary is asked first how far it has come, and the replica, in the
//! same pipeline as it is read, how far it has got. If that is as far, along the same history, what it says then is what
//! the primary had confirmed when the read began: no read goes back, and everyone reads their own writes. If not, the
//! primary is read. One such question stands for many users, and for all reads that wait for its answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, Value, from_redis_value};
use tokio::time::{Instant, sleep, timeout};

use super::node::{Node, no_answer};
use crate::metrics::REPLICA_READS;

/// Fewer commands than this are as cheap to the primary as the question, which costs it as much as 25.
const WORTH_ASKING: usize = 32;
/// How long the replica may take, before the primary is read.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a replica that is behind has to get what is on its way to it.
const UNDER_WAY: Duration = Duration::from_millis(2);
/// For how long nobody asks a replica that was behind, doubling from the first time in a row to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A replica, or several behind one name.
pub(super) struct Replica {
    node: Node,
    /// How far the primary had come, when it was last asked.
    come: tokio::sync::Mutex<Option<(Instant, Position)>>,
    trust: Mutex<Trust>,
}

/// A place in the history of a primary. Every failover begins another history.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    history: String,
    offset: u64,
}

#[derive(Default)]
struct Trust {
    /// How often in a row it was behind.
    missed: u32,
    /// Until when nobody asks it.
    left_until: Option<Instant>,
    /// Whether the log says that it failed.
    is_told: bool,
}

/// What the replica is good for at the moment.
enum Outcome {
    Answered(Vec<Value>),
    Behind,
    Failed(redis::RedisError),
}

impl Replica {
    pub(super) fn new(node: Node) -> Self {
        Self { node, come: tokio::sync::Mutex::default(), trust: Mutex::default() }
    }

    /// Runs commands that read. The answers end before the first that the replica does not have, which may be all.
    pub(super) async fn read(&self, primary: &Node, commands: &[Cmd]) -> Vec<Value> {
        if commands.len() < WORTH_ASKING {
            return Vec::new();
        }
        if self.is_left() {
            count("left");
            return Vec::new();
        }
        let read = timeout(PATIENCE, self.try_read(primary, commands)).await;
        match read.unwrap_or_else(|_| Outcome::Failed(no_answer())) {
            Outcome::Answered(values) => {
                count("answered");
                *self.trust() = Trust::default();
                values
            }
            Outcome::Behind => {
                count("behind");
                let mut trust = self.trust();
                let pause = PAUSES.0.saturating_mul(1 << trust.missed.min(16)).min(PAUSES.1);
                trust.missed = trust.missed.saturating_add(1);
                trust.left_until = Some(Instant::now() + pause);
                Vec::new()
            }
            Outcome::Failed(error) => {
                count("failed");
                self.leave(&error);
                Vec::new()
            }
        }
    }

    async fn try_read(&self, primary: &Node, commands: &[Cmd]) -> Outcome {
        let answered = async {
            let needed = self.ask_primary(primary).await?;
            if let Some(values) = self.ask_replica(&needed, commands).await? {
                return Ok(Some(values));
            }
            sleep(UNDER_WAY).await;
            self.ask_replica(&needed, commands).await
        };
        match answered.await {
            Ok(Some(values)) => Outcome::Answered(values),
            Ok(None) => Outcome::Behind,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// How far the primary has come, at some moment after this was called. All who wait for an answer share the next
    /// one.
    async fn ask_primary(&self, primary: &Node) -> RedisResult<Position> {
        let called = Instant::now();
        let mut come = self.come.lock().await;
        if let Some((asked, position)) = &*come
            && *asked > called
        {
            return Ok(position.clone());
        }
        let asked = Instant::now();
        let answer = primary.send(&question()).await?.pop().unwrap_or(Value::Nil);
        let position = position(answer)?;
        *come = Some((asked, position.clone()));
        Ok(position)
    }

    /// None if it has not got as far.
    async fn ask_replica(&self, needed: &Position, commands: &[Cmd]) -> RedisResult<Option<Vec<Value>>> {
        let mut pipeline = question();
        for command in commands {
            pipeline.add_command(command.clone());
        }
        let mut values = self.node.send(&pipeline).await?.into_iter();
        let got = position(values.next().unwrap_or(Value::Nil))?;
        if got.history != needed.history || got.offset < needed.offset {
            return Ok(None);
        }
        Ok(Some(values.map_while(|value| value.extract_error().ok()).collect()))
    }

    fn is_left(&self) -> bool {
        self.trust().left_until.is_some_and(|until| Instant::now() < until)
    }

    fn leave(&self, error: &redis::RedisError) {
        let mut trust = self.trust();
        if !trust.is_told {
            let told = error.code().unwrap_or_else(|| error.category());
            tracing::warn!(error = told, "bulk reads go to the primary until the replica can answer them");
        }
        trust.is_told = true;
        trust.left_until = Some(Instant::now() + PAUSES.1);
    }

    fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(outcome: &'static str) {
    metrics::counter!(REPLICA_READS, "outcome" => outcome).increment(1);
}

fn question() -> Pipeline {
    let mut question = Pipeline::new();
    question.cmd("INFO").arg("replication");
    question
}

fn position(answer: Value) -> RedisResult<Position> {
    let told: String = from_redis_value(answer.extract_error()?)?;
    read_position(&told).ok_or_else(|| redis::RedisError::from((redis::ErrorKind::Parse, "a position in no history")))
}

/// Of a replica, what it has worked off, not what it has received.
fn read_position(told: &str) -> Option<Position> {
    let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let offset = if field("role")? == "master" { "master_repl_offset" } else { "slave_repl_offset" };
    Some(Position { history: field("master_replid")?.to_owned(), offset: field(offset)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &str =
        "# Replication\r\nrole:master\r\nmaster_replid:a\r\nmaster_replid2:b\r\nmaster_repl_offset:7\r\n";
    const REPLICA: &str = "# Replication\r\nrole:slave\r\nslave_read_repl_offset:9\r\nslave_repl_offset:6\r\n\
                           master_replid:a\r\nmaster_repl_offset:8\r\n";

    #[test]
    fn a_primary_has_come_as_far_as_it_wrote_and_a_replica_as_far_as_it_worked_off() {
        let at = |offset| Some(Position { history: "a".to_owned(), offset });
        assert_eq!((read_position(PRIMARY), read_position(REPLICA)), (at(7), at(6)));
        assert_eq!(read_position("role:slave\r\nmaster_replid:a\r\n"), None);
        assert_eq!(read_position("role:master\r\nmaster_replid:a\r\nmaster_repl_offset:-1\r\n"), None);
    }
}
