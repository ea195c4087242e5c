//! One connection of the client library, and what its events say about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{NatsOptions, REQUEST_TIMEOUT};
use crate::events::nats::servers::Credentials;

/// An unanswered ping is followed by two more before the link counts as dead: 15 s, not the library's 3 minutes.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(800);
/// The longest pause between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// The client library tells of a change a moment before it shows it: whoever waits looks again after this.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the client library's events tell the rest.
#[derive(Default)]
pub(super) struct Signals {
    /// Something about the connection changed.
    pub(super) changed: watch::Sender<()>,
    /// An attempt to connect failed, and none has succeeded since.
    refused: AtomicBool,
    /// Someone wants the server looked at.
    pub(super) inspect: Notify,
    /// How often subscribers may have missed something.
    pub(super) gaps: watch::Sender<u64>,
}

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Up,
    /// The first attempt is under way.
    Connecting,
    Down,
}

/// Starts to connect and returns at once; it goes on for as long as the client lives.
pub(super) async fn client(options: &NatsOptions, signals: Arc<Signals>) -> Result<Client, async_nats::ConnectError> {
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECTION_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .reconnect_delay_callback(reconnect_delay)
        .require_tls(options.servers.tls_required())
        .retry_on_initial_connect()
        .event_callback(move |event| {
            signals.take(&event);
            std::future::ready(())
        });
    if let Some(authorities) = &options.authorities {
        connect = connect.add_root_certificates(authorities.clone());
    }
    connect = match options.servers.credentials() {
        None => connect,
        Some(Credentials::Token(token)) => connect.token(token.clone()),
        Some(Credentials::User { name, password }) => connect.user_and_password(name.clone(), password.clone()),
    };
    connect.connect(options.servers.addresses()).await
}

/// At once, then doubling, each time between half and the whole of it: a thousand functions lost the same server.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    if doublings == 0 {
        return Duration::ZERO;
    }
    let longest = (Duration::from_millis(2) * 2_u32.pow(doublings)).min(RECONNECT_DELAY);
    let share = f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0;
    longest.mul_f64(0.5 + 0.5 * share)
}

impl Signals {
    fn take(&self, event: &async_nats::Event) {
        use async_nats::Event;
        match event {
            Event::Connected => {
                self.refused.store(false, Ordering::Relaxed);
                tracing::info!("connected to NATS");
                self.inspect.notify_one();
                self.gaps.send_modify(|gaps| *gaps += 1);
            }
            Event::Disconnected => tracing::warn!("connection to NATS lost"),
            Event::ClientError(error) => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "NATS can't be reached; trying on");
                }
            }
            Event::ServerError(error) => tracing::warn!(%error, "NATS refused something"),
            Event::SlowConsumer(_) => {
                tracing::warn!("NATS messages dropped: too slow to take them");
                self.gaps.send_modify(|gaps| *gaps += 1);
            }
            Event::LameDuckMode | Event::Draining | Event::Closed => {}
        }
        self.changed.send_replace(());
    }
}

/// How many connections there were.
pub(super) fn generation(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

pub(super) fn condition(client: &Client, signals: &Signals) -> Condition {
    match client.connection_state() {
        State::Connected => Condition::Up,
        State::Pending if !signals.refused.load(Ordering::Relaxed) => Condition::Connecting,
        State::Pending | State::Disconnected => Condition::Down,
    }
}

/// Waits for a connection; only the patient wait where it is known to be down.
pub(super) async fn wait_until_up(
    client: &Client,
    signals: &Signals,
    deadline: Instant,
    patient: bool,
) -> Result<(), String> {
    let mut changed = signals.changed.subscribe();
    loop {
        match condition(client, signals) {
            Condition::Up => return Ok(()),
            Condition::Down if !patient => return Err("NATS can't be reached".to_owned()),
            _ if Instant::now() >= deadline => return Err("NATS can't be reached in time".to_owned()),
            _ => {}
        }
        let _ = timeout_at(deadline.min(Instant::now() + LOOK_AGAIN), changed.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_are_quick_at_first_then_spread_and_never_far_apart() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempts in [2, 5, 11, usize::MAX] {
            let delays: Vec<Duration> = (0..200).map(|_| reconnect_delay(attempts)).collect();
            assert!(delays.iter().all(|delay| !delay.is_zero() && *delay <= RECONNECT_DELAY), "{attempts}");
            assert!(delays.iter().min() < delays.iter().max(), "{attempts}");
        }
    }
}
