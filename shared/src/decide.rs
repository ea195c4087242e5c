//! The one road of a change: load, decide, commit, publish, finish. Every use case that changes a user goes along it,
//! for one user or for thousands at once.
//!
//! A crash at any point leaves something that is found: before the commit nothing has happened and the input comes
//! again; after it the change is pending in the record, and the reminder, which was written first, leads the sweeper
//! to it. So an event may be told twice, with the same id, and is never lost.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::clock::Clock;
use crate::domain::{
    InputKind, Pending, RateLimited, Rules, Status, Timestamp, Traceparent, Transition, UserId, UserRecord,
};
use crate::error::{Error, ErrorKind};
use crate::events::{Event, EventKind, EventPublisher};
use crate::metrics::{FLAPS_SUPPRESSED, TRANSITIONS};
use crate::outage::Outages;
use crate::service::UserInput;
use crate::store::{Change, Committed, Ending, Index, Loaded, PresenceStore, StoreError};

/// How often a change is decided anew because somebody else wrote in between. Each time somebody got further.
const ROUNDS: usize = 32;
/// How many users go along the road together. Those of the next part do so at the same time: while the store works for the
/// one, this process and NATS work for the other.
const PART: usize = 500;
/// When the sweeper looks after a change that was not finished. Longer than publishing takes at most.
const FIRST_REMINDER: Duration = Duration::from_secs(2);
/// The bounds between which it looks again, at half the age of what is pending, while nobody can be told.
const NEXT_REMINDER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is to be decided of one user.
pub(crate) struct Work<'a> {
    /// Of whom.
    pub user_id: UserId,
    /// What happened, in this order; nothing for the sweep, by which only time passes.
    pub inputs: Vec<&'a UserInput>,
    /// The index entry that led here, if one did.
    pub due: Option<(Index, Timestamp)>,
    /// The trace of changes that no input causes.
    pub trace: Traceparent,
}

/// What was decided.
pub(crate) struct Decided {
    /// The record as it is now.
    pub record: UserRecord,
    /// When it was decided.
    pub at: Timestamp,
    /// For each input, whether it was refused.
    pub refused: Vec<Option<RateLimited>>,
    /// How often others were spared to see the user leave and return, by reason.
    spared: Spared,
}

/// Absences that nobody is told of.
#[derive(Default)]
struct Spared {
    /// The user came back within the resume grace.
    resumed: u64,
    /// The store had been away, and the user is heard of again.
    held: u64,
}

/// The parts that the road leads through.
pub(crate) struct Road<'a> {
    pub store: &'a dyn PresenceStore,
    pub events: &'a dyn EventPublisher,
    pub clock: &'a dyn Clock,
    pub outages: &'a Outages,
    pub rules: &'a Rules,
    /// How long changes are noted; zero for not at all.
    pub notes_ttl: Duration,
}

/// A decision that is written, or that had nothing to write.
struct Written {
    place: usize,
    loaded: Loaded,
    revision: Option<u64>,
    remind_at: Option<Timestamp>,
    changed: bool,
    decided: Decided,
}

impl Road<'_> {
    /// Decides all of it, in parts. One answer for each work, in its place.
    pub(crate) async fn decide(&self, work: &[Work<'_>]) -> Vec<Result<Decided, Error>> {
        join_all(work.chunks(PART).map(|part| self.decide_part(part))).await.into_iter().flatten().collect()
    }

    async fn decide_part(&self, work: &[Work<'_>]) -> Vec<Result<Decided, Error>> {
        let mut answers: Vec<Option<Result<Decided, Error>>> = work.iter().map(|_| None).collect();
        let mut written = Vec::with_capacity(work.len());
        let mut open: Vec<usize> = (0..work.len()).collect();
        for _ in 0..ROUNDS {
            if open.is_empty() {
                break;
            }
            open = self.round(work, open, &mut written, &mut answers).await;
        }
        for place in open {
            answers[place] = Some(Err(StoreError::Unavailable("a record that others keep writing".to_owned()).into()));
        }
        count(&written);
        futures::join!(self.tell(work, &written), self.note(&written));
        for written in written {
            answers[written.place] = Some(Ok(written.decided));
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(ErrorKind::Internal.into()))).collect()
    }

    /// Loads, decides and commits each open work once. Gives back those that somebody else got ahead of.
    async fn round(
        &self,
        work: &[Work<'_>],
        open: Vec<usize>,
        written: &mut Vec<Written>,
        answers: &mut [Option<Result<Decided, Error>>],
    ) -> Vec<usize> {
        let users: Vec<UserId> = open.iter().map(|place| work[*place].user_id).collect();
        let started = Instant::now();
        let (loaded, now) = match self.clock.now().await {
            Ok(now) => (self.store.load(&users).await, now),
            Err(error) => (users.iter().map(|_| Err(error.clone())).collect(), Timestamp::default()),
        };
        self.outages.note(started, &loaded);
        let mut changes = Vec::new();
        let mut changed = Vec::new();
        let mut held = None;
        for (place, loaded) in open.into_iter().zip(loaded) {
            let loaded = match loaded {
                Ok(loaded) => loaded,
                Err(error) => {
                    answers[place] = Some(Err(error.into()));
                    continue;
                }
            };
            let mut decided = self.transition(&work[place], &loaded.record, now);
            if has_returned(&decided, &loaded.record) {
                if held.is_none() {
                    held = Some(self.held_until().await);
                }
                match &held {
                    Some(Ok(Some(_))) => pass_over_absence(&mut decided, &loaded.record),
                    // Of a cluster, the part that knows of a hold may be away: whoever returns is not told as gone.
                    Some(Err(error)) => {
                        answers[place] = Some(Err(error.kind().into()));
                        continue;
                    }
                    Some(Ok(None)) | None => {}
                }
            }
            if is_same(&decided.record, &loaded.record) {
                let revision = loaded.revision;
                written.push(Written { place, loaded, revision, remind_at: None, changed: false, decided });
                continue;
            }
            let Decided { record, at, refused, spared } = decided;
            let unfinished = !record.pending.is_empty() || self.ends_sooner(&record, &loaded.record);
            changes.push(Change {
                durable: record.outlives(&loaded.record, now, self.rules),
                remind_at: unfinished.then_some(now + FIRST_REMINDER),
                valid_until: loaded.record.next_deadline(now, self.rules),
                record,
                loaded,
            });
            changed.push((place, at, refused, spared));
        }
        if changes.is_empty() {
            return Vec::new();
        }
        let committed = self.store.commit(&changes).await;
        let mut again = Vec::new();
        for (((place, at, refused, spared), change), committed) in changed.into_iter().zip(changes).zip(committed) {
            match committed {
                Ok(Committed::Done(revision)) => {
                    let Change { loaded, record, remind_at, .. } = change;
                    let decided = Decided { record, at, refused, spared };
                    let revision = Some(revision);
                    written.push(Written { place, loaded, revision, remind_at, changed: true, decided });
                }
                Ok(Committed::Conflict) => again.push(place),
                Err(error) => answers[place] = Some(Err(error.into())),
            }
        }
        again
    }

    fn transition(&self, work: &Work<'_>, record: &UserRecord, now: Timestamp) -> Decided {
        let mut record = record.clone();
        // To look after a change ends nobody's session: that may be held.
        if let Some((Index::Deadlines, _)) = work.due {
            record.expire(now, &work.trace, self.rules);
        }
        let mut refused = Vec::with_capacity(work.inputs.len());
        let mut spared = Spared::default();
        for input in &work.inputs {
            // Nor does a sign of life that waited too long end any, which is all that it could do.
            if input.input.proves_nothing(now, self.rules) {
                refused.push(None);
                continue;
            }
            let trace = input.traceparent.as_ref().unwrap_or(&work.trace);
            let was_going = record.is_kept_by_grace(now, self.rules);
            refused.push(record.apply(&input.input, now, trace, self.rules).err());
            let is_back = matches!(input.input.kind, InputKind::Opened { .. } | InputKind::Heartbeat { .. });
            spared.resumed += u64::from(was_going && is_back && !record.is_kept_by_grace(now, self.rules));
        }
        Decided { record, at: now, refused, spared }
    }

    /// Whether there is a deadline sooner than the index knows, as when a connection broke and only lingers. Others see
    /// no change yet, and after a crash nobody would come in time to tell the one that follows.
    fn ends_sooner(&self, record: &UserRecord, before: &UserRecord) -> bool {
        let deadline = |record: &UserRecord| record.next_deadline(record.settled_at, self.rules);
        let known = before.lapsed.or_else(|| deadline(before));
        deadline(record).is_some_and(|new| known.is_none_or(|known| new < known))
    }

    /// Until when expiries are held, if they are.
    pub(crate) async fn held_until(&self) -> Result<Option<Timestamp>, Error> {
        self.outages.held_until(self.store, self.clock, self.rules).await
    }

    /// Notes the new changes, where that is wanted. What can't be noted is only missed by whoever asks why.
    async fn note(&self, written: &[Written]) {
        if self.notes_ttl.is_zero() {
            return;
        }
        let notes = written.iter().map(|written| async move {
            let transitions: Vec<Transition> = written.changes().map(Transition::from).collect();
            if transitions.is_empty() {
                return;
            }
            let user = written.decided.record.user_id;
            if let Err(error) = self.store.note(user, &transitions, self.notes_ttl).await {
                tracing::debug!(user_id = %user, %error, "changes are not noted");
            }
        });
        join_all(notes).await;
    }

    /// Publishes what is pending, and finishes what was written. What fails here is found again by the sweeper.
    async fn tell(&self, work: &[Work<'_>], written: &[Written]) {
        let published = self.publish(written).await;
        let endings = written.iter().zip(published);
        let endings = endings.filter_map(|(written, published)| self.ending(&work[written.place], written, published));
        let endings: Vec<Ending> = endings.collect();
        if endings.is_empty() {
            return;
        }
        if let Err(error) = self.store.finish(&endings).await {
            tracing::warn!(%error, "changes are left to the sweeper to finish");
        }
    }

    /// Says of each whether all that was pending is known to be published.
    ///
    /// Everyone's oldest change goes first, and the next one only once that has arrived: a consumer who has the later of
    /// two changes takes no notice of the earlier.
    async fn publish(&self, written: &[Written]) -> Vec<bool> {
        let pending = |written: &Written| written.decided.record.pending.len();
        let mut published = vec![true; written.len()];
        for depth in 0..written.iter().map(pending).max().unwrap_or_default() {
            let (mut places, mut wave) = (Vec::new(), Vec::new());
            for (place, written) in written.iter().enumerate().filter(|(place, _)| published[*place]) {
                let next = written.decided.record.pending.get(depth).into_iter().flat_map(events);
                wave.extend(next);
                places.resize(wave.len(), place);
            }
            if wave.is_empty() {
                break;
            }
            for (place, outcome) in places.into_iter().zip(self.events.publish(&wave).await) {
                if let Err(error) = outcome
                    && std::mem::take(&mut published[place])
                {
                    tracing::warn!(user_id = %written[place].decided.record.user_id, %error, "a change stays pending");
                }
            }
        }
        published
    }

    fn ending(&self, work: &Work<'_>, written: &Written, published: bool) -> Option<Ending> {
        let record = &written.decided.record;
        let oldest = record.pending.first().map(|pending| pending.at);
        if !written.changed && oldest.is_none() && work.due.is_none() {
            return None;
        }
        let now = written.decided.at;
        let new_deadline = record.next_deadline(record.settled_at, self.rules);
        let before = &written.loaded.record;
        let old_deadline = match work.due {
            Some((Index::Deadlines, at)) => Some(at),
            _ if written.changed => before.lapsed.or_else(|| before.next_deadline(before.settled_at, self.rules)),
            // Somebody else wrote this and may not have come as far as the index: anything there is unexpected.
            _ => None,
        };
        let old_reminder = match work.due {
            Some((Index::Reminders, at)) => written.remind_at.or(Some(at)),
            _ => written.remind_at,
        };
        let (shortest, longest) = NEXT_REMINDER;
        let again = |oldest| now + (now.since(oldest) / 2).clamp(shortest, longest);
        Some(Ending {
            user_id: record.user_id,
            published: written.revision.filter(|_| published && oldest.is_some()),
            old_deadline,
            new_deadline,
            old_reminder,
            new_reminder: oldest.filter(|_| !published).map(again),
        })
    }
}

impl Written {
    /// What others see change by this decision.
    fn changes(&self) -> impl Iterator<Item = &Pending> {
        let known = if self.changed { self.loaded.record.version } else { u64::MAX };
        self.decided.record.pending.iter().filter(move |pending| pending.presence.version > known)
    }
}

/// Counts what others see change, and what they are spared.
fn count(written: &[Written]) {
    for written in written.iter().filter(|written| written.changed) {
        for pending in written.changes() {
            let (from, to) = (pending.from.map_or("unknown", Status::as_str), pending.presence.status.as_str());
            let reason = pending.cause.as_str();
            metrics::counter!(TRANSITIONS, "from" => from, "to" => to, "reason" => reason).increment(1);
        }
        let Spared { resumed, held } = written.decided.spared;
        for (reason, times) in [("resumed", resumed), ("held", held)].into_iter().filter(|(_, times)| *times > 0) {
            metrics::counter!(FLAPS_SUPPRESSED, "reason" => reason).increment(times);
        }
    }
}

/// The events of one change.
fn events(pending: &Pending) -> impl Iterator<Item = Event> + use<> {
    let event = |kind| Event::presence(kind, &pending.presence, pending.at, pending.trace.clone());
    let status = pending.status.then(|| event(EventKind::Status));
    let activity = pending.activity.then(|| event(EventKind::Activity));
    status.into_iter().chain(activity)
}

/// Whether a session's end was decided just now, and a change after it that happens now. Ends alone are no return.
fn has_returned(decided: &Decided, before: &UserRecord) -> bool {
    let new = decided.record.pending.iter().filter(|pending| pending.presence.version > before.version);
    let (mut ended, mut changed) = (false, false);
    for pending in new {
        let is_past = pending.at < decided.at;
        (ended, changed) = (ended || is_past, changed || !is_past);
    }
    ended && changed
}

/// While expiries are held, those of a user who has returned are not told, only the return. It is told even if it looks
/// like what was told last: somebody may have read in between.
fn pass_over_absence(decided: &mut Decided, before: &UserRecord) {
    let now = decided.at;
    let is_absence = |pending: &Pending| pending.presence.version > before.version && pending.at < now;
    let pending = std::mem::take(&mut decided.record.pending);
    let (absences, mut told): (Vec<Pending>, Vec<Pending>) = pending.into_iter().partition(is_absence);
    decided.spared.held += u64::from(!absences.is_empty());
    if let Some(first) = told.iter_mut().find(|pending| pending.presence.version > before.version) {
        first.status |= absences.iter().any(|absence| absence.status);
        first.activity |= absences.iter().any(|absence| absence.activity) && first.presence.status != Status::Offline;
    }
    decided.record.pending = told;
}

/// Whether nothing has changed but that time has passed without anything to tell.
fn is_same(new: &UserRecord, old: &UserRecord) -> bool {
    let mut old = old.clone();
    old.settled_at = new.settled_at;
    old.lapsed = new.lapsed;
    *new == old
}
