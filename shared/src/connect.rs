//! From the configuration to the use cases: which store and which publisher a process runs on.

use std::sync::Arc;

use crate::config::Config;
use crate::domain::Rules;
use crate::events::{EventPublisher, MemoryBus};
use crate::service::PresenceService;
use crate::store::{MemoryStore, PresenceStore, RedisConfig, RedisStore, StoreError};

/// What can't be connected to, whatever the other side does.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `REDIS_URL` can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The use cases on what the configuration names, else on what is embedded. Nothing is awaited: the other sides may be
/// away at the start.
pub fn connect(config: &Config) -> Result<PresenceService, ConnectError> {
    let rules = Rules {
        heartbeat_interval: config.heartbeat_interval,
        heartbeat_timeout: config.heartbeat_timeout,
        resume_grace: config.resume_grace,
        typing_timeout: config.typing_timeout,
        last_seen_ttl: config.last_seen_ttl,
    };
    let store: Arc<dyn PresenceStore> = match &config.redis_url {
        Some(url) => {
            let redis = RedisConfig { url: url.clone(), cluster: config.redis_cluster };
            Arc::new(RedisStore::new(&redis, rules)?)
        }
        None => Arc::new(MemoryStore::new(rules)),
    };
    let events: Arc<dyn EventPublisher> = Arc::new(MemoryBus::new());
    Ok(PresenceService::new(store, events, rules))
}
