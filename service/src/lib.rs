//! All of the presence service in one process.
pub mod server;
