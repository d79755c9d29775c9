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
const FACTORS: [u32; 3] = [1, 3, 10];
/// As long a run as one of England's events; a start that is spread over fewer would hide what more of them cost.
const SHORTEST_BACKLOG: usize = 18_000;

/// Of one run; microseconds and bytes an event.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall: f64,
    processors: f64,
    /// What bare statements take to prepend the histories that an event writes, at this length.
    bare_prepends: f64,
    log_bytes: f64,
    peak_memory_mib: f64,
}

/// Of each size, a run's in the same place everywhere.
type Costs = [Vec<Cost>; FACTORS.len()];

impl Cost {
    /// Processor time over what bare statements have to take: they prepend to longer histories, too.
    fn over_bare_prepends(&self) -> f64 {
        self.processors - self.bare_prepends
    }
}

pub(crate) async fn growth(england: &mut England, growths: &[Growth], runs: usize) -> Result<()> {
    let mut table = Table::new(&[
        "grown",
        "times",
        "wall µs/event",
        "processors µs/event",
        "bare prepends µs/event",
        "WAL bytes/event",
        "peak MiB",
        "wall ×",
        "processors ×",
        "over bare prepends ×",
    ]);
    let mut lines = Vec::new();
    let topic = england.ground.publish(england.records.iter().cloned()).await?;
    // It comes by the number of rows changed, by the size of the table: a small one would have to bear what a large one is spared.
    let postgres = Dos::open(&england.ground.addresses.postgres_url).await?;
    postgres.client().batch_execute("ALTER SYSTEM SET autovacuum = off").await?;
    postgres.client().batch_execute("SELECT pg_reload_conf()").await?;
    for growth in growths {
        let costs = match growth {
            Growth::Backlog => backlogs(england, runs).await?,
            _ => grown(england, *growth, &topic, runs).await?,
        };
        lines.push((growth.name().to_owned(), rows(&mut table, growth.name(), &costs)));
    }
    println!("\n{table}");
    println!("  × is the median, least and greatest of each turn's own ratio to the first size.");
    let chart = Chart {
        title: "Cost an event as DoS grows",
        across: "times the size",
        up: "processor time, first size = 1",
        lines,
    };
    chart.write(&picture("growth.svg")?)
}

/// One row a size; for the picture what the processors' cost has become.
fn rows(table: &mut Table, name: &str, costs: &Costs) -> Vec<(f64, f64)> {
    let [first, ..] = costs;
    let rows = FACTORS.iter().zip(costs).map(|(factor, of)| {
        let middle = |value: fn(&Cost) -> f64| shown(median(of.iter().map(value).collect()));
        let times = |value: fn(&Cost) -> f64| of.iter().zip(first).map(move |(cost, first)| value(cost) / value(first));
        let spread = |value: fn(&Cost) -> f64| {
            let (least, greatest) = (times(value).fold(f64::INFINITY, f64::min), times(value).fold(0.0, f64::max));
            format!("{:.2} ({least:.2} to {greatest:.2})", median(times(value).collect()))
        };
        table.row([
            name.to_owned(),
            factor.to_string(),
            middle(|cost| cost.wall),
            middle(|cost| cost.processors),
            middle(|cost| cost.bare_prepends),
            middle(|cost| cost.log_bytes),
            middle(|cost| cost.peak_memory_mib),
            spread(|cost| cost.wall),
            spread(|cost| cost.processors),
            spread(Cost::over_bare_prepends),
        ]);
        (f64::from(*factor), median(times(Cost::over_bare_prepends).collect()))
    });
    rows.collect()
}

async fn grown(england: &mut England, growth: Growth, topic: &str, runs: usize) -> Result<Costs> {
    let templates = FACTORS.map(|factor| format!("grown_{factor}"));
    for (factor, template) in FACTORS.iter().zip(&templates) {
        make(&england.ground, template, BEFORE, growth, *factor).await?;
        eprintln!("{} × {factor}: there", growth.name());
    }
    let events = england.records.len();
    let costs =
        in_turn(england, growth, templates.each_ref().map(|template| (&**template, topic, events)), runs).await?;
    for template in templates {
        let dos = Dos::open(&england.ground.addresses.database_url(&template)).await?;
        dos.remove(&england.ground.addresses).await?;
    }
    Ok(costs)
}

async fn backlogs(england: &mut England, runs: usize) -> Result<Costs> {
    let newest = england.newest();
    let sizes = FACTORS.map(|factor| SHORTEST_BACKLOG * factor as usize);
    let mut topics = Vec::new();
    for size in sizes {
        topics.push(england.ground.publish(Mix::new(&newest)?.take(size)).await?);
    }
    let of = [0, 1, 2].map(|size| (AFTER, &*topics[size], sizes[size]));
    in_turn(england, Growth::Backlog, of, runs).await
}

/// Each size once a run, in every second run the other way round: what changes with time falls on all alike.
async fn in_turn(
    england: &mut England,
    growth: Growth,
    of: [(&str, &str, usize); FACTORS.len()],
    runs: usize,
) -> Result<Costs> {
    let mut costs = Costs::default();
    for run in 0..runs {
        for place in 0..FACTORS.len() {
            let size = if run % 2 == 0 { place } else { FACTORS.len() - 1 - place };
            costs[size].push(measure(england, growth, of[size]).await?);
        }
    }
    Ok(costs)
}

async fn measure(
    england: &mut England,
    growth: Growth,
    (template, topic, events): (&str, &str, usize),
) -> Result<Cost> {
    let mut bare = 0.0;
    if growth == Growth::History {
        let dos = england.ground.copy_of(template).await?;
        dos.client().batch_execute(INTO_MEMORY).await?;
        bare = bare_prepend(dos.client()).await?;
        dos.remove(&england.ground.addresses).await?;
    }
    let subject = england.ground.subject(template, topic).await?;
    subject.dos.client().batch_execute(INTO_MEMORY).await?;
    let figures = work_off(&mut england.ground, &subject, events, 1).await?;
    let (wall, processors) = cost(&figures, events);
    let peak_memory_mib = figures.get("peak resident memory of dosi");
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    let bare_prepends = bare * histories_written(subject.dos.client()).await? / events as f64;
    eprintln!(
        "{events} events on {template}: {} µs of the clock, {} µs of processors each",
        shown(wall),
        shown(processors)
    );
    subject.remove(&england.ground).await?;
    Ok(Cost { wall, processors, bare_prepends, log_bytes: figures.get(LOG_BYTES), peak_memory_mib })
}
