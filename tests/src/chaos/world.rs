//! What one seed runs in: a DoS of its own, topics and a group of its own, the instances, and who else writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Settings;
use super::instance::Instance;
use super::other_writer::{self, OtherWriter};
use super::parts::{INSTANCES, Parts};
use super::small_disk::TABLESPACE;
use super::takeover::Positions;
use super::witness::Witness;
use super::workload::{self, PARTITIONS, Workload};
use crate::dos::{Dos, TEMPLATE};
use crate::golden_form::{Location, Service};
use crate::group::Group;
use crate::program::Dosi;
use crate::stack::Addresses;
use crate::topics;

/// The same for all seeds, so that a run on another day is the same run.
pub const TODAY: &str = "2026-11-22";
/// The instance whose clock can be stepped.
const WITH_OWN_CLOCK: usize = 1;
const NOT_BEGUN: i64 = 1_000_000;
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(3);

/// One seed's world.
pub struct World {
    /// Past the proxies.
    pub addresses: Addresses,
    pub database_url: String,
    /// With the settings of one that stands beside the proxies.
    pub dosi: Dosi,
    pub group: Group,
    pub instances: Vec<Instance>,
    pub clock: Option<PathBuf>,
    pub writer: Arc<OtherWriter>,
    pub witness: Witness,
    pub services: Vec<Service>,
    pub locations: Vec<Location>,
    /// Codes with the most events.
    pub often: Vec<String>,
    pub made: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// Until they are waited for.
    busy: Option<(JoinHandle<Result<()>>, JoinHandle<()>)>,
    runtime: Handle,
}

impl World {
    /// Everything set up, nothing started.
    pub fn set(parts: &Parts, settings: Settings, logs: &Path, runtime: &Handle) -> Result<Self> {
        let Settings { seed, events_per_second, defect, .. } = settings;
        let addresses = parts.stack.addresses();
        let workload = Workload::new(seed);
        let (services, locations, often) = (workload.services(), workload.locations(), workload.often());
        let name = format!("dos_{seed}_{:08x}", rand::random::<u32>());
        let url = addresses.database_url(&name);
        let dos = runtime.block_on(async {
            let mut dos = Dos::create_named(&addresses, &name, TEMPLATE).await?;
            dos.load(&services, &locations).await?;
            anyhow::Ok(dos)
        })?;
        let own = topics::unique("chaos");
        let dosi = Dosi::named(&addresses, &url, &own)
            .with("DOSI_TODAY", TODAY)
            .with("DOSI_TOPIC_PARTITIONS", &PARTITIONS.to_string());
        dosi.set_up()?;
        runtime.block_on(dos.client().batch_execute(workload::LIMIT_SEQUENCES))?;
        if parts.small_disk.is_some() {
            let table = "dos_integration.change_event_archive";
            let moved = format!("ALTER TABLE {table} SET TABLESPACE {TABLESPACE}");
            runtime.block_on(dos.client().batch_execute(&moved))?;
        }
        let clock = clock(logs)?;
        let with_defect = match defect {
            Some(mutant) => dosi.clone().with_fault_injection().with("DOSI_MUTANT", &mutant.name()),
            None => dosi.clone(),
        };
        let instances = instances(parts, &with_defect, &name, clock.as_deref(), logs)?;
        let group = || -> Result<Group> {
            Ok(Group::new(&addresses, dosi.setting("DOSI_GROUP_ID"), dosi.input_topic())?.within(ASK_WITHIN))
        };
        let witness = Witness::start(group()?, url.clone(), dosi.input_topic().to_owned(), runtime.clone());
        let group = group()?;
        let (made, stop, writer) = Default::default();
        let ids = services.iter().map(|service| service.id).collect();
        let producing = runtime.spawn(workload::produce(
            workload,
            addresses.clone(),
            dosi.input_topic().to_owned(),
            events_per_second,
            Arc::clone(&made),
            Arc::clone(&stop),
        ));
        let writing =
            runtime.spawn(other_writer::write(seed, url.clone(), ids, Arc::clone(&writer), Arc::clone(&stop)));
        Ok(Self {
            addresses,
            database_url: url,
            dosi,
            group,
            instances,
            clock,
            writer,
            witness,
            services,
            locations,
            often,
            made,
            stop,
            busy: Some((producing, writing)),
            runtime: runtime.clone(),
        })
    }

    /// Producing has broken off: whatever is seen afterwards says nothing of dosi.
    pub fn is_broken(&self) -> bool {
        let ended = self.busy.as_ref().is_some_and(|(producing, _)| producing.is_finished());
        ended && !self.stop.load(Ordering::SeqCst)
    }

    /// Ends producing and writing; every event is in the topic then.
    pub fn stop_input(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        let Some((producing, writing)) = self.busy.take() else { return Ok(()) };
        self.runtime.block_on(writing)?;
        self.runtime.block_on(producing)?
    }

    /// Positions in the database by partition, and how many rows the outbox holds.
    pub fn positions(&self) -> Result<(Positions, i64)> {
        let read = positions(&self.database_url, self.dosi.input_topic());
        let within = async { tokio::time::timeout(ASK_WITHIN, read).await };
        self.runtime.block_on(within).context("the database does not answer")?
    }

    /// How many events are not applied or not published yet; outbox rows count, too.
    pub fn behind(&self) -> Result<i64> {
        let ends = self.group.ends()?;
        let (positions, outbox) = self.positions()?;
        let committed = self.group.committed()?;
        // A partition that has not even begun is behind by more than any number of events.
        let missing = |have: &Positions| {
            ends.iter().map(|(partition, end)| have.get(partition).map_or(NOT_BEGUN, |next| end - next)).sum::<i64>()
        };
        Ok(missing(&positions) + missing(&committed) + outbox)
    }
}

/// See [`World::positions`].
pub(super) async fn positions(database_url: &str, topic: &str) -> Result<(Positions, i64)> {
    let dos = Dos::open(database_url).await?;
    let query = "SELECT partition, position FROM dos_integration.consumer_position WHERE topic = $1";
    let rows = dos.client().query(query, &[&topic]).await?;
    let outbox = dos.client().query_one("SELECT count(*) FROM dos_integration.outbox", &[]).await?;
    Ok((rows.iter().map(|row| (row.get(0), row.get(1))).collect(), outbox.get(0)))
}

fn instances(parts: &Parts, dosi: &Dosi, database: &str, clock: Option<&Path>, logs: &Path) -> Result<Vec<Instance>> {
    let made = INSTANCES.iter().enumerate().map(|(number, name)| {
        let behind = parts.addresses_for(number)?;
        let url = format!("{}?application_name=dosi-{name}", behind.database_url(database));
        let mut own = dosi
            .clone()
            .with("DOSI_INSTANCE_ID", name)
            .with("DOSI_DATABASE_URL", &url)
            .with("DOSI_KAFKA_BOOTSTRAP_SERVERS", &behind.kafka_bootstrap_servers)
            .with("DOSI_SCHEMA_REGISTRY_URL", &behind.schema_registry_url);
        if let Some(clock) = clock.filter(|_| number == WITH_OWN_CLOCK) {
            own = with_clock(own, clock)?;
        }
        Ok(Instance::new(name, own, logs.to_owned()))
    });
    made.collect()
}

/// The file that says what time it is; `None`, said on stderr, where no library is installed that reads it.
fn clock(logs: &Path) -> Result<Option<PathBuf>> {
    if faketime().is_none() {
        eprintln!("faketime is not installed: the fault of a stepped clock is left out");
        return Ok(None);
    }
    let file = logs.join("clock");
    fs::write(&file, "+0")?;
    Ok(Some(file))
}

fn with_clock(dosi: Dosi, clock: &Path) -> Result<Dosi> {
    let Some(library) = faketime() else { bail!("faketime has gone") };
    Ok(dosi
        .with("LD_PRELOAD", &library.display().to_string())
        .with("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string())
        .with("FAKETIME_CACHE_DURATION", "1")
        // Only what a wall clock shows is stepped: timers go on, as they would.
        .with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .with("DONT_FAKE_MONOTONIC", "1"))
}

fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}
