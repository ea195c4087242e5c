//! Measures the presence service against the raw limit of Redis: the same commands, pipelined as deep, in alternating
//! rounds of one run. Everything happens on a Redis of its own, which is emptied first; `scripts/bench` starts one.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]
#![allow(clippy::unwrap_used, reason = "a measurement that goes wrong has no result")]

mod contest;
mod crowd;
mod heartbeats;
mod memory;
mod opens;
mod sweep;

use clap::{Parser, Subcommand};

/// Measure the presence service.
#[derive(Parser)]
struct Arguments {
    /// The Redis to measure on. It is emptied.
    #[arg(long, env = "REDIS_URL")]
    redis_url: String,
    /// Users online.
    #[arg(long, default_value_t = 100_000)]
    users: usize,
    /// Rounds of each contestant.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Heartbeats of known sessions, in batches of a thousand, as the consumer hands them over.
    Heartbeats,
    /// Connections opened, in batches, each stored and told.
    Opens,
    /// Everyone vanishes at once: the time until all are told offline, and a tick with nobody due.
    Sweep,
    /// Bytes in Redis for each online user.
    Memory,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let crowd = crowd::Crowd::gather(&arguments.redis_url, arguments.users).await;
    match arguments.what {
        What::Heartbeats => heartbeats::measure(&crowd, arguments.rounds).await,
        What::Opens => opens::measure(&crowd, arguments.rounds).await,
        What::Sweep => sweep::measure(&crowd).await,
        What::Memory => memory::measure(&crowd).await,
    }
}
