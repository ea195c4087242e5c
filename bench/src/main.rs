//! Measures the presence service against the raw limit of what it runs on: the same commands, pipelined as deep, and
//! what others do, in alternating rounds of one run. `scripts/bench` starts what a run needs and writes its tables into
//! docs/BENCHMARKS.md. The store is emptied, so it must be one of the run's own.

#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that goes wrong has no result")]

mod bare;
mod contest;
mod crowd;
mod goals;
mod http_load;
mod measures;
mod model;
mod page;
mod peers;
mod plot;
mod population;
mod process;
mod report;
mod runtime_api;
mod stage;
mod told;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::stage::{Servers, Stage};

/// Measure the presence service.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    settings: Settings,
}

#[derive(clap::Args)]
struct Settings {
    #[command(flatten)]
    servers: Servers,
    /// Users online, where a measurement does not go through several numbers of them.
    #[arg(long, default_value_t = 100_000, global = true)]
    users: usize,
    /// Rounds of each contestant.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// Smaller numbers and shorter rounds: a look, not a result.
    #[arg(long, global = true)]
    short: bool,
    /// A folder for the results in JSON, one file a measurement.
    #[arg(long, global = true)]
    results: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    #[command(flatten)]
    Measure(measures::Measure),
    /// Every measurement, one after the other.
    All,
    /// Write the tables and plots of the results into docs/BENCHMARKS.md and docs/SCALING.md.
    Page {
        /// The folder of the documentation.
        #[arg(long, default_value = "docs")]
        docs: PathBuf,
    },
    /// A contestant of its own process: what the service does, without any of its rules.
    #[command(subcommand, hide = true)]
    Bare(bare::Bare),
}

fn main() {
    let Arguments { what, settings } = Arguments::parse();
    match what {
        What::Measure(measure) => run(&settings, &[measure]),
        What::All => run(&settings, &measures::Measure::ALL),
        What::Page { docs } => page::write(&docs, &settings.results.expect("--results names the folder to read")),
        What::Bare(bare) => bare.run(&settings.servers),
    }
}

fn run(settings: &Settings, measures: &[measures::Measure]) {
    // What is measured shares the machine, so this process takes no more threads than it has cores.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Stage {
            servers: settings.servers.clone(),
            users: if settings.short { settings.users.min(20_000) } else { settings.users },
            rounds: if settings.short { settings.rounds.min(3) } else { settings.rounds },
            short: settings.short,
            results: settings.results.clone(),
        };
        for measure in measures {
            let section = measure.run(&stage).await;
            print!("{}", section.to_markdown());
            if let Some(folder) = &settings.results {
                section.save(folder);
            }
        }
    });
}
