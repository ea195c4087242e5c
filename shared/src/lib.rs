//! The presence service without its hosts: the rules ([`domain`]), where records are kept ([`store`]), how changes
//! are told ([`events`]) and the use cases over them ([`PresenceService`]). Knows no HTTP and no Lambda.

pub mod auth;
pub mod clock;
pub mod config;
mod connect;
mod decide;
pub mod domain;
pub mod error;
pub mod events;
mod failpoint;
pub mod metrics;
mod outage;
pub mod service;
pub mod store;
pub mod sweeper;
pub mod telemetry;

pub use connect::{Carrier, ConnectError, Connected, Host, connect};
pub use error::{Error, ErrorKind};
pub use service::PresenceService;
pub use sweeper::Sweeper;
