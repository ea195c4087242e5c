//! The use cases: the only place that knows both the store and the publisher.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{Clock, StoreClock};
use crate::decide::{Decided, Road, Work};
use crate::domain::{
    ChannelId, Explanation, Input, InputKind, Presence, Rules, StatusUpdate, Timestamp, Traceparent, UserId, UserRecord,
};
use crate::error::{Error, ErrorKind};
use crate::events::{Event, EventPublisher};
use crate::outage::Outages;
use crate::store::{Heartbeat, PresenceStore};

/// One method a use case. Shared by every handler of a process.
pub struct PresenceService {
    store: Arc<dyn PresenceStore>,
    events: Arc<dyn EventPublisher>,
    clock: Arc<dyn Clock>,
    outages: Outages,
    rules: Rules,
    notes_ttl: Duration,
}

/// Who types in a channel, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Typist {
    /// Who types.
    pub user_id: UserId,
    /// When they last said so, in Unix seconds.
    pub timestamp: i64,
}

/// Something that happened to a user, and the trace that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInput {
    /// To whom.
    pub user_id: UserId,
    /// What, and when.
    pub input: Input,
    /// The trace of the message; events that follow carry it on.
    pub traceparent: Option<Traceparent>,
}

/// What the readiness probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The store answers.
    pub store: bool,
    /// Events can be carried.
    pub events: bool,
}

impl PresenceService {
    /// The use cases over a store and a publisher, by the store's clock.
    pub fn new(store: Arc<dyn PresenceStore>, events: Arc<dyn EventPublisher>, rules: Rules) -> Self {
        let clock = Arc::new(StoreClock::new(store.clone()));
        Self::with_clock(store, events, clock, rules)
    }

    /// The same by another clock.
    pub fn with_clock(
        store: Arc<dyn PresenceStore>,
        events: Arc<dyn EventPublisher>,
        clock: Arc<dyn Clock>,
        rules: Rules,
    ) -> Self {
        Self { store, events, clock, outages: Outages::default(), rules, notes_ttl: Duration::ZERO }
    }

    /// The same, noting what others see change, for so long: for [`explain`](Self::explain).
    pub fn keeping_notes(self, notes_ttl: Duration) -> Self {
        Self { notes_ttl, ..self }
    }

    /// Sets what the update names and gives back the caller's own presence.
    pub async fn update_status(
        &self,
        caller: UserId,
        update: StatusUpdate,
        trace: Traceparent,
    ) -> Result<Presence, Error> {
        let input = Input { at: self.now().await?, kind: InputKind::StatusUpdated(update) };
        let input = UserInput { user_id: caller, input, traceparent: None };
        let work = Work { user_id: caller, inputs: vec![&input], due: None, trace };
        let decided = self.decide_one(work).await?;
        if let Some(refused) = decided.refused.into_iter().flatten().next() {
            return Err(ErrorKind::RateLimited { retry_after: refused.retry_after }.into());
        }
        Ok(self.seen_by(caller, &decided.record, decided.at))
    }

    /// One user's presence as `caller` may see it.
    pub async fn presence(&self, caller: UserId, user: UserId) -> Result<Presence, Error> {
        let presences = self.presences(caller, &[user]).await?;
        presences.into_iter().next().ok_or_else(|| ErrorKind::Internal.into())
    }

    /// Several users' presences, one for each id and in its place, at a moment before the store was asked: at a later one
    /// it would not be known what came in between.
    ///
    /// This host's clock may be ahead of the store's. Before a user is told to be gone of whom nobody else has told that
    /// yet, the store is asked whether the deadline has passed: a heartbeat could still come in time, and a version would
    /// have been told that never was.
    pub async fn presences(&self, caller: UserId, users: &[UserId]) -> Result<Vec<Presence>, Error> {
        let now = self.now().await?;
        let mut presences = Vec::with_capacity(users.len());
        let mut ended = Vec::new();
        for (place, loaded) in self.store.read(users).await.into_iter().enumerate() {
            let record = loaded?.record;
            let presence = self.seen_by(caller, &record, now);
            if presence.version > record.version {
                ended.push(place);
            }
            presences.push(presence);
        }
        if ended.is_empty() {
            return Ok(presences);
        }
        let exact = self.clock.exact().await?;
        let users: Vec<UserId> = ended.iter().map(|place| users[*place]).collect();
        for (place, loaded) in ended.into_iter().zip(self.store.load(&users).await) {
            presences[place] = self.seen_by(caller, &loaded?.record, exact);
        }
        Ok(presences)
    }

    /// Why a user looks as they do, for an operator: it tells what the user hides.
    pub async fn explain(&self, user: UserId) -> Result<Explanation, Error> {
        let record = self.record(user).await?;
        let mut explanation = record.explain(self.now().await?, &self.rules);
        if !self.notes_ttl.is_zero() {
            explanation.transitions = self.store.noted(user).await?;
        }
        Ok(explanation)
    }

    /// The caller types in a channel. Says nothing of whether anyone is told: an invisible caller, of whom nothing is noted,
    /// sees the same as everyone.
    pub async fn start_typing(&self, caller: UserId, channel: ChannelId, trace: Traceparent) -> Result<(), Error> {
        let now = self.now().await?;
        if !self.store.start_typing(channel, caller, now).await? {
            return Ok(());
        }
        let told = self.events.publish(&[Event::typing(caller, channel, now, trace)]).await;
        if let Some(Err(error)) = told.first() {
            tracing::warn!(user_id = %caller, %error, "typing is told with its next repetition");
            self.store.untell_typing(channel, caller).await?;
        }
        Ok(())
    }

    /// Who types in a channel now, the latest last.
    pub async fn typing(&self, channel: ChannelId) -> Result<Vec<Typist>, Error> {
        let typing = self.store.typing(channel, self.now().await?).await?;
        Ok(typing.into_iter().map(|(user_id, at)| Typist { user_id, timestamp: at.seconds() }).collect())
    }

    /// Decides what happened to many users at once, those of one user in their order; heartbeats of known sessions
    /// take the short way. One result an input, in its place; a failed one may be offered again.
    pub async fn apply(&self, inputs: &[UserInput]) -> Vec<Result<(), Error>> {
        self.apply_within(&Traceparent::generate(), inputs).await
    }

    /// The same within a trace, which changes belong to whose input names none.
    pub async fn apply_within(&self, trace: &Traceparent, inputs: &[UserInput]) -> Vec<Result<(), Error>> {
        let mut results: Vec<Result<(), Error>> = inputs.iter().map(|_| Ok(())).collect();
        let renewed = self.touch(inputs, &mut results).await;
        let mut places: HashMap<UserId, Vec<usize>> = HashMap::new();
        for (place, input) in inputs.iter().enumerate().filter(|(place, _)| !renewed[*place]) {
            places.entry(input.user_id).or_default().push(place);
        }
        let groups: Vec<(UserId, Vec<usize>)> = places.into_iter().collect();
        let work = |(user_id, places): &(UserId, Vec<usize>)| Work {
            user_id: *user_id,
            inputs: places.iter().map(|place| &inputs[*place]).collect(),
            due: None,
            trace: trace.clone(),
        };
        let work: Vec<Work<'_>> = groups.iter().map(work).collect();
        for ((_, places), decided) in groups.iter().zip(self.road().decide(&work).await) {
            if let Err(error) = decided {
                let kind = error.kind();
                tracing::warn!(%error, inputs = places.len(), "inputs could not be decided");
                places.iter().for_each(|place| results[*place] = Err(kind.into()));
            }
        }
        results
    }

    /// The store's clock, by which everything is decided.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let started = Instant::now();
        let now = self.clock.now().await;
        if now.is_err() {
            self.outages.missed(started);
        }
        Ok(now?)
    }

    /// Whether requests can be served. Never fails: that is the answer.
    pub async fn readiness(&self) -> Readiness {
        let (store, events) = futures::join!(self.store.time(), self.events.is_ready());
        Readiness { store: store.is_ok(), events }
    }

    /// The numbers of the rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn store(&self) -> &dyn PresenceStore {
        &*self.store
    }

    pub(crate) fn outages(&self) -> &Outages {
        &self.outages
    }

    pub(crate) fn road(&self) -> Road<'_> {
        let Self { store, events, clock, outages, rules, notes_ttl } = self;
        Road { store: &**store, events: &**events, clock: &**clock, outages, rules, notes_ttl: *notes_ttl }
    }

    async fn record(&self, user: UserId) -> Result<UserRecord, Error> {
        match self.store.load(&[user]).await.pop() {
            Some(loaded) => Ok(loaded?.record),
            None => Err(ErrorKind::Internal.into()),
        }
    }

    async fn decide_one(&self, work: Work<'_>) -> Result<Decided, Error> {
        self.road().decide(&[work]).await.pop().unwrap_or_else(|| Err(ErrorKind::Internal.into()))
    }

    fn seen_by(&self, caller: UserId, record: &UserRecord, now: Timestamp) -> Presence {
        let mut presence = record.read(now, &self.rules);
        if caller == record.user_id {
            presence.own = Some(record.own(now, &self.rules));
        }
        presence
    }

    /// Renews what can be renewed without a decision: heartbeats of users of whom nothing else is to be decided.
    async fn touch(&self, inputs: &[UserInput], results: &mut [Result<(), Error>]) -> Vec<bool> {
        let mut done = vec![false; inputs.len()];
        let Ok(now) = self.clock.now().await else { return done };
        let is_heartbeat = |input: &UserInput| matches!(input.input.kind, InputKind::Heartbeat { .. });
        let others: std::collections::HashSet<UserId> =
            inputs.iter().filter(|input| !is_heartbeat(input)).map(|input| input.user_id).collect();
        let mut places = Vec::new();
        let mut heartbeats = Vec::new();
        let mut is_behind = false;
        for (place, input) in inputs.iter().enumerate() {
            if let InputKind::Heartbeat { session_id, platform } = &input.input.kind
                && !others.contains(&input.user_id)
            {
                if input.input.proves_nothing(now, &self.rules) {
                    done[place] = true;
                    is_behind = true;
                    continue;
                }
                let at = input.input.at.min(now);
                places.push(place);
                let (user_id, session_id, platform) = (input.user_id, session_id.clone(), *platform);
                heartbeats.push(Heartbeat { user_id, session_id, platform, at });
            }
        }
        if is_behind {
            self.hold_on(now).await;
        }
        if heartbeats.is_empty() {
            return done;
        }
        let started = Instant::now();
        let touched = self.store.touch(&heartbeats, now).await;
        self.outages.note(started, &touched);
        for (place, touched) in places.into_iter().zip(touched) {
            match touched {
                Ok(renewed) => done[place] = renewed,
                Err(error) => {
                    done[place] = true;
                    results[place] = Err(error.into());
                }
            }
        }
        done
    }

    /// Holds expiries on that are held. Heartbeats that are too old to prove anything stand before those that do: as long
    /// as there are any, nobody has caught up with what was told during the outage.
    async fn hold_on(&self, now: Timestamp) {
        if let Ok(Some(_)) = self.road().held_until().await
            && let Err(error) = self.store.hold(now + self.rules.heartbeat_interval).await
        {
            tracing::warn!(%error, "expiries are not held on");
        }
    }
}
