//! Over NATS, as a gateway runs apart from those who decide.

use std::time::Duration;

use async_trait::async_trait;
use presence::domain::{Intent, Platform, SessionId, Traceparent, UserId};
use presence::events::inputs::{CONNECTION_CLOSED, CONNECTION_OPENED, HEARTBEAT_RECEIVED};
use presence::events::nats::{NatsLink, NatsReceived, NatsSubscription};
use serde::Serialize;

use super::{Events, Heard, Inputs};
use crate::report::{Happened, What};

/// How many elements one message holds: a third of what the smallest usual message size has room for.
const ELEMENTS: usize = 2000;

/// After a subscription was refused.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// Tells what happened in messages, each an array of elements of one kind.
pub(super) struct Messages {
    link: NatsLink,
}

impl Messages {
    pub(super) fn new(link: NatsLink) -> Self {
        Self { link }
    }
}

/// An element of a message.
#[derive(Serialize)]
struct Element<'a> {
    user_id: UserId,
    session_id: &'a SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Intent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_code: Option<u16>,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
}

#[async_trait]
impl Inputs for Messages {
    async fn tell(&self, happened: Vec<Happened>) -> Vec<Happened> {
        let mut left = Vec::new();
        let mut is_up = true;
        for subject in [CONNECTION_OPENED, HEARTBEAT_RECEIVED, CONNECTION_CLOSED] {
            let of_subject: Vec<&Happened> = happened.iter().filter(|one| self::subject(one) == subject).collect();
            for chunk in of_subject.chunks(ELEMENTS) {
                // Once one is refused, the others would only wait for the same.
                is_up = is_up && self.send(subject, chunk).await;
                if !is_up {
                    left.extend(chunk.iter().map(|&one| one.clone()));
                }
            }
        }
        left
    }
}

impl Messages {
    async fn send(&self, subject: &str, happened: &[&Happened]) -> bool {
        let elements: Vec<Element<'_>> = happened.iter().copied().map(element).collect();
        let payload = match serde_json::to_vec(&elements) {
            Ok(payload) => payload.into(),
            Err(error) => {
                tracing::error!(%error, "what happened to connections has no JSON form");
                return true;
            }
        };
        let told = self.link.tell(subject, &Traceparent::generate(), payload).await;
        if let Err(error) = &told {
            tracing::debug!(subject, %error, "a message is sent again");
        }
        told.is_ok()
    }
}

fn subject(happened: &Happened) -> &'static str {
    match happened.report.what {
        What::Opened { .. } => CONNECTION_OPENED,
        What::Heartbeat { .. } => HEARTBEAT_RECEIVED,
        What::Closed { .. } => CONNECTION_CLOSED,
    }
}

fn element(happened: &Happened) -> Element<'_> {
    let (platform, status, close_code) = match happened.report.what {
        What::Opened { platform, status } => (Some(platform), status, None),
        What::Heartbeat { platform } => (Some(platform), None, None),
        What::Closed { code } => (None, None, code),
    };
    Element {
        user_id: happened.report.user_id,
        session_id: &happened.report.session_id,
        platform,
        status,
        close_code,
        timestamp: happened.at.map(|at| at.millis()),
    }
}

/// Events over NATS, subscribed to when they are first asked for.
pub(super) struct Subscription {
    link: NatsLink,
    subscription: Option<NatsSubscription>,
}

impl Subscription {
    pub(super) fn new(link: NatsLink) -> Self {
        Self { link, subscription: None }
    }
}

#[async_trait]
impl Events for Subscription {
    async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(subscription) = &mut self.subscription {
                return Some(match subscription.next().await? {
                    NatsReceived::Frame(frame) => Heard::Frame(frame),
                    NatsReceived::Gap => Heard::Gap,
                });
            }
            match self.link.subscribe().await {
                Ok(subscription) => self.subscription = Some(subscription),
                Err(error) => {
                    tracing::warn!(%error, "cannot subscribe to events; trying on");
                    tokio::time::sleep(SUBSCRIBE_PAUSE).await;
                }
            }
        }
    }
}
