//! What the documentation promises, held to what the code is and does: whoever reads a contract, a machine or a
//! person, reads the truth.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests, and their helpers fail as tests do"
)]

mod answers;
mod bridge;
mod document;
mod http;
mod messages;
mod metrics;
mod nats_permissions;
mod openapi;
mod pages;
mod permissions;
mod reliability;
mod requests;
mod template;
mod tls;

/// How long something may take that nothing holds up.
const SOON: std::time::Duration = std::time::Duration::from_secs(10);
