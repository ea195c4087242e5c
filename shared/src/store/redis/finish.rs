//! Ending what a commit began: the next deadline, what was pending, and the reminder.

use redis::Cmd;

use super::scripts::Script;
use super::{RedisStore, USER_TTL, all_done, keys, member, moment};
use crate::domain::{Timestamp, UserId};
use crate::failpoint;
use crate::store::{Ending, Index, StoreError, shard_of};

/// What one call of the script does. Those of one shard stand together.
#[derive(Default)]
struct Finish {
    /// Within the deadline index.
    moves: Vec<Move>,
    /// Of whom all is published, up to which revision.
    published: Vec<(UserId, u64)>,
    /// Within the reminders.
    reminders: Vec<Move>,
}

/// Of whom, which moment is expected in the index, and which is to be there.
type Move = (UserId, Option<Timestamp>, Option<Timestamp>);

impl RedisStore {
    /// On one server a script does all of it, for as many users by one call as it is for. In a cluster it is called for each
    /// shard of an index and for each user, and once more for the reminders when all of that is done.
    pub(super) async fn finish_all(&self, endings: &[Ending]) -> Result<(), StoreError> {
        let mut endings: Vec<&Ending> = endings.iter().collect();
        endings.sort_by_key(|ending| shard_of(ending.user_id));
        let parts = endings.chunks(self.scripts.finish.at_once()).map(Finish::of);
        if !self.connection.is_cluster() {
            return self.run_finishes(parts.collect()).await;
        }
        let (mut first, mut then) = (Vec::new(), Vec::new());
        for Finish { moves, published, reminders } in parts {
            first.extend(by_shard(&moves).map(|moves| Finish { moves: moves.to_vec(), ..Finish::default() }));
            first.extend(published.into_iter().map(|one| Finish { published: vec![one], ..Finish::default() }));
            then.extend(by_shard(&reminders).map(|one| Finish { reminders: one.to_vec(), ..Finish::default() }));
        }
        self.run_finishes(first).await?;
        failpoint::reach("finish.confirmed").await?;
        self.run_finishes(then).await
    }

    async fn run_finishes(&self, finishes: Vec<Finish>) -> Result<(), StoreError> {
        let script = &self.scripts.finish;
        let calls = finishes.iter().map(|finish| finish.call(script));
        all_done(self.connection.run_all(calls.collect(), Some(script)).await)
    }
}

impl Finish {
    fn of(endings: &[&Ending]) -> Self {
        let mut finish = Self::default();
        for ending in endings {
            let user = ending.user_id;
            if ending.concerns_deadlines() {
                finish.moves.push((user, ending.old_deadline, ending.new_deadline));
            }
            finish.published.extend(ending.published.map(|revision| (user, revision)));
            if ending.old_reminder.is_some() || ending.new_reminder.is_some() {
                finish.reminders.push((user, ending.old_reminder, ending.new_reminder));
            }
        }
        finish
    }

    fn call(&self, script: &Script) -> Cmd {
        let Self { moves, published, reminders } = self;
        let shards = |index, moves| by_shard(moves).map(move |moves| keys::index(index, shard_of(moves[0].0)));
        let users = published.iter().flat_map(|(user, _)| [keys::user(*user), keys::pending(*user)]);
        let keys = shards(Index::Deadlines, moves).chain(users).chain(shards(Index::Reminders, reminders));
        let arguments = 4 + 4 * (moves.len() + reminders.len()) + published.len();
        let mut command = script.call(&keys.collect::<Vec<_>>(), arguments);
        command.arg(USER_TTL.as_secs());
        command.arg(by_shard(moves).count()).arg(published.len()).arg(by_shard(reminders).count());
        write_moves(&mut command, moves);
        command.arg(published.iter().map(|(_, revision)| *revision).collect::<Vec<_>>());
        write_moves(&mut command, reminders);
        command
    }
}

fn by_shard(moves: &[Move]) -> impl Iterator<Item = &[Move]> {
    moves.chunk_by(|(one, ..), (other, ..)| shard_of(*one) == shard_of(*other))
}

fn write_moves(command: &mut Cmd, moves: &[Move]) {
    for moves in by_shard(moves) {
        command.arg(moves.len());
        for (user, old, new) in moves {
            command.arg(member(*user)).arg(moment(*old)).arg(moment(*new));
        }
    }
}
