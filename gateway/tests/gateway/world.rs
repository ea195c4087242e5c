//! A gateway node in this process, with the embedded store unless a test brings another, on a port of its own.

use std::sync::Arc;
use std::time::Duration;

use presence::auth::Authenticator;
use presence::config::Config;
use presence::domain::{Intent, Presence, StatusUpdate, Traceparent, UserId};
use presence::events::{Event, EventPublisher, MemoryBus};
use presence::{Carrier, Host, PresenceService, Sweeper};
use presence_gateway::{Gateway, Limits};
use presence_tests::{User, eventually, seen};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// How long a change may take that nothing holds up.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct World {
    pub(crate) port: u16,
    pub(crate) service: Arc<PresenceService>,
    pub(crate) gateway: Gateway,
    pub(crate) shutdown: CancellationToken,
    pub(crate) bus: Option<MemoryBus>,
    upkeep: Option<JoinHandle<()>>,
    server: JoinHandle<()>,
    sweeper: JoinHandle<()>,
}

/// Sweeps often, so that deadlines show at once.
async fn sweep(service: Arc<PresenceService>) {
    let sweeper = Sweeper::new(service);
    loop {
        drop(sweeper.tick().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl World {
    /// With the times and limits of the documentation.
    pub(crate) async fn start() -> Self {
        Self::with(&[], Limits::default()).await
    }

    /// With variables of the configuration, and limits.
    pub(crate) async fn with(variables: &[(&str, &str)], limits: Limits) -> Self {
        let config = config(variables);
        let connected = presence::connect(&config, Host::Process).await.unwrap();
        Self::on(connected.service, &connected.carrier, &config, limits).await
    }

    /// On a service and a carrier of one's own making.
    pub(crate) async fn on(service: Arc<PresenceService>, carrier: &Carrier, config: &Config, limits: Limits) -> Self {
        let authenticator = Arc::new(Authenticator::new(&config.auth).unwrap());
        let shutdown = CancellationToken::new();
        let (gateway, upkeep) = Gateway::new(service.clone(), authenticator, carrier, limits, shutdown.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = presence_gateway::router(gateway.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let sweeper = tokio::spawn(sweep(service.clone()));
        let upkeep = Some(tokio::spawn(upkeep.run()));
        let bus = match carrier {
            Carrier::Embedded(bus) => Some(bus.clone()),
            Carrier::Nats(_) => None,
        };
        Self { port, bus, service, gateway, shutdown, upkeep, server, sweeper }
    }

    /// A connection that identified, and its session's id.
    pub(crate) async fn connect(&self, user: &User) -> (Client, String) {
        Client::identified(self.port, user).await
    }

    /// The user changes something.
    pub(crate) async fn update(&self, user: &User, update: StatusUpdate) -> Presence {
        self.service.update_status(id(user), update, Traceparent::generate()).await.unwrap()
    }

    /// The user chooses a status, and counts as live for a while if it is a visible one.
    pub(crate) async fn choose(&self, user: &User, status: Intent) -> Presence {
        self.update(user, StatusUpdate { status: Some(status), ..StatusUpdate::default() }).await
    }

    /// The user changes the custom status.
    pub(crate) async fn say(&self, user: &User, text: &str) -> Presence {
        let custom_status = Some(Some(text.parse().unwrap()));
        self.update(user, StatusUpdate { custom_status, ..StatusUpdate::default() }).await
    }

    /// Events that no store knows of.
    pub(crate) async fn publish(&self, events: &[Event]) {
        for published in self.bus.as_ref().unwrap().publish(events).await {
            published.unwrap();
        }
    }

    /// What others see.
    pub(crate) async fn presence(&self, user: &User) -> Presence {
        self.service.presence(id(&User::new()), id(user)).await.unwrap()
    }

    /// Waits until others see what the condition asks for.
    pub(crate) async fn until(&self, user: &User, what: &str, is_it: impl Fn(&Presence) -> bool) -> Presence {
        eventually(what, SOON, async || {
            let presence = self.presence(user).await;
            seen(is_it(&presence), presence)
        })
        .await
    }

    /// Waits until others see the status.
    pub(crate) async fn until_status(&self, user: &User, status: &str) -> Presence {
        self.until(user, &format!("to be {status}"), |presence| presence.status.as_str() == status).await
    }

    /// Waits until so many connections are left.
    pub(crate) async fn until_connections(&self, count: usize) {
        eventually("the connections to end", SOON, async || {
            let connections = self.gateway.connections();
            seen(connections == count, connections)
        })
        .await;
    }

    /// Shuts the node down and waits until it has.
    pub(crate) async fn shut_down(&mut self) {
        self.shutdown.cancel();
        self.upkeep.take().unwrap().await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.server.abort();
        self.sweeper.abort();
    }
}

pub(crate) fn id(user: &User) -> UserId {
    user.id().parse().unwrap()
}

pub(crate) fn config(variables: &[(&str, &str)]) -> Config {
    let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Config::from_lookup(lookup).unwrap()
}
