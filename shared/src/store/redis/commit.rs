//! Writing records, and confirming that what they told is published.

use std::time::Duration;

use futures::future::join_all;
use redis::{Cmd, cmd};

use super::{RedisStore, USER_TTL, codec, keys, moment, read};
use crate::domain::{Timestamp, UserId};
use crate::store::{Change, Committed, StoreError};

/// How long the replicas may take to have the choice of invisible. Less than one command may take.
const REPLICAS_TIMEOUT: Duration = Duration::from_millis(300);

/// A commit that is to be sent.
struct Write {
    revision: u64,
    command: Cmd,
    waits: bool,
}

impl RedisStore {
    pub(super) async fn commit_all(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        let (mut revisions, mut plain, mut waiting) = (Vec::with_capacity(changes.len()), Vec::new(), Vec::new());
        for change in changes {
            let Write { revision, command, waits } = self.write(change);
            revisions.push((revision, waits));
            if waits {
                waiting.push(self.run_and_wait(command));
            } else {
                plain.push(command);
            }
        }
        let plain = self.connection.run_all(plain, Some(&self.scripts.commit));
        let (plain, waiting) = futures::join!(plain, join_all(waiting));
        let (mut plain, mut waiting) = (plain.into_iter().map(read), waiting.into_iter());
        let committed = revisions.into_iter().map(|(revision, waits)| {
            let written = if waits { waiting.next() } else { plain.next() };
            let written = written.unwrap_or_else(|| Err(StoreError::Corrupt("no answer".to_owned())))?;
            Ok(if written { Committed::Done(revision) } else { Committed::Conflict })
        });
        committed.collect()
    }

    /// The difference between what was loaded and what is to be.
    fn write(&self, change: &Change) -> Write {
        let (record, loaded) = (&change.record, &change.loaded);
        let revision = (loaded.revision.unwrap_or_default() + 1).max(record.settled_at.millis() as u64);
        let mut fields = codec::encode(record, &self.rules);
        fields.insert(keys::REVISION.to_owned(), revision.to_string());
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

        let user = record.user_id;
        let keys = [keys::user(user), keys::profile(user), keys::pending(user)];
        let waits = self.wait_replicas > 0 && hides(change);
        let script = &self.scripts.commit;
        let arguments = 8 + gone.len() + 2 * set.len();
        let mut command = if waits { script.call_whole(&keys, arguments) } else { script.call(&keys, arguments) };
        command.arg(loaded.revision.map_or_else(String::new, |revision| revision.to_string()));
        command.arg(renewable.map_or("", String::as_str));
        command.arg(heartbeat.map_or("", |value| codec::without_letter(value)));
        command.arg(moment(change.valid_until)).arg(USER_TTL.as_secs());
        command.arg(codec::encode_pending(&record.pending));
        command.arg(gone.len()).arg(gone);
        command.arg(set.len()).arg(set);
        if change.durable {
            let expires_at = codec::profile_expires_at(record, &self.rules);
            let profile = codec::encode_profile(record);
            let absent: Vec<&str> = codec::PROFILE.into_iter().filter(|name| !profile.contains_key(*name)).collect();
            command.arg(expires_at.map_or(0, Timestamp::millis));
            command.arg(absent.len()).arg(absent).arg(profile);
        }
        Write { revision, command, waits }
    }

    /// A commit that counts only once so many replicas have it too, so that a failover makes nobody visible. Sent as
    /// one, because the server waits for what came over the same connection.
    async fn run_and_wait(&self, commit: Cmd) -> Result<bool, StoreError> {
        let mut wait = cmd("WAIT");
        wait.arg(self.wait_replicas).arg(REPLICAS_TIMEOUT.as_millis() as u64);
        let mut answers = self.connection.run_all(vec![commit, wait], None).await.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(StoreError::Unavailable("no answer".to_owned())));
        let (written, replicas): (bool, u32) = (read(next())?, read(next())?);
        if written && replicas < self.wait_replicas {
            return Err(StoreError::Unavailable(format!("only {replicas} replicas have the choice of invisible")));
        }
        Ok(written)
    }

    pub(super) async fn confirm_all(&self, published: impl Iterator<Item = (UserId, u64)>) -> Result<(), StoreError> {
        let calls = published.map(|(user, revision)| {
            let mut command = self.scripts.confirm.call(&[keys::user(user), keys::pending(user)], 2);
            command.arg(revision).arg(USER_TTL.as_secs());
            command
        });
        super::all_done(self.connection.run_all(calls.collect(), Some(&self.scripts.confirm)).await)
    }
}

/// Whether it is the choice of invisible.
fn hides(change: &Change) -> bool {
    change.loaded.record.choice.intent.is_visible() && !change.record.choice.intent.is_visible()
}
