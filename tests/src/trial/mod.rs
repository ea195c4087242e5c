//! A trial: users who live through real services while things break, and the history of it. What is planned, inputs and
//! faults alike, is a function of a seed; how far it gets in its time is not.

mod actor;
mod ground;
mod plan;
mod stage;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

use crate::history::{End, History, Life, Read, Sign, Told, Verdict, check};
use crate::{Api, User, now_ms};

pub use plan::{ALL, Kind, ON_A_CLUSTER, Trouble};
pub use stage::{Stage, Used};

use actor::{Actor, Lived, Scene};

/// How long everything may take to be told once nothing is broken any more.
const CALM: Duration = Duration::from_secs(40);
/// How long a service may still work on a request that its client has given up, with the time that it was frozen.
const PATIENCE: i64 = 10_000;
/// How far a service's idea of the store's clock may be ahead, on a machine that is busy.
const CLOCK_ERROR: i64 = 250;
/// For how long after an outage of the store expiries may be held: an interval, and the tick that notices it.
const HOLD: i64 = 3_000;

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Everything random follows from it.
    pub seed: u64,
    /// How many users live.
    pub users: usize,
    /// For how long.
    pub length: Duration,
    /// What may break.
    pub kinds: &'static [Kind],
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The judgement.
    pub verdict: Verdict,
    /// What is never to be seen, whatever breaks: a panic, a dead letter, an answer that is no 200, 429 or 503.
    pub unexpected: Vec<String>,
    /// What was answered by nobody, or by a 503, though it was asked while nothing was broken.
    pub refused: Vec<String>,
    /// How often each kind of trouble came.
    pub troubles: BTreeMap<Kind, usize>,
    /// How often a process really ended itself at a failpoint.
    pub aborted: usize,
    /// How often a slot of a cluster moved.
    pub moved: usize,
    /// How many messages, requests and reads there were.
    pub done: usize,
    /// The lives of those for whom a rule was broken, in words.
    pub stories: Vec<String>,
    /// How many users made a choice that is kept without expiry.
    pub lasting: usize,
}

impl Trial {
    /// Lives through it on a stage, which is whole again afterwards. On a cluster slots move from the first moment to the
    /// end of the calm.
    pub async fn run(&self, stage: &mut Stage) -> Report {
        let mut rng = Rng::with_seed(self.seed);
        let first_event = stage.nats.last_sequence(EVENTS).await;
        let scene = Arc::new(Scene::new(stage).await);
        let until = Instant::now() + self.length;
        let actors: Vec<JoinHandle<Lived>> =
            (0..self.users).map(|_| tokio::spawn(Actor::new(rng.fork(), scene.clone()).live(until))).collect();
        let readers: Vec<_> = scene.apis.iter().map(|api| tokio::spawn(read_all(*api, scene.clone()))).collect();

        let slots = stage.cluster().map(|cluster| (cluster, ground::slots(&scene.users(), &mut rng.fork())));
        let living = async {
            let suffered = self.suffer(stage, &mut rng, until).await;
            let lived: Vec<Lived> = join_all(actors).await.into_iter().map(Result::unwrap).collect();
            let keeper = Keeper::start(&scene, &lived);
            let history = self.calm_down(stage, &suffered, first_event, &lived, &scene).await;
            (suffered, history, keeper)
        };
        let (suffered, history, keeper) = match &slots {
            Some((cluster, slots)) => cluster.while_slots_move(slots, living).await,
            None => living.await,
        };
        let moved = slots.map_or(0, |(_, slots)| slots.moved.into_inner());
        scene.end();
        let history = self.with_reads(history, readers, keeper).await;

        let mut unexpected = std::mem::take(&mut *scene.unexpected.lock().unwrap());
        unexpected.extend(stage.unexpected().await);
        let verdict = check(&history);
        let done = |life: &Life| life.updates.len() + life.signs.len() + life.reads.len();
        let done = history.lives.iter().map(done).sum();
        let lasts = |life: &&Life| life.end.as_ref().is_some_and(|end| end.own["own"]["intent"] != "online");
        let lasting = history.lives.iter().filter(lasts).count();
        let is_wronged = |life: &&Life| verdict.violations.iter().any(|violation| violation.user == life.user);
        let stories =
            history.lives.iter().filter(is_wronged).map(|life| format!("{}\n{}", life.user, life.story())).collect();
        let refused = suffered.refused_without_reason(std::mem::take(&mut *scene.refused.lock().unwrap()));
        let Suffered { troubles, aborted, .. } = suffered;
        Report { stories, lasting, verdict, unexpected, refused, troubles, aborted, moved, done }
    }

    /// Breaks one thing after the other until then.
    async fn suffer(&self, stage: &mut Stage, rng: &mut Rng, until: Instant) -> Suffered {
        let mut suffered = Suffered::default();
        while Instant::now() < until {
            let (pause, trouble) = plan::next(rng, self.kinds, stage.services.len());
            sleep(pause).await;
            suffered.add(stage, &trouble).await;
        }
        suffered
    }

    /// Waits until everything is told and everyone is read as they are, or until that has taken too long.
    async fn calm_down(
        &self,
        stage: &Stage,
        suffered: &Suffered,
        first_event: u64,
        lived: &[Lived],
        scene: &Scene,
    ) -> History {
        let deadline = Instant::now() + CALM;
        let (mut told, mut after) = (BTreeMap::<String, Vec<Told>>::new(), first_event);
        loop {
            let mut lives = Vec::new();
            for (place, lived) in lived.iter().enumerate() {
                let api = scene.apis[place % scene.apis.len()];
                let mut life = lived.life.clone();
                let (read, own) =
                    (api.presence(&lived.user).await, api.get(&lived.user, &path(&lived.user)).await.ok());
                life.end = Some(End { is_connected: lived.is_connected, read, own });
                lives.push(life);
            }
            for (sequence, at, event) in stage.nats.stored_after(EVENTS, after).await {
                after = sequence;
                let is_status = event.subject == "presence.status.changed";
                let (id, presence) = (event.header("Nats-Msg-Id").unwrap_or_default().to_owned(), event.data());
                let user = presence["user_id"].as_str().unwrap_or_default().to_owned();
                told.entry(user).or_default().push(Told { at, is_status, id, presence });
            }
            for life in &mut lives {
                life.told = told.get(&life.user).cloned().unwrap_or_default();
            }
            let history = History {
                heartbeat_timeout: i64::from(stage.heartbeat_timeout) * 1000,
                clock_error: CLOCK_ERROR,
                patience: PATIENCE,
                outages: suffered.outages.clone(),
                troubles: suffered.times.iter().map(|time| time.start..time.end + HOLD).collect(),
                losses: Vec::new(),
                lives,
            };
            if check(&history).is_at_rest() || Instant::now() > deadline {
                return history;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn with_reads(
        &self,
        mut history: History,
        readers: Vec<JoinHandle<Vec<(String, Read)>>>,
        keeper: Keeper,
    ) -> History {
        let mut places = BTreeMap::new();
        for (place, life) in history.lives.iter_mut().enumerate() {
            places.insert(life.user.clone(), place);
            if life.end.as_ref().is_some_and(|end| end.is_connected) {
                life.signs.extend(keeper.kept.lock().unwrap().iter().map(|at| Sign { at: *at }));
            }
        }
        keeper.keeping.abort();
        for reader in readers {
            for (user, read) in reader.await.unwrap() {
                history.lives[places[&user]].reads.push(read);
            }
        }
        for life in &mut history.lives {
            life.reads.sort_by_key(|read| read.ended);
        }
        history
    }
}

const EVENTS: &str = "PRESENCE_EVENTS";

fn path(user: &User) -> String {
    format!("/presence/{}", user.id())
}

/// What happened to the stage, and when.
#[derive(Default)]
struct Suffered {
    times: Vec<Range<i64>>,
    outages: Vec<Range<i64>>,
    troubles: BTreeMap<Kind, usize>,
    aborted: usize,
}

impl Suffered {
    async fn add(&mut self, stage: &mut Stage, trouble: &Trouble) {
        let began = now_ms();
        self.aborted += usize::from(stage.suffer(trouble).await);
        let ended = now_ms();
        *self.troubles.entry(trouble.kind).or_default() += 1;
        self.times.push(began..ended);
        if trouble.kind.keeps_from_the_store() {
            self.outages.push(began..ended + HOLD);
        }
    }

    fn refused_without_reason(&self, refused: Vec<(Range<i64>, String)>) -> Vec<String> {
        let is_calm =
            |asked: &Range<i64>| !self.times.iter().any(|time| asked.start <= time.end && time.start <= asked.end);
        refused
            .into_iter()
            .filter(|(asked, _)| is_calm(asked))
            .map(|(asked, what)| format!("{what}, {asked:?}"))
            .collect()
    }
}

/// Keeps those connected who are to be at the end.
struct Keeper {
    kept: Arc<Mutex<Vec<i64>>>,
    keeping: JoinHandle<()>,
}

impl Keeper {
    fn start(scene: &Arc<Scene>, lived: &[Lived]) -> Self {
        let users: Vec<String> = lived.iter().filter(|one| one.is_connected).map(|one| one.life.user.clone()).collect();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeping = tokio::spawn({
            let (scene, kept) = (scene.clone(), kept.clone());
            async move {
                let mut beats = interval(Duration::from_millis(500));
                loop {
                    beats.tick().await;
                    let at = now_ms();
                    kept.lock().unwrap().push(at);
                    let beat =
                        |user: &String| json!({ "user_id": user, "session_id": actor::LAST_SESSION, "timestamp": at });
                    let message = Value::Array(users.iter().map(beat).collect());
                    let _ = scene.tell("gateway.heartbeat.received", &message).await;
                }
            }
        });
        Self { kept, keeping }
    }
}

/// Reads everyone over and over, until the trial is over.
async fn read_all(api: Api, scene: Arc<Scene>) -> Vec<(String, Read)> {
    let reader = User::new();
    let mut reads = Vec::new();
    let mut pace = interval(Duration::from_millis(150));
    while !scene.is_over() {
        pace.tick().await;
        let users = scene.users();
        let began = now_ms();
        let body = json!({ "user_ids": users }).to_string();
        let Some(answer) = scene.ask(api, &reader, "/presence/bulk", Some(&body)).await else { continue };
        let ended = now_ms();
        for presence in answer["presences"].as_array().into_iter().flatten() {
            let user = presence["user_id"].as_str().unwrap_or_default().to_owned();
            reads.push((user, Read { began, ended, presence: presence.clone() }));
        }
    }
    reads
}
