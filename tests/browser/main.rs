//! The page in a browser that nobody here wrote.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests, and their helpers fail as tests do"
)]

mod browser_page;
mod stage;
