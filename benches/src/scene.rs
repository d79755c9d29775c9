//! A country in a DoS database and a dosi set up for it: where the demo and the benchmarks begin.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use dosi_tests::audit::{self, Record};
use dosi_tests::dos::{Dos, TEMPLATE};
use dosi_tests::golden_form::{Country, Event};
use dosi_tests::program::Dosi;
use dosi_tests::stack::Addresses;

use crate::audit_totals::AuditTotals;

/// The country of the demo.
pub const DEMO_SEED: u64 = 2026;
pub const DEMO_ORGANISATIONS: u32 = 300;

/// Audit is published a moment after DoS is written, and seen when its transaction is committed.
const AUDIT_WITHIN: Duration = Duration::from_secs(60);

/// The parts with a loaded DoS, `migrate` and `topics` done.
#[derive(Debug)]
pub struct Scene {
    pub addresses: Addresses,
    pub dos: Dos,
    pub dosi: Dosi,
}

impl Scene {
    /// Loads the country into database `dos` of the stack around this process and sets dosi up with its usual names.
    pub async fn set(country: &Country) -> Result<Self> {
        let addresses = Addresses::from_env()?;
        let mut dos = Dos::create_named(&addresses, "dos", TEMPLATE).await?;
        step("loaded DoS", dos.load(&country.services, &country.locations)).await?;
        let dosi = Dosi::named(&addresses, dos.url(), "dos").with("DOSI_GROUP_ID", "dosi");
        let start = Instant::now();
        dosi.set_up()?;
        done("dosi migrate, dosi topics", start);
        Ok(Self { addresses, dos, dosi })
    }

    /// `dosi publish`.
    pub fn publish(&self, file: &Path) -> Result<()> {
        let start = Instant::now();
        self.dosi.done(&["publish", &file.display().to_string()])?;
        done("dosi publish", start);
        Ok(())
    }

    /// The audit topic, once it holds an outcome for each of the events.
    pub fn audit_of(&self, events: usize) -> Result<Vec<Record>> {
        let deadline = Instant::now() + AUDIT_WITHIN;
        loop {
            let records = audit::read(&self.addresses, &[self.dosi.audit_topic()])?;
            let outcomes = AuditTotals::of(&records).outcomes();
            if outcomes >= events as u64 {
                return Ok(records);
            }
            if Instant::now() > deadline {
                bail!("the audit topic holds {outcomes} outcomes of {events} events");
            }
        }
    }
}

/// Events as a file for `dosi publish`.
pub fn write_events(file: &Path, events: &[Event]) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    for event in events {
        writeln!(out, "{}", event.to_line())?;
    }
    Ok(out.flush()?)
}

/// Does something and says how long it took.
pub async fn step<T>(what: &str, doing: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let result = doing.await?;
    done(what, start);
    Ok(result)
}

/// Says how long something took.
pub fn done(what: &str, start: Instant) {
    eprintln!("{what} ({:.1} s)", start.elapsed().as_secs_f64());
}
