//! Who looks at the server, so that senders know how their messages are carried.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::connection::{Signals, generation, wait_until_up};
use super::{NatsOptions, Transport};
use crate::events::nats::streams::{self, Found, Streams};

/// A long-running host looks after its streams this often, and for a JetStream that was not there.
const INSPECT_INTERVAL: Duration = Duration::from_secs(15);
/// After trouble it looks again this often.
pub(super) const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two looks, however often senders ask for one.
pub(super) const INSPECT_PAUSE: Duration = Duration::from_millis(250);

/// What is known of the server at the other end of one connection. The next connection may find another server there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Of which connection, counted from 1.
    pub(super) generation: u64,
    pub(super) transport: Transport,
}

/// Looks at the server after each connection, when senders ask for it, and now and then.
pub(super) struct Keeper {
    client: Client,
    jetstream: Context,
    streams: Streams,
    grace: Duration,
    signals: Arc<Signals>,
    known: watch::Sender<Known>,
    had_jetstream: bool,
    /// Since when a JetStream that was there is not.
    gone_since: Option<Instant>,
    /// What was last said about the streams, so that it is said once.
    notes: Vec<String>,
}

impl Keeper {
    /// Looks until it is aborted; what it knows changes with each look.
    pub(super) fn start(
        client: Client,
        jetstream: Context,
        options: &NatsOptions,
        signals: Arc<Signals>,
    ) -> (watch::Receiver<Known>, AbortHandle) {
        let unknown = Transport::Unusable("the server was not asked yet".to_owned());
        let (sender, known) = watch::channel(Known { generation: 0, transport: unknown });
        let keeper = Self {
            client,
            jetstream,
            streams: options.streams,
            grace: options.jetstream_grace,
            signals,
            known: sender,
            had_jetstream: false,
            gone_since: None,
            notes: Vec::new(),
        };
        (known, tokio::spawn(keeper.run()).abort_handle())
    }

    async fn run(mut self) {
        loop {
            let _ = timeout(self.interval(), self.signals.inspect.notified()).await;
            // Patient: the event of a connection comes a moment before its state.
            let soon = Instant::now() + TROUBLE_INTERVAL;
            if wait_until_up(&self.client, &self.signals, soon, true).await.is_ok() {
                let generation = generation(&self.client);
                let found = streams::inspect(&self.jetstream, self.streams).await;
                self.settle(generation, found);
                tokio::time::sleep(INSPECT_PAUSE).await;
            }
        }
    }

    fn interval(&self) -> Duration {
        match (&self.known.borrow().transport, self.streams) {
            (Transport::Unusable(_), _) => TROUBLE_INTERVAL,
            // A function looks after nothing: its process is frozen between two invocations.
            (Transport::JetStream, Streams::Expect) => Duration::from_secs(3600),
            (Transport::JetStream | Transport::Core, _) => INSPECT_INTERVAL,
        }
    }

    fn settle(&mut self, generation: u64, found: Found) {
        let transport = match found {
            Found::Streams { notes } => {
                self.had_jetstream = true;
                self.gone_since = None;
                if notes != self.notes {
                    notes.iter().for_each(|note| tracing::warn!("{note}"));
                    self.notes = notes;
                }
                Transport::JetStream
            }
            Found::NoJetStream => self.without_jetstream(),
            Found::Trouble(reason) => Transport::Unusable(reason),
        };
        let before = self.known.send_replace(Known { generation, transport: transport.clone() });
        if before.transport != transport {
            match transport {
                Transport::JetStream => tracing::info!("events are kept by JetStream"),
                Transport::Core => tracing::warn!("NATS has no JetStream: events reach only those who listen"),
                Transport::Unusable(reason) => tracing::warn!(reason, "JetStream can't be used; trying on"),
            }
        }
    }

    fn without_jetstream(&mut self) -> Transport {
        if !self.had_jetstream {
            return Transport::Core;
        }
        let since = *self.gone_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.grace { Transport::Unusable("JetStream is away".to_owned()) } else { Transport::Core }
    }
}
