//! `make bench-growth`: cost an event when everything around it has grown.

use anyhow::Result;
use dosi_benches::backlog::work_off;
use dosi_benches::chart::Chart;
use dosi_benches::england::{AFTER, BEFORE, England};
use dosi_benches::figures::{median, shown};
use dosi_benches::ground::picture;
use dosi_benches::grown::{Growth, bare_prepend, cost, histories_written, make};
use dosi_benches::mix::Mix;
use dosi_benches::statements::LOG_BYTES;
use dosi_benches::table::Table;
use dosi_tests::dos::Dos;

/// Room for all of a DoS ten times the size: what is measured is what dosi makes PostgreSQL do, not what a server that is too small
/// for its database reads again and again.
pub(crate) const SHARED_BUFFERS: &str = "4GB";
const INTO_MEMORY: &str = "CREATE EXTENSION pg_prewarm;
    SELECT sum(pg_prewarm(c.oid)) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('pathwaysdos', 'dos_integration', 'pg_toast') AND c.relkind IN ('r', 'i', 't')";
/// For the archive: as if every organisation had had an event since the last checkpoint. The first row after a checkpoint that comes
/// into a page of the archive's index writes the whole page into the log, and 6,000 events right after one meet little else.
const EACH_ONCE: &str = "INSERT INTO dos_integration.change_event_archive
        (ods_code, sequence_number, received_at, event, correlation_id, source_topic, source_partition, source_offset)
    SELECT DISTINCT ON (code) code, 1, now(), '{}', '', 'before', 0, id
    FROM (SELECT left(odscode, 5) AS code, id FROM pathwaysdos.services WHERE length(odscode) >= 5) AS coded ORDER BY code, id";
const FACTORS: [u32; 3] = [1, 3, 10];
/// England's first ones, or the shortest backlog.
const EVENTS: usize = 6_000;

/// Costs at one size, in microseconds.
#[derive(Clone, Debug, Default)]
struct Costs {
    wall: Vec<f64>,
    processors: Vec<f64>,
    /// Of one history, by a bare statement at this length.
    bare_prepend: Vec<f64>,
    histories_an_event: Vec<f64>,
    log_bytes: Vec<f64>,
}

impl Costs {
    /// Medians of what must not grow. A bare statement has to prepend to a longer history too: what that takes more than at
    /// the first length is not dosi's.
    fn medians(&self, first: &Self) -> (f64, f64) {
        let middle = |values: &Vec<f64>| median(values.clone());
        let (wall, processors) = (middle(&self.wall), middle(&self.processors));
        if self.bare_prepend.is_empty() {
            return (wall, processors);
        }
        let more = middle(&self.bare_prepend) - middle(&first.bare_prepend);
        let allowed = more * middle(&self.histories_an_event);
        (wall - allowed, processors - allowed)
    }
}

pub(crate) async fn growth(england: &mut England, growths: &[Growth], runs: usize) -> Result<()> {
    let mut table = Table::new(&[
        "grown",
        "times",
        "wall µs/event",
        "processors µs/event",
        "bare prepend µs",
        "WAL bytes/event",
        "wall ×",
        "processors ×",
    ]);
    let mut lines = Vec::new();
    let topic = england.ground.publish(england.records.iter().take(EVENTS).cloned()).await?;
    for growth in growths {
        let costs = match growth {
            Growth::Backlog => backlogs(england, runs).await?,
            _ => grown(england, *growth, &topic, runs).await?,
        };
        lines.push((growth.name().to_owned(), rows(&mut table, growth.name(), &costs)));
    }
    println!("\n{table}");
    println!("  × is against the first size; of histories what a bare prepend takes longer is taken off first.");
    let chart = Chart {
        title: "Cost an event as DoS grows",
        across: "times the size",
        up: "processor time, first size = 1",
        lines,
    };
    chart.write(&picture("growth.svg")?)
}

/// One row a size; for the picture what the processors' cost has become.
fn rows(table: &mut Table, name: &str, costs: &[Costs]) -> Vec<(f64, f64)> {
    let Some(first) = costs.first() else { return Vec::new() };
    let (first_wall, first_processors) = first.medians(first);
    let rows = FACTORS.iter().zip(costs).map(|(factor, of)| {
        let (wall, processors) = of.medians(first);
        let times = processors / first_processors;
        let prepend = if of.bare_prepend.is_empty() { String::new() } else { shown(median(of.bare_prepend.clone())) };
        table.row([
            name.to_owned(),
            factor.to_string(),
            shown(median(of.wall.clone())),
            shown(median(of.processors.clone())),
            prepend,
            shown(median(of.log_bytes.clone())),
            format!("{:.2}", wall / first_wall),
            format!("{times:.2}"),
        ]);
        (f64::from(*factor), times)
    });
    rows.collect()
}

async fn grown(england: &mut England, growth: Growth, topic: &str, runs: usize) -> Result<Vec<Costs>> {
    let template = |factor: u32| format!("grown_{factor}");
    for factor in FACTORS {
        make(&england.ground, &template(factor), BEFORE, growth, factor).await?;
        eprintln!("{} × {factor}: there", growth.name());
    }
    let mut costs = vec![Costs::default(); FACTORS.len()];
    for _ in 0..runs {
        for (factor, costs) in FACTORS.iter().zip(&mut costs) {
            if growth == Growth::History {
                let dos = england.ground.copy_of(&template(*factor)).await?;
                dos.client().batch_execute(INTO_MEMORY).await?;
                costs.bare_prepend.push(bare_prepend(dos.client()).await?);
                dos.remove(&england.ground.addresses).await?;
            }
            run(england, growth, (&template(*factor), topic, EVENTS), costs).await?;
        }
    }
    for factor in FACTORS {
        let dos = Dos::open(&england.ground.addresses.database_url(&template(factor))).await?;
        dos.remove(&england.ground.addresses).await?;
    }
    Ok(costs)
}

async fn backlogs(england: &mut England, runs: usize) -> Result<Vec<Costs>> {
    let newest = england.newest();
    let sizes = FACTORS.map(|factor| EVENTS * factor as usize);
    let mut topics = Vec::new();
    for size in sizes {
        topics.push(england.ground.publish(Mix::new(&newest)?.take(size)).await?);
    }
    let mut costs = vec![Costs::default(); FACTORS.len()];
    for _ in 0..runs {
        for ((size, topic), costs) in sizes.iter().zip(&topics).zip(&mut costs) {
            run(england, Growth::Backlog, (AFTER, topic, *size), costs).await?;
        }
    }
    Ok(costs)
}

async fn run(
    england: &mut England,
    growth: Growth,
    (template, topic, events): (&str, &str, usize),
    costs: &mut Costs,
) -> Result<()> {
    let subject = england.ground.subject(template, topic).await?;
    subject.dos.client().batch_execute(INTO_MEMORY).await?;
    if growth == Growth::Archive {
        subject.dos.client().batch_execute(EACH_ONCE).await?;
    }
    let figures = work_off(&mut england.ground, &subject, events, 1).await?;
    let (wall, processors) = cost(&figures, events);
    costs.wall.push(wall);
    costs.processors.push(processors);
    costs.log_bytes.push(figures.get(LOG_BYTES));
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    costs.histories_an_event.push(histories_written(subject.dos.client()).await? / events as f64);
    eprintln!(
        "{events} events on {template}: {} µs of the clock, {} µs of processors each",
        shown(wall),
        shown(processors)
    );
    subject.remove(&england.ground).await
}
