//! All of the presence service in one process: every route over HTTP, and the sweeper, on what the configuration names
//! or on what is embedded.

mod background;
mod run;
pub mod server;

pub use run::main;
