//! `make bench-…`: the benchmarks of `docs/benchmarks.md`. Runs under `with-stack --bare`; each starts parts of its own.
//!
//! Without ../shared/data/england they say so and end.

mod england;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use dosi_benches::england::England;

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
    let Some(mut england) = England::prepare().await? else { return Ok(()) };
    match benchmark {
        Benchmark::Floor { runs } => england::floor(&england, runs).await,
        Benchmark::England { runs } => england::england(&mut england, runs).await,
    }
}
