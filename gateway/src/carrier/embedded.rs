//! Inside one process: what happens is decided at once, and events come over the embedded bus.

use std::sync::Arc;

use async_trait::async_trait;
use presence::domain::{Input, InputKind, Traceparent};
use presence::events::MemoryBus;
use presence::events::memory::{self, Received};
use presence::service::UserInput;
use presence::{ErrorKind, PresenceService};

use super::{Events, Heard, Inputs};
use crate::report::{Happened, Report, What};

/// Has what happened decided by the service itself.
pub(super) struct Decisions {
    service: Arc<PresenceService>,
}

impl Decisions {
    pub(super) fn new(service: Arc<PresenceService>) -> Self {
        Self { service }
    }
}

#[async_trait]
impl Inputs for Decisions {
    async fn tell(&self, happened: Vec<Happened>) -> Vec<Happened> {
        let Ok(now) = self.service.now().await else { return happened };
        let trace = Traceparent::generate();
        let input = |Happened { report, at }: &Happened| UserInput {
            user_id: report.user_id,
            input: Input { at: at.unwrap_or(now).min(now), kind: kind(report) },
            traceparent: Some(trace.clone()),
        };
        let inputs: Vec<UserInput> = happened.iter().map(input).collect();
        let results = self.service.apply(&inputs).await;
        let again = |(happened, result): (Happened, Result<(), presence::Error>)| {
            let error = result.err()?;
            let may_help = error.kind() == ErrorKind::Unavailable;
            if !may_help {
                tracing::error!(user_id = %happened.report.user_id, %error, "what happened to a connection is lost");
            }
            may_help.then_some(happened)
        };
        happened.into_iter().zip(results).filter_map(again).collect()
    }
}

fn kind(report: &Report) -> InputKind {
    let session_id = report.session_id.clone();
    match report.what {
        What::Opened { platform, status } => InputKind::Opened { session_id, platform: Some(platform), status },
        What::Heartbeat { platform } => InputKind::Heartbeat { session_id, platform: Some(platform) },
        What::Closed { code } => InputKind::closed(session_id, code),
    }
}

/// A place at the embedded bus.
pub(super) struct Subscription {
    bus: memory::Subscription,
    has_begun: bool,
}

impl Subscription {
    pub(super) fn new(bus: &MemoryBus) -> Self {
        Self { bus: bus.subscribe(), has_begun: false }
    }
}

#[async_trait]
impl Events for Subscription {
    async fn next(&mut self) -> Option<Heard> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Some(Heard::Gap);
        }
        Some(match self.bus.next().await? {
            Received::Event(event) => Heard::Frame(event.frame.clone()),
            Received::Lagged(_) => Heard::Gap,
        })
    }
}
