//! `make bench-england`: every event of England, published first, then worked off by one `dosi run --exit-at-end`.
//!
//! Runs under `with-stack --synced`. Without ../shared/data/england a made-up country of the same size takes its place.

#![allow(clippy::cast_precision_loss, reason = "counts are shown to people, and far below 2^52")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dosi_benches::audit_totals::AuditTotals;
use dosi_benches::country::{ENGLAND_ORGANISATIONS, generate};
use dosi_benches::metrics::Metrics;
use dosi_benches::scene::{Scene, done, write_events};
use dosi_benches::table::Table;
use dosi_tests::golden_form::{Country, england_folder};
use dosi_tests::program::Running;
use dosi_tests::stack::Scratch;

const SEED: u64 = 2026;
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-england: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let scratch = Scratch::new("events")?;
    let (country, file) = country(&scratch)?;
    let scene = Scene::set(&country).await?;
    scene.publish(&file)?;

    let start = Instant::now();
    let mut dosi = scene.dosi.start(&["run", "--exit-at-end"])?;
    let run = observe(&mut dosi, start, country.events.len())?;
    let ended = dosi.wait()?;
    let whole = start.elapsed();
    if !ended.status.success() {
        bail!("dosi ended with {}:\n{}", ended.status, ended.stderr);
    }
    done("dosi run --exit-at-end", start);

    let totals = AuditTotals::of(&scene.audit_of(country.events.len())?);
    print_results(&run, whole, &totals);
    if totals.outcomes_twice + totals.event_ids_twice > 0 || totals.outcomes() != country.events.len() as u64 {
        bail!("the audit topic does not hold exactly one outcome for each event: {totals:?}");
    }
    Ok(())
}

fn country(scratch: &Scratch) -> Result<(Country, PathBuf)> {
    if let Some(folder) = england_folder() {
        return Ok((Country::read(&folder)?, folder.join("events.jsonl.gz")));
    }
    eprintln!("a made-up country of the same size takes its place");
    let country = generate(SEED, ENGLAND_ORGANISATIONS);
    let file = scratch.path().join("events.jsonl");
    write_events(&file, &country.events)?;
    Ok((country, file))
}

/// What was seen of a run from outside.
#[derive(Debug, Default)]
struct Observed {
    /// From the start of the process to the first and the last event in DoS.
    first_event: Duration,
    last_event: Duration,
    peak_memory_kib: u64,
    processor_seconds: f64,
    metrics: Metrics,
}

/// Asks dosi until it has gone; what it said last counts.
fn observe(dosi: &mut Running, start: Instant, events: usize) -> Result<Observed> {
    let mut seen = Observed::default();
    let mut processed = 0.0;
    while dosi.is_running()? {
        if let Ok(page) = dosi.metrics() {
            let metrics = Metrics::parse(&page);
            let now = metrics.sum("dosi_change_events_total");
            if now > 0.0 && seen.first_event.is_zero() {
                seen.first_event = start.elapsed();
            }
            if now > processed {
                (processed, seen.last_event) = (now, start.elapsed());
            }
            seen.metrics = metrics;
        }
        seen.peak_memory_kib = dosi.peak_memory_kib().unwrap_or(seen.peak_memory_kib);
        seen.processor_seconds = dosi.processor_seconds().unwrap_or(seen.processor_seconds);
        thread::sleep(SAMPLE_EVERY);
    }
    if processed < events as f64 {
        eprintln!("the last metrics seen told of {processed} events of {events}");
    }
    Ok(seen)
}

fn print_results(run: &Observed, whole: Duration, totals: &AuditTotals) {
    let events = totals.outcomes() as f64;
    let applying = run.last_event.saturating_sub(run.first_event).as_secs_f64();
    let mut table = Table::new(&["England", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("events", format!("{events}"));
    row("services updated", totals.services_updated.to_string());
    row("fields updated", totals.fields_updated.to_string());
    row("process, start to exit", format!("{:.1} s", whole.as_secs_f64()));
    row("start to first event in DoS", format!("{:.1} s", run.first_event.as_secs_f64()));
    row("first to last event in DoS", format!("{applying:.1} s"));
    row("events a second", format!("{:.0}", events / applying));
    row("service updates a second", format!("{:.0}", totals.services_updated as f64 / applying));
    row("peak resident memory of dosi", format!("{:.0} MiB", run.peak_memory_kib as f64 / 1024.0));
    row("processor time of dosi", format!("{:.1} s", run.processor_seconds));
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let latency = run.metrics.quantile("dosi_event_latency_seconds", quantile).unwrap_or(f64::NAN);
        row(&format!("{name} latency of this backlog"), format!("{latency:.1} s"));
    }
    println!("\n{table}");
    print_stages(&run.metrics, run.metrics.sum("dosi_stage_duration_seconds_sum"));
    let mut table = Table::new(&["outcome", "events"]);
    for (outcome, count) in &totals.by_outcome {
        table.row([outcome.clone(), count.to_string()]);
    }
    println!("{table}");
}

fn print_stages(metrics: &Metrics, all: f64) {
    let mut table = Table::new(&["stage", "seconds", "share", "times"]);
    let counts = metrics.by_label("dosi_stage_duration_seconds_count", "stage");
    for (stage, seconds) in metrics.by_label("dosi_stage_duration_seconds_sum", "stage") {
        let count = counts.iter().find(|(name, _)| *name == stage).map_or(0.0, |(_, count)| *count);
        let share = format!("{:.0} %", 100.0 * seconds / all);
        table.row([stage, format!("{seconds:.2}"), share, format!("{count}")]);
    }
    println!("{table}");
}
