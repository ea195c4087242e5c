//! The hot path: heartbeats of sessions that need no decision.

use super::{RedisStore, USER_TTL, codec, keys, read};
use crate::domain::{Platform, Timestamp};
use crate::failpoint;
use crate::store::{Heartbeat, Index, StoreError};

/// How many users one call of the script renews. It takes Redis less than half a millisecond, in which nobody else is
/// served; more would save nothing that can be measured.
const AT_ONCE: usize = 128;

impl RedisStore {
    /// For each heartbeat, whether it renewed its session; else it must be decided in full.
    pub(super) async fn renew(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        let at_once = if self.connection.is_cluster() { 1 } else { AT_ONCE };
        let mut renewed = self.renew_by(at_once, heartbeats, now).await;
        for (heartbeats, renewed) in heartbeats.chunks(at_once).zip(renewed.chunks_mut(at_once)) {
            // What can't be read fails the call in the middle: only that one is to be passed over.
            if heartbeats.len() > 1 && matches!(renewed, [Err(StoreError::Corrupt(_)), ..]) {
                renewed.clone_from_slice(&self.renew_by(1, heartbeats, now).await);
            }
        }
        let deadlines = heartbeats.iter().zip(&renewed).filter(|(_, renewed)| matches!(renewed, Ok(true)));
        let deadlines = deadlines.map(|(beat, _)| (beat.user_id, beat.at + self.rules.heartbeat_timeout));
        if let Err(error) = failpoint::reach("touch.renewed").await {
            return heartbeats.iter().map(|_| Err(error.clone())).collect();
        }
        // A heartbeat that came late has moved nothing, and its deadline is not the next.
        if let Err(error) = self.add(Index::Deadlines, Some("GT"), deadlines).await {
            return heartbeats.iter().map(|_| Err(error.clone())).collect();
        }
        renewed
    }

    async fn renew_by(
        &self,
        at_once: usize,
        heartbeats: &[Heartbeat],
        now: Timestamp,
    ) -> Vec<Result<bool, StoreError>> {
        let over = codec::fixed(Some(now - self.rules.heartbeat_timeout));
        let calls = heartbeats.chunks(at_once).map(|heartbeats| {
            let keys: Vec<String> = heartbeats.iter().map(|beat| keys::user(beat.user_id)).collect();
            let mut command = self.scripts.touch.call(&keys, 4 + 2 * heartbeats.len());
            command.arg(&over).arg(self.rules.heartbeat_timeout.as_millis() as u64).arg(USER_TTL.as_secs());
            command.arg(heartbeats.iter().map(letter).collect::<String>());
            for beat in heartbeats {
                command.arg(keys::session(&beat.session_id)).arg(codec::fixed(Some(beat.at)));
            }
            command
        });
        let answers = self.connection.run_all(calls.collect(), Some(&self.scripts.touch)).await;
        let mut renewed = Vec::with_capacity(heartbeats.len());
        for (heartbeats, answer) in heartbeats.chunks(at_once).zip(answers) {
            match read::<Vec<usize>>(answer) {
                Ok(refused) => renewed.extend((1..=heartbeats.len()).map(|place| Ok(!refused.contains(&place)))),
                Err(error) => renewed.extend(heartbeats.iter().map(|_| Err(error.clone()))),
            }
        }
        renewed
    }
}

/// As a session that may be renewed has it: a capital.
fn letter(heartbeat: &Heartbeat) -> char {
    match heartbeat.platform.unwrap_or_default() {
        Platform::Desktop => 'D',
        Platform::Mobile => 'M',
        Platform::Web => 'W',
    }
}
