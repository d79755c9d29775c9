//! `make bench-latency`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use dosi_benches::chart::Chart;
use dosi_benches::england::{AFTER, England};
use dosi_benches::ground::{Ground, Subject, picture};
use dosi_benches::load::{Latencies, measure};
use dosi_benches::metrics::Metrics;
use dosi_benches::mix::Mix;
use dosi_benches::statements::sessions_ended;
use dosi_benches::table::Table;
use dosi_tests::group::Group;
use dosi_tests::program::Running;
use hdrhistogram::Histogram;
use tokio_postgres::Client;

/// Sent before what is measured: plans are made, code and pages are warm.
const WARM_UP_SECONDS: f64 = 5.0;
/// Before all of it, so much is sent and not measured. What a broker does for single events is other code than what it does for a
/// backlog: for two minutes its JVM spends half a core on compiling that, and what is measured meanwhile is the compiler.
const BROKERS_WARM_UP: (f64, f64) = (400.0, 110.0);
const JOINED_WITHIN: Duration = Duration::from_secs(60);
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// The table, and the one beside it that holds the larger payloads; the size is that of all their files.
const OUTBOX: &str = "SELECT s.n_tup_ins, s.n_dead_tup, s.autovacuum_count, t.n_tup_ins, t.n_dead_tup, t.autovacuum_count,
        pg_total_relation_size(c.oid) / 1024
    FROM pg_class AS c JOIN pg_stat_all_tables AS s ON s.relid = c.oid JOIN pg_stat_all_tables AS t ON t.relid = c.reltoastrelid
    WHERE c.oid = 'dos_integration.outbox'::regclass";

#[derive(Args, Clone, Debug)]
pub(crate) struct Latency {
    /// Events a second, one run each
    #[arg(long, value_delimiter = ',', default_value = "5,50,400,800")]
    rates: Vec<f64>,
    /// How long each run is measured
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1)]
    instances: usize,
}

pub(crate) async fn latency(england: &England, latency: &Latency) -> Result<()> {
    let mut table = Table::new(&["events/s", "from produce to", "p50", "p90", "p99", "p99.9", "max", "ms"]);
    let mut measured = Vec::new();
    let (rate, seconds) = BROKERS_WARM_UP;
    one_rate(england, latency.instances, rate, seconds).await?;
    eprintln!("that was to warm up the brokers");
    for rate in &latency.rates {
        let latencies = one_rate(england, latency.instances, *rate, latency.seconds).await?;
        let ways = [
            ("commit in DoS", &latencies.commit),
            ("audit visible", &latencies.audit),
            ("sent (generator)", &latencies.sent_late),
        ];
        for (name, histogram) in ways {
            let mut row = vec![format!("{rate}"), name.to_owned()];
            row.extend(QUANTILES.map(|(_, quantile)| format!("{:.1}", millis(histogram, quantile))));
            table.row(row);
        }
        measured.push((*rate, latencies));
    }
    println!("\n{table}");
    draw(&measured, latency.instances)
}

fn draw(measured: &[(f64, Latencies)], instances: usize) -> Result<()> {
    let line = |name: &str, of: fn(&Latencies) -> &Histogram<u64>, quantile: f64| {
        let points = measured.iter().map(|(rate, latencies)| (*rate, millis(of(latencies), quantile)));
        (name.to_owned(), points.collect())
    };
    let title =
        if instances == 1 { "Latency, one instance".to_owned() } else { format!("Latency, {instances} instances") };
    let chart = Chart {
        title: &title,
        across: "events a second",
        up: "milliseconds since the event was to be sent",
        lines: vec![
            line("commit in DoS, p50", |latencies| &latencies.commit, 0.5),
            line("commit in DoS, p99", |latencies| &latencies.commit, 0.99),
            line("audit visible, p50", |latencies| &latencies.audit, 0.5),
            line("audit visible, p99", |latencies| &latencies.audit, 0.99),
        ],
    };
    chart.write(&picture(&format!("latency-{instances}.svg"))?)
}

async fn one_rate(england: &England, instances: usize, rate: f64, seconds: f64) -> Result<Latencies> {
    let ground = &england.ground;
    let topic = ground.publish([]).await?;
    let subject = ground.subject(AFTER, &topic).await?;
    let count = |seconds: f64| (rate * seconds).round().max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, positive and small")]
    let (warm_up, measured) = (count(WARM_UP_SECONDS) as usize, count(seconds) as usize);
    let newest = england.newest();
    let events = Mix::new(&newest)?.take(warm_up + measured);
    let instances = start(ground, &subject, instances)?;
    let latencies = measure(&ground.addresses, &subject, events, rate, (warm_up, measured)).await?;
    for instance in instances {
        tell_stages(rate, &Metrics::parse(&instance.metrics()?));
        instance.stop("TERM")?;
    }
    eprintln!("  {}", outbox(subject.dos.client()).await?);
    subject.remove(ground).await?;
    Ok(latencies)
}

/// What the outbox has become: rows that come and go must not make it grow.
async fn outbox(client: &Client) -> Result<String> {
    sessions_ended(client).await?;
    let row = client.query_one(OUTBOX, &[]).await?;
    let table = |first: usize| -> Result<String> {
        let [written, dead, vacuums]: [i64; 3] =
            [row.try_get(first)?, row.try_get(first + 1)?, row.try_get(first + 2)?];
        Ok(format!("{written} rows written, {dead} of them dead and not vacuumed, {vacuums} vacuums"))
    };
    let kib: i64 = row.try_get(6)?;
    Ok(format!("outbox: {}; large payloads: {}; {kib} KiB", table(0)?, table(3)?))
}

/// Means of what one instance did; the commit's moment is taken before it is flushed, so that comes on top of a latency.
fn tell_stages(rate: f64, metrics: &Metrics) {
    let batches = metrics.sum("dosi_batch_events_count");
    let events = metrics.sum("dosi_batch_events_sum") / batches;
    eprintln!("{rate} events/s: {batches} batches of {events:.1} events; mean time in ms of");
    let counts = metrics.by_label("dosi_stage_duration_seconds_count", "stage");
    for (stage, total) in metrics.by_label("dosi_stage_duration_seconds_sum", "stage") {
        let count = counts.iter().find(|(known, _)| *known == stage).map_or(0.0, |(_, count)| *count);
        eprintln!("  {stage:<8} {:6.1}  ({count} times)", 1000.0 * total / count);
    }
}

/// Instances that have shared the partitions out among them.
pub(crate) fn start(ground: &Ground, subject: &Subject, instances: usize) -> Result<Vec<Running>> {
    let named =
        (0..instances).map(|number| subject.dosi.clone().with("DOSI_INSTANCE_ID", &format!("instance-{number}")));
    let mut running = named.map(|dosi| dosi.start(&["run"])).collect::<Result<Vec<_>>>()?;
    running.iter_mut().try_for_each(Running::wait_until_ready)?;
    let group = Group::new(&ground.addresses, subject.dosi.setting("DOSI_GROUP_ID"), subject.dosi.input_topic())?;
    let deadline = Instant::now() + JOINED_WITHIN;
    loop {
        let owners = group.owners()?;
        if owners.len() == instances && owners.values().all(|partitions| !partitions.is_empty()) {
            return Ok(running);
        }
        if Instant::now() > deadline {
            bail!("the instances have not shared the partitions out: {owners:?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_micros(histogram.value_at_quantile(quantile)).as_secs_f64() * 1000.0
}
