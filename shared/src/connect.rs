//! From the configuration to the use cases: which store and which carrier of events a process runs on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::Config;
use crate::domain::{Invalid, Rules};
use crate::events::nats::{NatsDeadLetters, NatsLink, NatsOptions, NatsPublisher, Streams};
use crate::events::{DeadLetters, EventPublisher, MemoryBus, MemoryDeadLetters};
use crate::failpoint;
use crate::service::PresenceService;
use crate::store::{MemoryStore, MeteredStore, PresenceStore, RedisConfig, RedisStore, StoreError};

/// What a process is connected to.
pub struct Connected {
    /// The use cases.
    pub service: Arc<PresenceService>,
    /// How it talks to the rest.
    pub carrier: Carrier,
}

/// Who carries events.
pub enum Carrier {
    /// The bus inside this process.
    Embedded(MemoryBus),
    /// NATS.
    Nats(NatsLink),
}

/// Who runs the use cases: it decides what they may create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// A long-running process: it creates the streams that it needs.
    Process,
    /// A long-running process where an operator makes the streams: it tells which are missing.
    Provisioned,
    /// A function, which starts and ends all the time: it expects them.
    Function,
}

/// What can't be connected to, whatever the other side does.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `TLS_CA_FILE` can't be used.
    #[error("TLS_CA_FILE names {}, which can't be used: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// `REDIS_URL` or `REDIS_REPLICA_URL` can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `NATS_URL` can't be used.
    #[error("NATS_URL can't be used: {0}")]
    NatsUrl(#[from] Invalid),
    /// The client of NATS can't be set up.
    #[error("NATS can't be used: {0}")]
    Nats(#[from] async_nats::ConnectError),
}

/// Connects to what the configuration names, else to what is embedded. The other sides may be away at the start.
pub async fn connect(config: &Config, host: Host) -> Result<Connected, ConnectError> {
    let rules = Rules {
        heartbeat_interval: config.heartbeat_interval,
        heartbeat_timeout: config.heartbeat_timeout,
        resume_grace: config.resume_grace,
        typing_timeout: config.typing_timeout,
        last_seen_ttl: config.last_seen_ttl,
    };
    let authorities = config.tls_ca_file.as_deref().map(read_authorities).transpose()?;
    let store: Arc<dyn PresenceStore> = match &config.redis_url {
        Some(url) => {
            let redis = RedisConfig {
                url: url.clone(),
                cluster: config.redis_cluster,
                wait_replicas: config.redis_wait_replicas,
                replica_url: config.redis_replica_url.clone(),
            };
            Arc::new(MeteredStore::new(RedisStore::trusting(&redis, rules, authorities.as_deref())?))
        }
        None => Arc::new(MeteredStore::new(MemoryStore::new(rules))),
    };
    let carrier = match &config.nats_url {
        Some(url) => Carrier::Nats(nats(url, config.tls_ca_file.as_deref(), host).await?),
        None => Carrier::Embedded(MemoryBus::new()),
    };
    let (store, events) = (failpoint::around_store(store), failpoint::around_publisher(carrier.publisher()));
    let service = PresenceService::new(store, events, rules).keeping_notes(config.notes_ttl);
    let service = Arc::new(service);
    Ok(Connected { service, carrier })
}

/// Read once, so that a file that can't be used is told at the start.
fn read_authorities(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let unusable = |reason: String| ConnectError::Authorities { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let certificates: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable("there is no certificate in it".to_owned())),
        Ok(_) => Ok(pem),
        Err(_) => Err(unusable("it is not in PEM".to_owned())),
    }
}

async fn nats(url: &str, authorities: Option<&Path>, host: Host) -> Result<NatsLink, ConnectError> {
    let streams = match host {
        Host::Process => Streams::Ensure,
        Host::Provisioned => Streams::Provisioned,
        Host::Function => Streams::Expect,
    };
    let options = NatsOptions::new(url.parse()?, "presence", streams);
    Ok(NatsLink::connect(options.trusting(authorities.map(Path::to_owned))).await?)
}

impl Carrier {
    /// Where messages go that can't be processed.
    pub fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        match self {
            Carrier::Embedded(_) => Arc::new(MemoryDeadLetters::default()),
            Carrier::Nats(link) => Arc::new(NatsDeadLetters::new(link.clone())),
        }
    }

    fn publisher(&self) -> Arc<dyn EventPublisher> {
        match self {
            Carrier::Embedded(bus) => Arc::new(bus.clone()),
            Carrier::Nats(link) => Arc::new(NatsPublisher::new(link.clone())),
        }
    }
}
