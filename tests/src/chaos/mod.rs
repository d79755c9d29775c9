//! The fault harness: dosi on real parts, a seeded schedule of faults, and a checker that holds what is left against the
//! core's serial run.
//!
//! # Layout
//!
//! In reading order:
//!
//! - [`plan`]: which faults come when
//! - [`parts`], [`proxy`], [`small_disk`]: what can be taken away from dosi
//! - [`workload`], [`other_writer`]: who sends events, and who else writes to DoS
//! - [`world`], [`instance`]: what one seed runs in
//! - [`driver`], [`faults`], [`undo`], [`takeover`]: the faults themselves
//! - [`witness`]: what must hold all the while
//! - [`checker`]: what must hold at the end
//! - [`report`]: what is told of it
//! - [`mutants`]: deliberate defects of dosi, each of which must be found

pub mod checker;
pub mod driver;
mod faults;
pub mod instance;
pub mod mutants;
pub mod other_writer;
pub mod parts;
pub mod plan;
pub mod proxy;
pub mod report;
pub mod small_disk;
pub mod takeover;
mod undo;
pub mod witness;
pub mod workload;
pub mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use dosi::fault_injection::Mutant;
use tokio::runtime::Handle;

use checker::Evidence;
use driver::{Driver, Tally};
use parts::Parts;
use plan::Plan;
use world::World;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    pub length: Duration,
    pub events_per_second: u32,
    /// The program with a deliberate defect.
    pub defect: Option<Mutant>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub settings: Settings,
    pub events: usize,
    pub writes: usize,
    /// Its findings are the harness's and the checker's.
    pub tally: Tally,
    /// Where its logs are, when there is something to look for.
    pub logs: Option<PathBuf>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.tally.findings.is_empty()
    }
}

/// One seed, from an empty world to the judgement. The instances of dosi end with the thread that calls this.
pub fn run(parts: &mut Parts, settings: Settings, runtime: &Handle) -> Result<Outcome> {
    let logs = logs(settings.seed)?;
    let plan = Plan::new(settings.seed, settings.length);
    let mut world = World::set(parts, settings, &logs, runtime)?;
    let mut tally = Driver::new(parts, &mut world, runtime).run(&plan, settings)?;
    match Evidence::read(&world, tally.backups_put_back, runtime).and_then(|evidence| checker::check(&evidence)) {
        Ok(findings) => tally.findings.extend(findings),
        Err(error) => tally.findings.push(format!("what is left cannot be read: {error:#}")),
    }
    tally.findings.extend(world.witness.seen());
    let outcome = Outcome {
        settings,
        events: world.made.load(std::sync::atomic::Ordering::SeqCst),
        writes: world.writer.count(),
        tally,
        logs: Some(logs),
    };
    keep_or_remove_logs(parts, outcome)
}

fn keep_or_remove_logs(parts: &Parts, mut outcome: Outcome) -> Result<Outcome> {
    if outcome.passed() {
        if let Some(logs) = outcome.logs.take() {
            std::fs::remove_dir_all(&logs).with_context(|| format!("failed to remove {}", logs.display()))?;
        }
    } else if let Some(logs) = &outcome.logs {
        let brokers = parts.stack.kafka.log_files();
        for (number, file) in (1..).zip(brokers) {
            std::fs::copy(file, logs.join(format!("kafka-{number}.log")))?;
        }
        std::fs::copy(parts.stack.postgres.log_file(), logs.join("postgres.log"))?;
        std::fs::write(logs.join("findings.txt"), outcome.tally.findings.join("\n"))?;
    }
    Ok(outcome)
}

/// An empty folder outside the source tree and outside of what goes with the stack.
fn logs(seed: u64) -> Result<PathBuf> {
    let folder = Path::new(&std::env::temp_dir()).join(format!("dosi-chaos-{seed}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}
