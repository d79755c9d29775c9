//! The whole program working off what a topic holds: `dosi run --exit-at-end`, seen from outside.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::figures::Figures;
use crate::ground::{Ground, Subject};
use crate::metrics::Metrics;
use crate::processes::processor_of_ended_children;
use crate::statements::{Counting, first_and_last_commit, rows_written, sessions_ended};

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Metrics are asked for more seldom, not to get in the way; what the last answer misses is at most this much.
const ASK_EVERY: u32 = 10;
const MIB_KIB: f64 = 1024.0;

/// One row for each event that is applied.
pub const ARCHIVE: &str = "dos_integration.change_event_archive";
pub const WALL: &str = "wall time, start to exit";
pub const RATE: &str = "events a second, first to last commit";
pub const ROWS: &str = "rows written";
pub const ROWS_RATE: &str = "rows written a second, first to last commit";

/// Works off `events` events; several instances share them when `instances` says so.
pub async fn work_off(ground: &mut Ground, subject: &Subject, events: usize, instances: usize) -> Result<Figures> {
    let counting = Counting::begin(subject.dos.client()).await?;
    let (parts, children) = (ground.parts_time()?, processor_of_ended_children()?);
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let start = Instant::now();
    let seen = run_to_end(subject, instances)?;
    let wall = start.elapsed().as_secs_f64();
    let dosi_time = processor_of_ended_children()? - children;
    sessions_ended(subject.dos.client()).await?;
    let parts_now = ground.parts_time()?;
    let executed = counting.executed(subject.dos.client()).await?;
    // Not those that an archive held before.
    let archived = format!("{ARCHIVE} WHERE source_topic = '{}'", subject.dosi.input_topic());
    let (first, last) = first_and_last_commit(subject.dos.client(), &archived).await?;

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let events = events as f64;
    let mut figures = Figures::default();
    figures.add(WALL, wall, "s");
    figures.add("start to first event in DoS", first - began, "s");
    figures.add("first to last commit in DoS", last - first, "s");
    figures.add(RATE, events / (last - first), "/s");
    figures.add("changes of services a second", seen.sum("dosi_service_updates_total") / (last - first), "/s");
    let rows = rows_written(subject.dos.client()).await?;
    figures.add(ROWS, rows, "");
    figures.add(ROWS_RATE, rows / (last - first), "/s");
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        // Of several instances the slowest.
        let of_each =
            seen.metrics.iter().filter_map(|metrics| metrics.quantile("dosi_event_latency_seconds", quantile));
        figures.add(format!("{name} latency of this backlog"), of_each.fold(0.0, f64::max), "s");
    }
    figures.add("peak resident memory of dosi", seen.peak_memory_mib, "MiB");
    figures.add("processor time of dosi", dosi_time, "s");
    figures.add("processor time of PostgreSQL", parts_now.postgres - parts.postgres, "s");
    figures.add("processor time of Kafka", parts_now.kafka - parts.kafka, "s");
    executed.add_to(&mut figures, events);
    figures.add("events a batch", events / seen.sum("dosi_batch_events_count"), "");
    for (stage, seconds) in seen.by_stage() {
        figures.add(format!("stage {stage}, all lanes"), seconds, "s");
    }
    check_applied(subject, events).await?;
    Ok(figures)
}

/// Each instance as it was last seen.
#[derive(Debug, Default)]
struct Seen {
    peak_memory_mib: f64,
    metrics: Vec<Metrics>,
}

impl Seen {
    fn sum(&self, name: &str) -> f64 {
        self.metrics.iter().map(|metrics| metrics.sum(name)).sum()
    }

    fn by_stage(&self) -> Vec<(String, f64)> {
        let mut stages: Vec<(String, f64)> = Vec::new();
        for (stage, seconds) in
            self.metrics.iter().flat_map(|metrics| metrics.by_label("dosi_stage_duration_seconds_sum", "stage"))
        {
            match stages.iter_mut().find(|(known, _)| *known == stage) {
                Some((_, sum)) => *sum += seconds,
                None => stages.push((stage, seconds)),
            }
        }
        stages
    }
}

fn run_to_end(subject: &Subject, instances: usize) -> Result<Seen> {
    let named =
        (0..instances).map(|number| subject.dosi.clone().with("DOSI_INSTANCE_ID", &format!("instance-{number}")));
    let mut running = named.map(|dosi| dosi.start(&["run", "--exit-at-end"])).collect::<Result<Vec<_>>>()?;
    let mut seen = Seen { metrics: vec![Metrics::default(); instances], ..Seen::default() };
    for look in 0_u32.. {
        let mut any_runs = false;
        for (dosi, metrics) in running.iter_mut().zip(&mut seen.metrics) {
            any_runs |= dosi.is_running()?;
            if look % ASK_EVERY == 0
                && let Ok(page) = dosi.metrics()
            {
                *metrics = Metrics::parse(&page);
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let peak = dosi.peak_memory_kib().unwrap_or_default() as f64 / MIB_KIB;
                seen.peak_memory_mib = seen.peak_memory_mib.max(peak);
            }
        }
        if !any_runs {
            break;
        }
        thread::sleep(LOOK_EVERY);
    }
    for dosi in running {
        let ended = dosi.wait()?;
        if !ended.status.success() {
            bail!("dosi ended with {}:\n{}", ended.status, ended.stderr);
        }
    }
    Ok(seen)
}

/// A figure of a run that did not do its work is worse than none.
async fn check_applied(subject: &Subject, events: f64) -> Result<()> {
    let sums =
        "SELECT coalesce(sum(position - start), 0)::float8, (SELECT count(*) FROM dos_integration.outbox)::float8
        FROM dos_integration.consumer_position";
    let row = subject.dos.client().query_one(sums, &[]).await?;
    let (applied, unpublished): (f64, f64) = (row.get(0), row.get(1));
    if (applied - events).abs() > 0.5 || unpublished > 0.5 {
        bail!("{applied} of {events} events were applied, {unpublished} batches are unpublished");
    }
    Ok(())
}
