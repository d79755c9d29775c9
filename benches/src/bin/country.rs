//! `country load DATABASE_URL` and `country events FILE`: the made-up country of the demo for a stack that others started.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use dosi_benches::country::generate;
use dosi_benches::scene::{DEMO_ORGANISATIONS, DEMO_SEED, write_events};
use dosi_tests::dos::Dos;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("country: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["load", url] => load(url).await,
        ["events", file] => write_events(Path::new(file), &generate(DEMO_SEED, DEMO_ORGANISATIONS).events),
        _ => bail!("usage: country load DATABASE_URL | country events FILE"),
    }
}

/// Once only: a database that has the tables stays as it is.
async fn load(url: &str) -> Result<()> {
    let mut dos = Dos::open(url).await?;
    if dos.client().query_one("SELECT to_regnamespace('pathwaysdos') IS NOT NULL", &[]).await?.get(0) {
        eprintln!("this database has the tables of DoS already");
        return Ok(());
    }
    dos.create_tables().await?;
    let country = generate(DEMO_SEED, DEMO_ORGANISATIONS);
    dos.load(&country.services, &country.locations).await
}
