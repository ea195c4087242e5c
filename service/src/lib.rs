//! All of the presence service in one process: every route over HTTP, the inputs over NATS, the gateway and its page, and
//! the sweeper, on what the configuration names or on what is embedded. And the gateway by itself.

mod gateway;
mod inputs;
mod run;
pub mod server;

pub use gateway::main as gateway_main;
pub use run::main;
