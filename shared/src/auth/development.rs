//! Development tokens: good for trying the service out, worthless as a proof.

/// The secret of development tokens. It is published, so a service that accepts it trusts everyone who can reach it.
/// `scripts/token` holds the same text.
pub const DEVELOPMENT_SECRET: &str = "presence-service-development-secret-known-to-everyone";
