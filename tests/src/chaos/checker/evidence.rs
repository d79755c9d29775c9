//! Everything that a run left, as values.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use chrono::NaiveDate;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::audit::{self, Record};
use crate::chaos::other_writer::Write;
use crate::chaos::takeover::Positions;
use crate::chaos::world::{TODAY, World};
use crate::dos::{After, Dos};
use crate::golden_form::{Location, Service};

/// A transaction that a killed instance left open ends by itself within this.
const READABLE_WITHIN: Duration = Duration::from_secs(60);

/// DoS before the run.
#[derive(Clone, Debug)]
pub struct Before {
    pub services: Vec<Service>,
    pub locations: Vec<Location>,
    pub today: NaiveDate,
}

/// A row of the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Archived {
    pub partition: i32,
    pub offset: i64,
    pub ods_code: String,
    pub sequence_number: Option<i64>,
    pub correlation_id: String,
    pub event: Value,
}

/// What only the other writer writes of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    pub fax: Option<String>,
    pub email: Option<String>,
    pub public_name: Option<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub before: Before,
    /// The input topic.
    pub topic: String,
    /// How many events the harness made.
    pub made: usize,
    pub inputs: Vec<Record>,
    pub audit: Vec<Record>,
    pub dead_letters: Vec<Record>,
    pub services: Vec<After>,
    /// By service.
    pub columns: BTreeMap<i32, Columns>,
    /// Ids of the changes that mails are queued about, sorted.
    pub mails: Vec<String>,
    /// A code that has accepted nothing may stand there with 0 (rule 1.4).
    pub sequences: BTreeMap<String, i64>,
    pub archive: Vec<Archived>,
    pub positions: Positions,
    pub committed: Positions,
    pub ends: Positions,
    pub outbox_rows: i64,
    pub halted: Vec<String>,
    pub writes: Vec<Write>,
    pub backups_put_back: u32,
}

impl Evidence {
    /// Past the proxies, when dosi has ended.
    pub fn read(world: &World, backups_put_back: u32, runtime: &Handle) -> Result<Self> {
        let topics = [world.dosi.input_topic(), world.dosi.audit_topic(), world.dosi.dead_letter_topic()];
        wait_until_readable(world, &topics[1..])?;
        let mut of: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in audit::read(&world.addresses, &topics)? {
            of.entry(record.topic.clone()).or_default().push(record);
        }
        let mut records = |topic: &str| of.remove(topic).unwrap_or_default();
        let (inputs, audit, dead_letters) = (records(topics[0]), records(topics[1]), records(topics[2]));
        let (positions, outbox_rows) = world.positions()?;
        let left = runtime.block_on(read_database(&world.database_url))?;
        let before =
            Before { services: world.services.clone(), locations: world.locations.clone(), today: TODAY.parse()? };
        Ok(Self {
            before,
            topic: topics[0].to_owned(),
            made: world.made.load(std::sync::atomic::Ordering::SeqCst),
            inputs,
            audit,
            dead_letters,
            services: left.services,
            columns: left.columns,
            mails: left.mails,
            sequences: left.sequences,
            archive: left.archive,
            positions,
            committed: world.group.committed()?,
            ends: world.group.ends()?,
            outbox_rows,
            halted: left.halted,
            writes: world.writer.writes(),
            backups_put_back,
        })
    }
}

fn wait_until_readable(world: &World, topics: &[&str]) -> Result<()> {
    let deadline = Instant::now() + READABLE_WITHIN;
    while !topics.iter().all(|topic| world.group.is_readable(topic).unwrap_or(false)) {
        if Instant::now() > deadline {
            bail!("a transaction is still open on {topics:?} after {READABLE_WITHIN:?}");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

struct Left {
    services: Vec<After>,
    columns: BTreeMap<i32, Columns>,
    mails: Vec<String>,
    sequences: BTreeMap<String, i64>,
    archive: Vec<Archived>,
    halted: Vec<String>,
}

async fn read_database(url: &str) -> Result<Left> {
    let dos = Dos::open(url).await?;
    let services = dos.services().await?;
    let rows = async |query: &str| dos.client().query(query, &[]).await;
    let columns = rows("SELECT id, fax, email, publicname FROM pathwaysdos.services").await?;
    let mails = rows("SELECT change_id FROM dos_integration.mail_queue ORDER BY change_id").await?;
    let sequences = rows("SELECT ods_code, sequence_number FROM dos_integration.accepted_sequence").await?;
    let archive = rows(
        "SELECT source_partition, source_offset, ods_code, sequence_number, correlation_id, event
        FROM dos_integration.change_event_archive ORDER BY source_partition, source_offset",
    )
    .await?;
    let halted =
        rows("SELECT halted_reason FROM dos_integration.consumer_position WHERE halted_reason IS NOT NULL").await?;
    let archive = archive.iter().map(|row| {
        Ok(Archived {
            partition: row.get(0),
            offset: row.get(1),
            ods_code: row.get(2),
            sequence_number: row.get(3),
            correlation_id: row.get(4),
            event: serde_json::from_str(row.get(5))?,
        })
    });
    let of_service = |row: &tokio_postgres::Row| {
        (row.get(0), Columns { fax: row.get(1), email: row.get(2), public_name: row.get(3) })
    };
    Ok(Left {
        services,
        columns: columns.iter().map(of_service).collect(),
        mails: mails.iter().map(|row| row.get(0)).collect(),
        sequences: sequences.iter().map(|row| (row.get(0), row.get(1))).collect(),
        archive: archive.collect::<Result<_>>()?,
        halted: halted.iter().map(|row| row.get(0)).collect(),
    })
}
