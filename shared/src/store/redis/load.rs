//! Reading records.

use redis::Value;

use super::connection::Source;
use super::{RedisStore, Stored, codec, keys, member, read, with_key};
use crate::domain::{Timestamp, UserId, UserRecord};
use crate::store::{Index, Loaded, StoreError, shard_of};

/// The users of whom something else than the hash has to be read, and their places.
type Places = Vec<(usize, UserId)>;

impl RedisStore {
    pub(super) async fn load_from(&self, source: Source, users: &[UserId]) -> Vec<Result<Loaded, StoreError>> {
        let hashes = users.iter().map(|user| with_key("HGETALL", keys::user(*user))).collect();
        let hashes = self.connection.read_all(source, hashes).await;
        let hashes: Vec<Result<Stored, StoreError>> = hashes.into_iter().map(read).collect();
        let those = |wanted: fn(&Stored) -> bool| {
            let places = users.iter().zip(&hashes).enumerate();
            let places = places.filter(|(_, (_, hash))| hash.as_ref().is_ok_and(wanted));
            places.map(|(place, (user, _))| (place, *user)).collect::<Places>()
        };
        let forgotten = those(Stored::is_empty);
        let pending = those(|hash| hash.contains_key(keys::PENDING));

        let records = users.iter().zip(hashes).map(|(user, hash)| loaded(*user, hash?));
        let mut records: Vec<Result<Loaded, StoreError>> = records.collect();
        if !forgotten.is_empty() {
            self.load_forgotten(source, &forgotten, &mut records).await;
        }
        if !pending.is_empty() {
            self.load_pending(source, &pending, &mut records).await;
        }
        records
    }

    /// Of users whose hash is gone: what outlives it, and whether they are still to be told offline.
    async fn load_forgotten(&self, source: Source, places: &Places, records: &mut [Result<Loaded, StoreError>]) {
        let commands = places.iter().flat_map(|(_, user)| {
            let mut deadline = with_key("ZSCORE", keys::index(Index::Deadlines, shard_of(*user)));
            deadline.arg(member(*user));
            [with_key("HGETALL", keys::profile(*user)), deadline, with_key("HGETALL", keys::user(*user))]
        });
        let mut answers = self.connection.read_all(source, commands.collect()).await.into_iter();
        let mut pending = Places::new();
        for (place, user) in places {
            let (Some(profile), Some(deadline), Some(hash)) = (answers.next(), answers.next(), answers.next()) else {
                break;
            };
            let hash = read::<Stored>(hash);
            // It is written before the index, and with the profile: one who has come online meanwhile has it by now.
            if hash.as_ref().is_ok_and(Stored::is_empty) {
                records[*place] = forgotten(*user, profile, deadline);
                continue;
            }
            if hash.as_ref().is_ok_and(|hash| hash.contains_key(keys::PENDING)) {
                pending.push((*place, *user));
            }
            records[*place] = hash.and_then(|hash| loaded(*user, hash));
        }
        if !pending.is_empty() {
            self.load_pending(source, &pending, records).await;
        }
    }

    async fn load_pending(&self, source: Source, places: &Places, records: &mut [Result<Loaded, StoreError>]) {
        let commands = places.iter().map(|(_, user)| with_key("GET", keys::pending(*user))).collect();
        for ((place, _), answer) in places.iter().zip(self.connection.read_all(source, commands).await) {
            let pending = read(answer).and_then(|text: Option<String>| {
                text.map_or_else(|| Ok(Vec::new()), |text| codec::decode_pending(&text))
            });
            match (&mut records[*place], pending) {
                (Ok(loaded), Ok(pending)) => loaded.record.pending = pending,
                (record, Err(error)) => *record = Err(error),
                (Err(_), Ok(_)) => {}
            }
        }
    }
}

fn forgotten(
    user: UserId,
    profile: Result<Value, StoreError>,
    deadline: Result<Value, StoreError>,
) -> Result<Loaded, StoreError> {
    let profile: Stored = read(profile)?;
    let mut record = codec::decode_profile(user, &profile)?;
    let deadline: Option<f64> = read(deadline)?;
    record.lapsed = deadline.map(|score| Timestamp::from_millis(score as i64));
    Ok(Loaded { record, revision: None, stored: Stored::new() })
}

fn loaded(user: UserId, stored: Stored) -> Result<Loaded, StoreError> {
    if stored.is_empty() {
        return Ok(Loaded { record: UserRecord::unknown(user), revision: None, stored });
    }
    let record = codec::decode(user, &stored)?;
    let revision = stored.get(keys::REVISION).and_then(|text| text.parse().ok());
    let revision = revision.ok_or_else(|| StoreError::Corrupt("a user's record without a revision".to_owned()))?;
    Ok(Loaded { record, revision: Some(revision), stored })
}
