//! The measurements, one a file.

mod bulk;
mod cold_start;
mod end_to_end;
mod gateway;
mod heartbeats;
mod memory;
mod opens;
mod overload;
mod reads;
mod simulate;
mod sweep;
mod updates;

use clap::Subcommand;

use crate::report::{Section, load};
use crate::stage::Stage;

/// What can be measured.
#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Measure {
    /// Heartbeats of known sessions in the store, in batches of a thousand, at several numbers of users online.
    Heartbeats,
    /// Heartbeats from NATS JetStream by way of the service to the store.
    EndToEnd,
    /// Bulk reads, in the store and over HTTP.
    Bulk,
    /// Single reads over HTTP.
    Reads,
    /// Status updates and typing over HTTP, and the time until a subscriber hears of them.
    Updates,
    /// More status updates than can be served: what a refusal costs, and what is left of the peak.
    Overload,
    /// Connections opened and closed, in batches, each stored and told.
    Opens,
    /// Everyone vanishes at once; and how late each is told.
    Sweep,
    /// Bytes in Redis for each online user.
    Memory,
    /// Functions behind a local Lambda host: their start, and what they cost when warm.
    ColdStart,
    /// Thousands of gateway connections.
    Gateway,
    /// A mixed load as of so many users, against what the model says it costs.
    Simulate,
}

impl Measure {
    /// In the order in which a page shows them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Heartbeats,
        Self::EndToEnd,
        Self::Bulk,
        Self::Reads,
        Self::Updates,
        Self::Overload,
        Self::Opens,
        Self::Sweep,
        Self::Memory,
        Self::ColdStart,
        Self::Gateway,
        Self::Simulate,
    ];

    /// The subcommand, and the name of the file of its results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Heartbeats => "heartbeats",
            Self::EndToEnd => "end-to-end",
            Self::Bulk => "bulk",
            Self::Reads => "reads",
            Self::Updates => "updates",
            Self::Overload => "overload",
            Self::Opens => "opens",
            Self::Sweep => "sweep",
            Self::Memory => "memory",
            Self::ColdStart => "cold-start",
            Self::Gateway => "gateway",
            Self::Simulate => "simulate",
        }
    }

    pub(crate) async fn run(self, stage: &Stage) -> Section {
        let load_before = load();
        let mut section = match self {
            Self::Heartbeats => heartbeats::measure(stage).await,
            Self::EndToEnd => end_to_end::measure(stage).await,
            Self::Bulk => bulk::measure(stage).await,
            Self::Reads => reads::measure(stage).await,
            Self::Updates => updates::measure(stage).await,
            Self::Overload => overload::measure(stage).await,
            Self::Opens => opens::measure(stage).await,
            Self::Sweep => sweep::measure(stage).await,
            Self::Memory => memory::measure(stage).await,
            Self::ColdStart => cold_start::measure(stage).await,
            Self::Gateway => gateway::measure(stage).await,
            Self::Simulate => simulate::measure(stage).await,
        };
        self.name().clone_into(&mut section.name);
        section.load_before = load_before;
        section
    }
}
