//! All of the presence service in one process: every route over HTTP, the inputs over NATS, and the sweeper, on what the
//! configuration names or on what is embedded.

mod background;
mod inputs;
mod run;
pub mod server;

pub use run::main;
