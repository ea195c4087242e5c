//! Keys that an issuer publishes as a JWK set (RFC 7517): fetched, cached, refreshed in good time.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::sync::watch;
use url::Url;

use super::AuthError;
use super::key::{Jwk, VerifyingKey};
use crate::config::redacted;
use crate::error::{Error, ErrorKind};

/// Keys older than this are refreshed by the next request, which is served with them all the same.
const REFRESH_AFTER: Duration = Duration::from_secs(5 * 60);

/// Keys older than this are not used: an issuer that has been away for a day can't have told which it withdrew.
const STALE_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The least time between the starts of two fetches, whatever they are for. Unknown key ids cost nothing more.
const REFETCH_INTERVAL: Duration = Duration::from_secs(10);

/// How long the request that starts a refresh waits for it. Long enough for an issuer in good health, so that a
/// function that is frozen between requests gets its keys too.
const PATIENCE: Duration = Duration::from_millis(250);

/// The most that a fetch may take, from the connection to the last byte.
const FETCH_DEADLINE: Duration = Duration::from_secs(3);

/// The most bytes of a key set.
const BODY_LIMIT: usize = 256 * 1024;

/// The key set of one issuer.
pub(super) struct Jwks(Arc<Inner>);

struct Inner {
    url: Url,
    client: reqwest::Client,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: Option<Keys>,
    last_start: Option<Instant>,
    /// Closed by the end of the fetch, however it ends.
    under_way: Option<watch::Receiver<()>>,
}

#[derive(Clone)]
struct Keys {
    keys: Arc<[Key]>,
    fetched: Instant,
}

struct Key {
    id: Option<String>,
    key: VerifyingKey,
}

/// A fetch under way.
struct Flight {
    done: watch::Receiver<()>,
    /// This request started it.
    ours: bool,
}

/// A client of HTTP that trusts the public certificate authorities and ends each request within a time. One `without_tls`
/// asks no proxy: it speaks to this machine, or to one beside it.
pub(crate) fn https_client(deadline: Duration, without_tls: bool) -> Result<reqwest::Client, Error> {
    client(deadline, without_tls, RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() })
}

fn client(deadline: Duration, without_tls: bool, roots: RootCertStore) -> Result<reqwest::Client, Error> {
    let internal = |error: Box<dyn std::error::Error + Send + Sync>| Error::new(ErrorKind::Internal, error);
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| internal(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .timeout(deadline)
        // Minutes may lie between two requests, or a freeze: an idle connection would be found dead.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("presence-service/", env!("CARGO_PKG_VERSION")));
    let client = if without_tls { client.no_proxy() } else { client };
    client.build().map_err(|error| internal(error.into()))
}

impl Jwks {
    /// Fetches nothing yet.
    pub(super) fn new(url: Url) -> Result<Self, Error> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        Self::with_roots(url, roots)
    }

    pub(super) fn with_roots(url: Url, roots: RootCertStore) -> Result<Self, Error> {
        let client = client(FETCH_DEADLINE, url.scheme() == "http", roots)?;
        Ok(Self(Arc::new(Inner { url, client, cache: Mutex::default() })))
    }

    /// The keys that a token with this `kid` and `alg` may be checked with; none if there is no such key.
    pub(super) async fn keys(
        &self,
        kid: Option<&str>,
        alg: &str,
        now: Instant,
    ) -> Result<Vec<VerifyingKey>, AuthError> {
        let keys = self.current(now).await?;
        if let Some(known) = keys.matching(kid, alg) {
            return Ok(known);
        }
        if let Some(flight) = self.fetch(now) {
            flight.end().await;
        }
        Ok(self.cached(now).and_then(|keys| keys.matching(kid, alg)).unwrap_or_default())
    }

    /// The keys in use, if need be fetched first.
    async fn current(&self, now: Instant) -> Result<Keys, AuthError> {
        match self.cached(now) {
            Some(keys) if now.saturating_duration_since(keys.fetched) < REFRESH_AFTER => return Ok(keys),
            Some(keys) => {
                if let Some(flight) = self.fetch(now)
                    && flight.ours
                {
                    let _ = tokio::time::timeout(PATIENCE, flight.end()).await;
                }
                return Ok(self.cached(now).unwrap_or(keys));
            }
            None => {}
        }
        if let Some(flight) = self.fetch(now) {
            flight.end().await;
        }
        self.cached(now).ok_or(AuthError::Unavailable)
    }

    fn cached(&self, now: Instant) -> Option<Keys> {
        let keys = self.0.cache().keys.clone()?;
        (now.saturating_duration_since(keys.fetched) < STALE_LIMIT).then_some(keys)
    }

    /// Joins the fetch under way, or starts one; none if the last started too short a time ago. It goes on by itself,
    /// also when the request that started it is gone.
    fn fetch(&self, now: Instant) -> Option<Flight> {
        let mut cache = self.0.cache();
        if let Some(done) = &cache.under_way
            && done.has_changed().is_ok()
        {
            return Some(Flight { done: done.clone(), ours: false });
        }
        if cache.last_start.is_some_and(|start| now.saturating_duration_since(start) < REFETCH_INTERVAL) {
            return None;
        }
        let (under_way, done) = watch::channel(());
        cache.last_start = Some(now);
        cache.under_way = Some(done.clone());
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            inner.refresh(now).await;
            drop(under_way);
        });
        Some(Flight { done, ours: true })
    }
}

impl Flight {
    /// Nothing is ever sent: the channel closes when the fetch ends.
    async fn end(mut self) {
        while self.done.changed().await.is_ok() {}
    }
}

impl Inner {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the keys if the issuer has any. An answer without one is taken for a fault of the issuer's.
    async fn refresh(&self, now: Instant) {
        match self.download().await {
            Ok(keys) => {
                let count = keys.len();
                self.cache().keys = Some(Keys { keys: keys.into(), fetched: now });
                tracing::debug!(count, "keys of tokens fetched");
            }
            Err(error) => {
                tracing::warn!(url = redacted(self.url.as_str()), error, "the keys of tokens can't be fetched");
            }
        }
    }

    async fn download(&self) -> Result<Vec<Key>, String> {
        let told = |error: reqwest::Error| {
            let error = error.without_url();
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        };
        let mut response = self.client.get(self.url.clone()).send().await.map_err(told)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("status {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(format!("more than {BODY_LIMIT} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let keys = parse(&body)?;
        if keys.is_empty() { Err("no key that can be used".to_owned()) } else { Ok(keys) }
    }
}

impl Keys {
    /// None if the key is not known; of a known key, none is given to a token of another algorithm. A token without a
    /// `kid` leaves no choice only where there is one key.
    fn matching(&self, kid: Option<&str>, alg: &str) -> Option<Vec<VerifyingKey>> {
        let candidates: Vec<&Key> = match kid {
            Some(kid) => self.keys.iter().filter(|key| key.id.as_deref() == Some(kid)).collect(),
            None => self.keys.iter().filter(|key| key.key.algorithm().name() == alg).collect(),
        };
        match (kid, candidates.len()) {
            (Some(_), 0) => None,
            (Some(_), _) | (None, 1) => Some(candidates.into_iter().map(|key| key.key.clone()).collect()),
            (None, _) => Some(Vec::new()),
        }
    }
}

/// The keys of a set that can be used here; the others are for someone else (RFC 7517 section 5).
fn parse(body: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }

    let set: Set = serde_json::from_slice(body).map_err(|_| "not a JWK set".to_owned())?;
    let usable = |value: serde_json::Value| {
        let jwk: Jwk = serde_json::from_value(value).map_err(|_| "is not a JWK".to_owned())?;
        let key = VerifyingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
        Ok::<_, String>(Key { id: jwk.kid, key })
    };
    Ok(set
        .keys
        .into_iter()
        .enumerate()
        .filter_map(|(index, value)| {
            usable(value).map_err(|reason| tracing::debug!(index, reason, "a key is skipped")).ok()
        })
        .collect())
}
