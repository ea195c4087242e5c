//! The handlers of the presence service. Every host (a function behind an API gateway, the local emulator, the long-running
//! process) runs the same routes over the same [`App`]; a `main` has no logic of its own.

pub mod app;
mod emf;
pub mod entry;
pub mod event;
pub mod http;
pub mod start;

pub use app::App;
