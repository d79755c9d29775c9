//! `make bench-scale` and `make bench-peers`.

use anyhow::Result;
use dosi_benches::backlog::{RATE, ROWS, ROWS_RATE, WALL, work_off};
use dosi_benches::chart::Chart;
use dosi_benches::england::{BEFORE, England};
use dosi_benches::figures::Figures;
use dosi_benches::ground::picture;
use dosi_benches::sink;
use dosi_benches::table::Table;

const INSTANCES: [u32; 3] = [1, 2, 4];
/// England's first ones: one event a transaction takes its time.
const PEER_EVENTS: usize = 6_000;

/// England's events shared among instances on one PostgreSQL.
pub(crate) async fn scale(england: &mut England, runs: usize) -> Result<()> {
    let topic = england.ground.publish(england.records.iter().cloned()).await?;
    let mut all = vec![Vec::new(); INSTANCES.len()];
    for _ in 0..runs {
        for (instances, of) in INSTANCES.iter().zip(&mut all) {
            let subject = england.ground.subject(BEFORE, &topic).await?;
            of.push(work_off(&mut england.ground, &subject, england.records.len(), *instances as usize).await?);
            subject.remove(&england.ground).await?;
        }
    }
    println!();
    let mut cores = Table::new(&["instances", "events/s", "× one", "cores: dosi", "PostgreSQL", "Kafka", "together"]);
    let mut rates: Vec<(f64, f64)> = Vec::new();
    for (instances, runs) in INSTANCES.iter().zip(&all) {
        println!("{}", Figures::table(&format!("instances: {instances}"), runs));
        let medians = Figures::medians(runs);
        let used = ["dosi", "PostgreSQL", "Kafka"].map(|part| medians.get(&format!("processor time of {part}")));
        let [dosi, postgres, kafka] = used.map(|seconds| seconds / medians.get(WALL));
        let rate = medians.get(RATE);
        let of_one = rates.first().map_or(rate, |(_, rate)| *rate);
        let mut row = vec![instances.to_string(), format!("{rate:.0}"), format!("{:.2}", rate / of_one)];
        row.extend([dosi, postgres, kafka, dosi + postgres + kafka].map(|cores| format!("{cores:.2}")));
        cores.row(row);
        rates.push((f64::from(*instances), rate));
    }
    println!("{cores}");
    let lines = vec![("England".to_owned(), rates)];
    let chart = Chart { title: "Instances on one PostgreSQL", across: "instances", up: "events a second", lines };
    chart.write(&picture("scale.svg")?)
}

/// Batches, one event a transaction, and a generic sink that writes as many rows.
pub(crate) async fn peers(england: &mut England, runs: usize) -> Result<()> {
    let topic = england.ground.publish(england.records.iter().take(PEER_EVENTS).cloned()).await?;
    let settings = [("dosi", None), ("dosi, one event a transaction", Some("1"))];
    let (mut all, mut sinks) = (vec![Vec::new(); settings.len()], Vec::new());
    for _ in 0..runs {
        for ((_, batch), of) in settings.iter().zip(&mut all) {
            let mut subject = england.ground.subject(BEFORE, &topic).await?;
            if let Some(events) = batch {
                subject.dosi = subject.dosi.with("DOSI_BATCH_EVENTS_MAX", events);
            }
            of.push(work_off(&mut england.ground, &subject, PEER_EVENTS, 1).await?);
            subject.remove(&england.ground).await?;
        }
        let rows = all[0].last().map_or(0.0, |figures: &Figures| figures.get(ROWS));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        sinks.push(sink::copy(&mut england.ground, rows as usize).await?);
    }
    println!();
    for ((name, _), runs) in settings.iter().zip(&all) {
        println!("{}", Figures::table(name, runs));
    }
    println!("{}", Figures::table("Debezium's JDBC sink, as many rows", &sinks));
    let [batched, single] = [&all[0], &all[1]].map(|runs| Figures::medians(runs));
    println!("  events a second in batches / one by one: {:.2}", batched.get(RATE) / single.get(RATE));
    let sink = Figures::medians(&sinks).get(ROWS_RATE);
    println!("  rows a second of dosi / of the sink: {:.2}", batched.get(ROWS_RATE) / sink);
    Ok(())
}
