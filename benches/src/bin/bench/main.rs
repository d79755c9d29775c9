//! `make bench-…`: the benchmarks of `docs/benchmarks.md`. Runs under `with-stack --bare`; each starts parts of its own.
//!
//! Without ../shared/data/england a made-up country of the same size takes its place.

mod england;
mod growth;
mod latency;
mod profile;
mod scale;
mod unchanged;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use dosi_benches::england::England;
use dosi_benches::grown::Growth;
use dosi_tests::stack::SHARED_BUFFERS;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// What PostgreSQL alone needs
    Floor {
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Floor and whole program in turn
    England {
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// An open loop at several rates
    Latency(latency::Latency),
    /// Profiles sent again that change nothing, against England's events
    Unchanged {
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// From start to first event, and what an idle instance costs
    Start,
    /// Cost an event with more services, archive, history and backlog
    Growth {
        #[arg(long, value_delimiter = ',', default_value = "services,archive,history,backlog")]
        of: Vec<Growth>,
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Several instances on one database
    Scale {
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// What else one might pick
    Peers {
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// Flame graphs of dosi
    Profile {
        /// Of the pictures' names
        #[arg(long, default_value = "")]
        suffix: String,
    },
}

/// On the main thread, which the parts end with.
#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().benchmark).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(benchmark: Benchmark) -> Result<()> {
    let grows = matches!(benchmark, Benchmark::Growth { .. });
    let mut england = England::prepare(if grows { growth::SHARED_BUFFERS } else { SHARED_BUFFERS }).await?;
    if !matches!(benchmark, Benchmark::Floor { .. } | Benchmark::Profile { .. }) {
        england.warm_up().await?;
    }
    match benchmark {
        Benchmark::Floor { runs } => england::floor(&england, runs).await,
        Benchmark::England { runs } => england::england(&mut england, runs).await,
        Benchmark::Latency(latency) => latency::latency(&england, &latency).await,
        Benchmark::Unchanged { runs } => unchanged::unchanged(&mut england, runs).await,
        Benchmark::Start => unchanged::start(&mut england).await,
        Benchmark::Growth { of, runs } => growth::growth(&mut england, &of, runs).await,
        Benchmark::Scale { runs } => scale::scale(&mut england, runs).await,
        Benchmark::Peers { runs } => scale::peers(&mut england, runs).await,
        Benchmark::Profile { suffix } => profile::profile(&mut england, &suffix).await,
    }
}
