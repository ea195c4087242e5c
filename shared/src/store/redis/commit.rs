//! Writing records.

use std::time::Duration;

use futures::future::join_all;
use redis::{Cmd, cmd};

use super::scripts::Script;
use super::{RedisStore, USER_TTL, all_done, codec, keys, moment, read};
use crate::domain::Timestamp;
use crate::failpoint;
use crate::store::{Change, Committed, Index, StoreError};

/// How long the replicas may take to have the choice of invisible. Less than one command may take.
const REPLICAS_TIMEOUT: Duration = Duration::from_millis(300);

impl RedisStore {
    /// The reminders go first. One server gets them together with the commits, and works off both in their order: whatever
    /// breaks on the way, no commit is without its reminder.
    pub(super) async fn commit_all(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        let reminders = changes.iter().filter_map(|change| Some((change.record.user_id, change.remind_at?)));
        let mut reminders = self.adds(Index::Reminders, None, reminders);
        let (waiting, plain): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(|change| self.waits(change));
        if self.connection.is_cluster() || !waiting.is_empty() {
            let reminded = all_done(self.connection.run_all(std::mem::take(&mut reminders), None).await);
            let reached = failpoint::reach("commit.reminded").await;
            if let Err(error) = reminded.and(reached) {
                return changes.iter().map(|_| Err(error.clone())).collect();
            }
        }
        let script = &self.scripts.commit;
        let plain = self.for_each(reminders, script, &plain, |changes| self.write(changes, Script::call));
        let waiting = waiting.into_iter().map(|change| self.write_and_wait(change));
        let (plain, waiting) = futures::join!(plain, join_all(waiting));
        let (mut plain, mut waiting) = (plain.into_iter(), waiting.into_iter());
        let committed = changes.iter().map(|change| {
            let written = if self.waits(change) { waiting.next() } else { plain.next() };
            let written = written.unwrap_or_else(|| Err(StoreError::Corrupt("no answer".to_owned())))?;
            Ok(if written { Committed::Done(revision(change)) } else { Committed::Conflict })
        });
        committed.collect()
    }

    /// Whether replicas must have it too: the choice of invisible.
    fn waits(&self, change: &Change) -> bool {
        let [before, after] = [&change.loaded.record, &change.record].map(|record| record.choice.intent.is_visible());
        self.wait_replicas > 0 && before && !after
    }

    /// Writes the difference between what was loaded and what is to be.
    fn write(&self, changes: &[&Change], call: fn(&Script, &[String], usize) -> Cmd) -> Cmd {
        /// As many as most commits have, so that the command seldom grows.
        const ARGUMENTS: usize = 40;
        let keys = |change: &&Change| {
            let user = change.record.user_id;
            [keys::user(user), keys::profile(user), keys::pending(user)]
        };
        let keys: Vec<String> = changes.iter().flat_map(keys).collect();
        let mut command = call(&self.scripts.commit, &keys, ARGUMENTS * changes.len());
        command.arg(USER_TTL.as_secs());
        changes.iter().for_each(|change| self.write_one(&mut command, change));
        command
    }

    fn write_one(&self, command: &mut Cmd, change: &Change) {
        let (record, loaded) = (&change.record, &change.loaded);
        let mut fields = codec::encode(record, &self.rules);
        fields.insert(keys::REVISION.to_owned(), revision(change).to_string());
        let gone = loaded.stored.keys().filter(|name| codec::is_ours(name) && !fields.contains_key(*name));
        let gone: Vec<&String> = gone.collect();
        // What was pending may have been confirmed since the load, which raises no revision: then the mark of it is gone
        // and the letter of the session that it names is another.
        let marked = loaded.stored.get(keys::PENDING);
        let may_differ = |name: &String| name == keys::PENDING || Some(name) == marked;
        let stands = |name: &String, value: &String| !may_differ(name) && loaded.stored.get(name) == Some(value);
        let set = fields.iter().filter(|(name, value)| !stands(name, value));
        let set: Vec<(&String, &String)> = set.collect();
        let (renewable, heartbeat) = codec::renewable(&loaded.stored).unzip();

        command.arg(loaded.revision.map_or_else(String::new, |revision| revision.to_string()));
        command.arg(renewable.map_or("", String::as_str));
        command.arg(heartbeat.map_or("", |value| codec::without_letter(value)));
        command.arg(moment(change.valid_until)).arg(codec::encode_pending(&record.pending));
        command.arg(gone.len()).arg(gone);
        command.arg(set.len()).arg(set);
        if !change.durable {
            command.arg("");
            return;
        }
        let expires_at = codec::profile_expires_at(record, &self.rules);
        let profile = codec::encode_profile(record);
        let absent: Vec<&str> = codec::PROFILE.into_iter().filter(|name| !profile.contains_key(*name)).collect();
        command.arg(expires_at.map_or(0, Timestamp::millis));
        command.arg(absent.len()).arg(absent);
        command.arg(profile.len()).arg(profile);
    }

    /// A commit that counts only once so many replicas have it too, so that a failover makes nobody visible. Sent as
    /// one, because the server waits for what came over the same connection.
    async fn write_and_wait(&self, change: &Change) -> Result<bool, StoreError> {
        let commit = self.write(&[change], Script::call_whole);
        let mut wait = cmd("WAIT");
        wait.arg(self.wait_replicas).arg(REPLICAS_TIMEOUT.as_millis() as u64);
        let mut answers = self.connection.run_all(vec![commit, wait], None).await.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(StoreError::Unavailable("no answer".to_owned())));
        let (refused, replicas): (Vec<usize>, u32) = (read(next())?, read(next())?);
        if refused.is_empty() && replicas < self.wait_replicas {
            return Err(StoreError::Unavailable(format!("only {replicas} replicas have the choice of invisible")));
        }
        Ok(refused.is_empty())
    }
}

/// The commit that is to be.
fn revision(change: &Change) -> u64 {
    (change.loaded.revision.unwrap_or_default() + 1).max(change.record.settled_at.millis() as u64)
}
