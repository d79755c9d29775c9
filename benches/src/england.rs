//! England, prepared: DoS as it is before its events and as they leave it, both to copy from, and the events.

use std::collections::BTreeMap;

use anyhow::Result;
use dosi::domain::audit::Outcome;
use dosi_tests::country::{ENGLAND_ORGANISATIONS, generate};
use dosi_tests::dos::Dos;
use dosi_tests::golden_form::{Country, england_folder};
use dosi_tests::topics::Record;

use crate::backlog::work_off;
use crate::floor::Floor;
use crate::ground::Ground;
use crate::scene::step;

/// DoS before the events.
pub const BEFORE: &str = "england_before";
/// DoS after the events; archive and outbox are empty.
pub const AFTER: &str = "england_after";
/// Events of one transaction of the floor.
pub const FLOOR_BATCH_EVENTS: usize = 500;

/// How often all profiles are sent again where nothing is to change: as long a run as one of England's events.
const ROUNDS: usize = 5;
/// Of each kind of work; why as many: see [`England::warm_up`].
const WARM_UPS: usize = 4;
/// Of the made-up country.
const SEED: u64 = 2026;

/// England, or where its data is not, a made-up country of the same size, which is said on stderr.
pub fn country() -> Result<Country> {
    if let Some(folder) = england_folder() {
        Country::read(&folder)
    } else {
        eprintln!("a made-up country of the same size takes its place");
        Ok(generate(SEED, ENGLAND_ORGANISATIONS))
    }
}

/// The country with its parts.
#[derive(Debug)]
pub struct England {
    pub ground: Ground,
    /// Change events in the order in which they arrive.
    pub records: Vec<Record>,
    pub floor: Floor,
}

impl England {
    pub async fn prepare(shared_buffers: &'static str) -> Result<Self> {
        let country = country()?;
        let ground = Ground::start(shared_buffers).await?;
        step("loaded DoS", ground.make_template(BEFORE, &country.services, &country.locations)).await?;
        let records: Vec<Record> = country.events.iter().map(Record::of).collect::<Result<_>>()?;
        let dos = Dos::create_named(&ground.addresses, AFTER, BEFORE).await?;
        let floor = step("computed the end state", Floor::prepare(dos.url(), &records, FLOOR_BATCH_EVENTS)).await?;
        dos.client().batch_execute("VACUUM ANALYZE").await?;
        dos.close(&ground.addresses, AFTER).await?;
        Ok(Self { ground, records, floor })
    }

    /// Works off England's events and all profiles in turn a few times and measures nothing. Brokers compile what they often execute
    /// while they run, and anew when there is other work to do, which those of a user did long ago: it costs the first run up to five
    /// seconds of a processor, the fourth two, the eighth one.
    pub async fn warm_up(&mut self) -> Result<()> {
        let mut works = Vec::new();
        for (template, records) in [(BEFORE, self.records.clone()), (AFTER, self.unchanged())] {
            works.push((template, records.len(), self.ground.publish(records).await?));
        }
        for (template, events, topic) in (0..WARM_UPS).flat_map(|_| &works) {
            let subject = self.ground.subject(template, topic).await?;
            step("warmed up the brokers", work_off(&mut self.ground, &subject, *events, 1)).await?;
            subject.remove(&self.ground).await?;
        }
        Ok(())
    }

    /// The newest profile of each organisation that has services to keep in step: sent once more it changes nothing.
    pub fn newest(&self) -> Vec<Record> {
        // A stale one is older than what was accepted; of the others a later one is newer.
        let accepted =
            self.records.iter().zip(self.floor.outcomes()).filter(|(_, outcome)| **outcome != Outcome::Stale);
        let newest: BTreeMap<_, _> =
            accepted.map(|(record, outcome)| (record.key.as_deref(), (record, *outcome))).collect();
        let applied = newest.values().filter(|(_, outcome)| matches!(outcome, Outcome::Updated | Outcome::Unchanged));
        applied.map(|(record, _)| (*record).clone()).collect()
    }

    /// [`Self::newest`], several times over.
    pub fn unchanged(&self) -> Vec<Record> {
        let newest = self.newest();
        (0..ROUNDS).flat_map(|_| newest.iter().cloned()).collect()
    }
}
