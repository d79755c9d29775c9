//! `make demo`: a made-up DoS, a few hundred made-up change events, and what dosi made of them.
//!
//! Runs under `with-stack`. `KEEP=1` leaves everything running until Ctrl-C.

#![allow(clippy::cast_precision_loss, reason = "counts are shown to people, and far below 2^52")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use dosi_benches::audit_totals::AuditTotals;
use dosi_benches::country::generate;
use dosi_benches::metrics::Metrics;
use dosi_benches::scene::{DEMO_ORGANISATIONS, DEMO_SEED, Scene, done, write_events};
use dosi_benches::story;
use dosi_benches::table::Table;
use dosi_tests::program::Running;
use dosi_tests::stack::Scratch;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let country = generate(DEMO_SEED, DEMO_ORGANISATIONS);
    let events = country.events.len();
    let scene = Scene::set(&country).await?;
    let before = scene.dos.services().await?;

    let mut dosi = scene.dosi.start(&["run"])?;
    dosi.wait_until_ready()?;
    let scratch = Scratch::new("events")?;
    let file = scratch.path().join("events.jsonl");
    write_events(&file, &country.events)?;
    scene.publish(&file)?;
    let start = Instant::now();
    wait_until_processed(&mut dosi, events)?;
    done("dosi run: all events processed", start);
    let metrics = Metrics::parse(&dosi.metrics()?);
    let audit = scene.audit_of(events)?;
    let after = scene.dos.services().await?;

    let service = story::most_changed_service(&audit).context("no service was changed")?;
    println!("\n{}", story::tell(service, &before, &after, &audit)?);
    print_totals(&AuditTotals::of(&audit), &metrics, before.len());
    if std::env::var_os("KEEP").is_some_and(|keep| keep == "1") {
        keep_running(&scene, &dosi).await?;
    }
    dosi.stop("TERM")?;
    Ok(())
}

fn wait_until_processed(dosi: &mut Running, events: usize) -> Result<()> {
    let page = dosi.url("/metrics");
    dosi.wait_until(|| {
        let answer = dosi_tests::http::get(&page);
        answer.is_ok_and(|answer| Metrics::parse(&answer.body).sum("dosi_change_events_total") >= events as f64)
    })
}

fn print_totals(totals: &AuditTotals, metrics: &Metrics, services: usize) {
    println!("All {} events of {DEMO_ORGANISATIONS} organisations with {services} services\n", totals.outcomes());
    for (heading, counts) in [("outcome", &totals.by_outcome), ("report key", &totals.by_report_key)] {
        let mut table = Table::new(&[heading, "records"]);
        for (name, count) in counts {
            table.row([name.clone(), count.to_string()]);
        }
        println!("{table}");
    }
    let mut table = Table::new(&["speed", ""]);
    let seconds = totals.seconds().filter(|seconds| *seconds > 0.0).unwrap_or(f64::NAN);
    table.row(["events a second".to_owned(), format!("{:.0}", totals.outcomes() as f64 / seconds)]);
    for (name, quantile) in [("p50 latency", 0.5), ("p99 latency", 0.99)] {
        let latency = metrics.quantile("dosi_event_latency_seconds", quantile).unwrap_or(f64::NAN);
        table.row([name.to_owned(), format!("{:.0} ms", latency * 1000.0)]);
    }
    println!("{table}");
    println!("  Latency is from an event's arrival in the topic to its commit in DoS; all events were sent at once.");
}

async fn keep_running(scene: &Scene, dosi: &Running) -> Result<()> {
    let addresses = &scene.addresses;
    let (database, brokers) = (scene.dos.url(), &addresses.kafka_bootstrap_servers);
    println!("\nEverything goes on running until Ctrl-C.\n");
    println!("  DoS (PostgreSQL)  {database}");
    println!("  Kafka             {brokers}");
    println!("  schema registry   {}", addresses.schema_registry_url);
    println!("  dosi              {}", dosi.url("/"));
    println!("\nTo try next, in another terminal:\n");
    println!("  psql '{database}' -c 'SELECT id, name, modifiedby, modifiedtime FROM pathwaysdos.services LIMIT 5'");
    println!("  kcat -b {brokers} -t {} -C -o -3 -e -f '%k %h\\n'", scene.dosi.input_topic());
    println!("  curl -s {} | grep ^dosi_", dosi.url("/metrics"));
    println!("  curl -s {}", dosi.url("/readyz"));
    tokio::signal::ctrl_c().await?;
    Ok(())
}
