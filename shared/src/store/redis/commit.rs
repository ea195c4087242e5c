//! Writing records, and confirming that what they told is published.

use std::time::Duration;

use futures::future::join_all;
use redis::cmd;

use super::{RedisStore, USER_TTL, codec, keys, read};
use crate::domain::{Timestamp, UserId};
use crate::store::{Change, Committed, StoreError};

/// How long the replicas may take to have the choice of invisible. Less than one command may take.
const REPLICAS_TIMEOUT: Duration = Duration::from_millis(300);

/// What one commit has to say.
struct Write {
    revision: u64,
    keys: [String; 3],
    arguments: Vec<String>,
}

impl RedisStore {
    pub(super) async fn commit_all(&self, changes: &[Change]) -> Vec<Result<Committed, StoreError>> {
        let writes: Vec<Write> = changes.iter().map(|change| self.write(change)).collect();
        let waits = |change: &Change| self.wait_replicas > 0 && hides(change);
        let all = || changes.iter().zip(&writes);
        let plain = all().filter(|(change, _)| !waits(change)).map(|(_, write)| {
            let mut command = self.scripts.commit.call(&write.keys);
            command.arg(&write.arguments);
            command
        });
        let plain = self.connection.run_all(plain.collect(), Some(&self.scripts.commit));
        let waiting = join_all(all().filter(|(change, _)| waits(change)).map(|(_, write)| self.write_and_wait(write)));
        let (plain, waiting) = futures::join!(plain, waiting);
        let (mut plain, mut waiting) = (plain.into_iter().map(read), waiting.into_iter());
        let committed = all().map(|(change, write)| {
            let written = if waits(change) { waiting.next() } else { plain.next() };
            let written = written.unwrap_or_else(|| Err(StoreError::Corrupt("no answer".to_owned())))?;
            Ok(if written { Committed::Done(write.revision) } else { Committed::Conflict })
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
        let renewed = codec::renewable(&loaded.stored);

        let mut arguments = vec![loaded.revision.map_or_else(String::new, |revision| revision.to_string())];
        arguments.push(renewed.map_or_else(String::new, |(name, _)| name.clone()));
        arguments.push(renewed.map_or_else(String::new, |(_, value)| value.chars().skip(1).collect()));
        arguments.push(change.valid_until.map_or_else(String::new, |until| until.millis().to_string()));
        arguments.push(USER_TTL.as_secs().to_string());
        arguments.push(codec::encode_pending(&record.pending));
        arguments.push(gone.len().to_string());
        arguments.extend(gone.into_iter().cloned());
        arguments.push(set.len().to_string());
        arguments.extend(set.into_iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
        if change.durable {
            let expires_at = codec::profile_expires_at(record, &self.rules);
            arguments.push(expires_at.map_or(0, Timestamp::millis).to_string());
            let profile = codec::encode_profile(record);
            let absent = codec::PROFILE.into_iter().filter(|name| !profile.contains_key(*name));
            let absent: Vec<String> = absent.map(str::to_owned).collect();
            arguments.push(absent.len().to_string());
            arguments.extend(absent);
            arguments.extend(profile.into_iter().flat_map(|(name, value)| [name, value]));
        }
        let user = record.user_id;
        Write { revision, keys: [keys::user(user), keys::profile(user), keys::pending(user)], arguments }
    }

    /// A commit that counts only once so many replicas have it too, so that a failover makes nobody visible. Sent as
    /// one, because the server waits for what came over the same connection.
    async fn write_and_wait(&self, write: &Write) -> Result<bool, StoreError> {
        let (mut commit, mut wait) = (cmd("EVAL"), cmd("WAIT"));
        commit.arg(self.scripts.commit.text).arg(write.keys.len()).arg(&write.keys).arg(&write.arguments);
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
            let mut command = self.scripts.confirm.call(&[keys::user(user), keys::pending(user)]);
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
