//! What every handler needs: the use cases, the keys that tell who calls, and the limits of a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use presence::PresenceService;
use presence::auth::Authenticator;

/// The state of a router. Cheap to clone; every request holds one.
#[derive(Clone)]
pub struct App {
    service: Arc<PresenceService>,
    authenticator: Arc<Authenticator>,
    settings: Arc<Settings>,
}

/// How much and how long one request may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// How long a body may be on its way, counted from when a handler asks for it.
    pub body_time: Duration,
    /// How long a request may take as a whole, its body included. The time limit of a function must be longer.
    pub request_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: 64 * 1024, body_time: Duration::from_secs(5), request_time: Duration::from_secs(10) }
    }
}

/// Something besides the store and the events that a process needs before it can serve.
type Probe = Arc<dyn Fn() -> bool + Send + Sync>;

#[derive(Clone, Default)]
struct Settings {
    limits: Limits,
    cors_origins: Vec<HeaderValue>,
    probes: Vec<(&'static str, Probe)>,
}

impl App {
    /// An app with the default limits, without CORS.
    pub fn new(service: Arc<PresenceService>, authenticator: Arc<Authenticator>) -> Self {
        Self { service, authenticator, settings: Arc::default() }
    }

    /// The same app for browsers: pages of these origins may call it. Values that no header can hold are left out,
    /// since no browser can send them.
    pub fn with_cors_origins<'a>(mut self, origins: impl IntoIterator<Item = &'a str>) -> Self {
        let origins = origins.into_iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
        Arc::make_mut(&mut self.settings).cors_origins = origins;
        self
    }

    /// The same app with other limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        Arc::make_mut(&mut self.settings).limits = limits;
        self
    }

    /// The same app, ready only while `is_ready` says so. `name` is its member in the body of the readiness probe.
    pub fn with_probe(mut self, name: &'static str, is_ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.settings).probes.push((name, Arc::new(is_ready)));
        self
    }

    /// The use cases.
    pub fn service(&self) -> &Arc<PresenceService> {
        &self.service
    }

    /// Who calls.
    pub fn authenticator(&self) -> &Arc<Authenticator> {
        &self.authenticator
    }

    /// How much and how long one request may take.
    pub fn limits(&self) -> Limits {
        self.settings.limits
    }

    /// The origins whose pages may call; none means that no browser page may.
    pub fn cors_origins(&self) -> &[HeaderValue] {
        &self.settings.cors_origins
    }

    /// The answers of the extra probes, by name.
    pub fn probes(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.settings.probes.iter().map(|(name, is_ready)| (*name, is_ready()))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("limits", &self.limits()).finish_non_exhaustive()
    }
}
