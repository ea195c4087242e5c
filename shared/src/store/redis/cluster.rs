//! The nodes of a cluster, and which of them has which slot. Commands go to all nodes at once, one pipeline each, and
//! follow their slots where these have moved.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{FutureExt, join_all, select_ok};
use redis::cluster_routing::Slot;
use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind,
    TlsCertificates, Value, from_redis_value,
};
use tokio::time::{Instant, sleep, timeout};

use super::node::{Node, OVERALL_TIMEOUT, no_answer};
use super::scripts::Script;

/// How long to wait for a slot that can't be served at the moment, because it moves: that takes milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The same after some tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// So often a command is sent elsewhere at once: by a node that gave its slot away, and by one that is giving it away.
/// Nodes that say so more often disagree, and need time.
const REDIRECTIONS: u32 = 2;
/// For so long nobody asks again who has which slot, unless a node can't be reached. A node that refuses a slot says
/// who has it.
const FRESH: Duration = Duration::from_secs(1);

/// Where a node is: its host and port.
type Address = (Arc<str>, u16);

/// A cluster, of which one node is known at first.
pub(super) struct Cluster {
    seed: ConnectionInfo,
    certificates: Option<TlsCertificates>,
    map: Mutex<Map>,
    refreshing: tokio::sync::Mutex<()>,
}

struct Map {
    nodes: HashMap<Address, Arc<Node>>,
    owners: HashMap<Slot, Address>,
    refreshed: Option<Instant>,
}

/// One command on its way.
struct Open {
    place: usize,
    slot: Slot,
    /// The node that takes the slot over and has its key already, if the one that has the slot said so.
    asked: Option<Address>,
    /// How often nodes said that another one has it.
    redirected: u32,
}

/// What an answer means.
enum Meaning {
    /// It is the answer.
    Answer(RedisResult<Value>),
    /// Another node has the key.
    Elsewhere(Open),
    /// The slot can't be served at the moment.
    Later(Open, RedisError),
    /// The script has to be loaded first.
    Unknown(Open),
}

impl Cluster {
    pub(super) fn new(seed: ConnectionInfo, certificates: Option<TlsCertificates>) -> RedisResult<Self> {
        let node = Arc::new(Node::new(seed.clone(), certificates.clone())?);
        let map = Map { nodes: HashMap::from([(address_of(&seed)?, node)]), owners: HashMap::new(), refreshed: None };
        Ok(Self { seed, certificates, map: Mutex::new(map), refreshing: tokio::sync::Mutex::default() })
    }

    /// Runs commands of which none depends on another. One answer for each, in its place.
    pub(super) async fn run(&self, commands: Vec<Cmd>, script: Option<&Script>) -> Vec<RedisResult<Value>> {
        let mut answers: Vec<RedisResult<Value>> = commands.iter().map(|_| Err(no_answer())).collect();
        let open = commands.iter().enumerate();
        let open = open.map(|(place, command)| Open { place, slot: slot_of(command), asked: None, redirected: 0 });
        let open = open.collect();
        // Whoever runs out of time keeps what was said last.
        let _ = timeout(OVERALL_TIMEOUT, self.run_open(open, &commands, script, &mut answers)).await;
        answers
    }

    async fn run_open(
        &self,
        mut open: Vec<Open>,
        commands: &[Cmd],
        script: Option<&Script>,
        answers: &mut [RedisResult<Value>],
    ) {
        let mut pause = FIRST_PAUSE;
        let mut is_known = self.map().refreshed.is_some();
        while !open.is_empty() {
            if !is_known && let Err(error) = self.refresh(pause > FIRST_PAUSE).await {
                open.iter().for_each(|open| answers[open.place] = Err(error.clone()));
            }
            let mut routes: HashMap<Address, Vec<Open>> = HashMap::new();
            for one in std::mem::take(&mut open) {
                let address = one.asked.clone().or_else(|| self.owner(one.slot));
                match address {
                    Some(address) => routes.entry(address).or_default().push(one),
                    None => open.push(one),
                }
            }
            is_known = open.is_empty();
            let mut is_late = !open.is_empty();
            let sent = routes.into_iter().map(|(address, batch)| self.send(address, batch, commands, script));
            for meaning in join_all(sent).await.into_iter().flatten() {
                match meaning {
                    (place, Meaning::Answer(answer)) => answers[place] = answer,
                    (_, Meaning::Elsewhere(one)) => {
                        is_known &= one.asked.is_some();
                        is_late |= one.redirected > REDIRECTIONS;
                        open.push(one);
                    }
                    (_, Meaning::Unknown(one)) => open.push(one),
                    (place, Meaning::Later(one, error)) => {
                        is_known &= error.kind() == ErrorKind::Server(ServerErrorKind::TryAgain);
                        is_late = true;
                        answers[place] = Err(error);
                        open.push(one);
                    }
                }
            }
            if is_late {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Sends to one node what it is said to have.
    async fn send(
        &self,
        address: Address,
        batch: Vec<Open>,
        commands: &[Cmd],
        script: Option<&Script>,
    ) -> Vec<(usize, Meaning)> {
        let mut pipeline = Pipeline::new();
        for one in &batch {
            if one.asked.is_some() {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(commands[one.place].clone());
        }
        let sent = match self.node(&address) {
            Ok(node) => node.send(&pipeline).await.map(|values| (node, values)),
            Err(error) => Err(error),
        };
        let (node, values) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                let later = |one: Open| (one.place, Meaning::Later(Open { asked: None, ..one }, error.clone()));
                return batch.into_iter().map(later).collect();
            }
        };
        let mut values = values.into_iter();
        let mut meanings = Vec::with_capacity(batch.len());
        for one in batch {
            let permitted = match &one.asked {
                Some(_) => values.next().unwrap_or(Value::Nil).extract_error().map(drop),
                None => Ok(()),
            };
            let value = values.next().unwrap_or(Value::Nil);
            meanings.push(match permitted {
                Ok(()) => (one.place, self.meaning(one, value, &address)),
                // Without it the node would send everyone back to where they come from.
                Err(error) => (one.place, Meaning::Answer(Err(error))),
            });
        }
        if let Some(script) = script
            && meanings.iter().any(|(_, meaning)| matches!(meaning, Meaning::Unknown(_)))
            && let Err(error) = script.load(&node).await
        {
            return meanings.into_iter().map(|(place, meaning)| (place, failed_to_load(meaning, &error))).collect();
        }
        meanings
    }

    fn meaning(&self, one: Open, value: Value, asked: &Address) -> Meaning {
        let error = match value.extract_error() {
            Ok(value) => return Meaning::Answer(Ok(value)),
            Err(error) => error,
        };
        let ErrorKind::Server(kind) = error.kind() else { return Meaning::Answer(Err(error)) };
        let elsewhere = || {
            let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
            Some((if host.is_empty() { asked.0.clone() } else { host.into() }, port.parse().ok()?))
        };
        match (kind, elsewhere()) {
            (ServerErrorKind::Moved, Some(address)) => {
                self.map().owners.insert(one.slot, address);
                Meaning::Elsewhere(Open { asked: None, redirected: one.redirected + 1, ..one })
            }
            (ServerErrorKind::Ask, Some(address)) => {
                Meaning::Elsewhere(Open { asked: Some(address), redirected: one.redirected + 1, ..one })
            }
            (ServerErrorKind::NoScript, _) => Meaning::Unknown(one),
            (
                ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
                _,
            ) => Meaning::Later(one, error),
            _ => Meaning::Answer(Err(error)),
        }
    }

    /// Asks the nodes who has which slot: all that are known, and the first to answer is believed. If it is wrong, the
    /// node that it names says so.
    async fn refresh(&self, is_urgent: bool) -> RedisResult<()> {
        let started = Instant::now();
        let _one_at_a_time = self.refreshing.lock().await;
        let refreshed = self.map().refreshed;
        if refreshed.is_some_and(|at| at >= started || !is_urgent && at.elapsed() < FRESH) {
            return Ok(());
        }
        let seed = address_of(&self.seed)?;
        let mut addresses: Vec<Address> =
            self.map().nodes.keys().filter(|address| **address != seed).cloned().collect();
        addresses.push(seed);
        let asked = addresses.into_iter().map(|address| self.ask_for_slots(address).boxed());
        let (owners, _) = select_ok(asked).await?;
        self.learn(owners);
        Ok(())
    }

    async fn ask_for_slots(&self, address: Address) -> RedisResult<HashMap<Slot, Address>> {
        let mut question = Pipeline::new();
        question.cmd("CLUSTER").arg("SLOTS");
        let answer = self.node(&address)?.send(&question).await?.pop();
        read_slots(answer.unwrap_or(Value::Nil).extract_error()?, &address)
    }

    fn learn(&self, owners: HashMap<Slot, Address>) {
        let mut map = self.map();
        let named: HashSet<&Address> = owners.values().collect();
        map.nodes.retain(|address, _| named.contains(address));
        map.owners = owners;
        map.refreshed = Some(Instant::now());
    }

    fn owner(&self, slot: Slot) -> Option<Address> {
        self.map().owners.get(&slot).cloned()
    }

    fn node(&self, address: &Address) -> RedisResult<Arc<Node>> {
        if let Some(node) = self.map().nodes.get(address) {
            return Ok(node.clone());
        }
        let (host, port) = (address.0.to_string(), address.1);
        let addr = match self.seed.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        let node = Arc::new(Node::new(self.seed.clone().set_addr(addr), self.certificates.clone())?);
        Ok(self.map().nodes.entry(address.clone()).or_insert(node).clone())
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed_to_load(meaning: Meaning, error: &RedisError) -> Meaning {
    match meaning {
        Meaning::Unknown(one) => Meaning::Later(one, error.clone()),
        other => other,
    }
}

/// The slot of the key that a command names first. What names none, as `TIME`, is asked of one node by all, so that they
/// hear one clock.
fn slot_of(command: &Cmd) -> Slot {
    let argument = |place: usize| match command.args_iter().nth(place) {
        Some(redis::Arg::Simple(argument)) => argument,
        _ => &[],
    };
    let is_script = matches!(argument(0), b"EVALSHA" | b"EVAL");
    Slot::for_key(argument(if is_script { 3 } else { 1 }))
}

fn address_of(info: &ConnectionInfo) -> RedisResult<Address> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Ok((host.as_str().into(), *port))
        }
        _ => Err(RedisError::from((ErrorKind::InvalidClientConfig, "a cluster is reached over the network"))),
    }
}

/// Reads `CLUSTER SLOTS`: for each range its first and last slot, then its primary's host and port, then its replicas.
/// A node that does not know its own name leaves it empty.
fn read_slots(slots: Value, asked: &Address) -> RedisResult<HashMap<Slot, Address>> {
    let ranges: Vec<Vec<Value>> = from_redis_value(slots)?;
    let mut owners = HashMap::new();
    for range in ranges {
        let mut range = range.into_iter();
        let (Some(first), Some(last), Some(Value::Array(primary))) = (range.next(), range.next(), range.next()) else {
            return Err(RedisError::from((ErrorKind::Parse, "slots that can't be read")));
        };
        let mut primary = primary.into_iter();
        let host: Option<String> = from_redis_value(primary.next().unwrap_or(Value::Nil))?;
        let port: u16 = from_redis_value(primary.next().unwrap_or(Value::Nil))?;
        let host = host.filter(|host| !host.is_empty() && host != "?");
        let address: Address = (host.map_or_else(|| asked.0.clone(), Into::into), port);
        let (first, last): (u16, u16) = (from_redis_value(first)?, from_redis_value(last)?);
        owners.extend((first..=last).filter_map(Slot::new).map(|slot| (slot, address.clone())));
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_command_goes_where_its_first_key_is() {
        let (mut plain, mut script) = (cmd("HGETALL"), cmd("EVALSHA"));
        plain.arg("presence:user:a");
        script.arg("digest").arg(2).arg("presence:user:a").arg("{presence:user:a}:profile").arg("argument");
        assert_eq!(slot_of(&plain), Slot::for_key("presence:user:a"));
        assert_eq!(slot_of(&script), slot_of(&plain));
    }

    #[test]
    fn the_owner_of_a_range_is_its_primary_and_one_without_a_name_is_who_was_asked() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, primary| {
            Value::Array(vec![Value::Int(first), Value::Int(last), primary, node(text("replica"), 9)])
        };
        let slots = Value::Array(vec![
            range(0, 1, node(text("one"), 1)),
            range(2, 2, node(text(""), 2)),
            range(3, 3, node(Value::Nil, 3)),
        ]);
        let owners = read_slots(slots, &("asked".into(), 4)).unwrap();
        let owner = |slot| owners.get(&Slot::new(slot).unwrap()).map(|(host, port)| (&**host, *port));
        let expected = [Some(("one", 1)), Some(("one", 1)), Some(("asked", 2)), Some(("asked", 3)), None];
        assert_eq!([0, 1, 2, 3, 4].map(owner), expected);
        assert!(read_slots(Value::Array(vec![Value::Array(Vec::new())]), &("asked".into(), 4)).is_err());
    }
}
