//! The hot path: heartbeats of sessions that need no decision.

use super::{RedisStore, USER_TTL, all_done, codec, keys};
use crate::domain::{Platform, Timestamp};
use crate::failpoint;
use crate::store::{Heartbeat, Index, StoreError};

impl RedisStore {
    /// For each heartbeat, whether it renewed its session; else it must be decided in full.
    pub(super) async fn renew(&self, heartbeats: &[Heartbeat], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        let over = codec::fixed(Some(now - self.rules.heartbeat_timeout));
        let script = &self.scripts.touch;
        let call = |heartbeats: &[Heartbeat]| {
            let keys: Vec<String> = heartbeats.iter().map(|beat| keys::user(beat.user_id)).collect();
            let mut command = script.call(&keys, 4 + 2 * heartbeats.len());
            command.arg(&over).arg(self.rules.heartbeat_timeout.as_millis() as u64).arg(USER_TTL.as_secs());
            command.arg(heartbeats.iter().map(letter).collect::<String>());
            for beat in heartbeats {
                command.arg(keys::session(&beat.session_id)).arg(codec::fixed(Some(beat.at)));
            }
            command
        };
        let renewed = self.for_each(Vec::new(), script, heartbeats, call).await;
        let deadlines = heartbeats.iter().zip(&renewed).filter(|(_, renewed)| matches!(renewed, Ok(true)));
        let deadlines = deadlines.map(|(beat, _)| (beat.user_id, beat.at + self.rules.heartbeat_timeout));
        if let Err(error) = failpoint::reach("touch.renewed").await {
            return heartbeats.iter().map(|_| Err(error.clone())).collect();
        }
        // A heartbeat that came late has moved nothing, and its deadline is not the next.
        let deadlines = self.adds(Index::Deadlines, Some("GT"), deadlines);
        if let Err(error) = all_done(self.connection.run_all(deadlines, None).await) {
            return heartbeats.iter().map(|_| Err(error.clone())).collect();
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
