//! Where benchmarks run: parts of their own, and a program set up on a copy of a prepared DoS.

use std::path::PathBuf;

use anyhow::Result;
use dosi_tests::dos::{self, Dos, TEMPLATE};
use dosi_tests::golden_form::{Location, Service};
use dosi_tests::program::Dosi;
use dosi_tests::stack::{Addresses, Durability, Settings, Stack};
use dosi_tests::topics::{self, Record};

use crate::processes::{Processor, processor_of};

/// The day that every run takes for today: what is past and what lies ahead stays the same.
pub const TODAY: &str = "2026-11-22";
pub const PARTITIONS: i32 = 12;
/// Records that are produced together: what a producer holds in memory is bounded.
const PRODUCED_TOGETHER: usize = 10_000;

/// PostgreSQL with its usual durability, Kafka and the schema registry, for this process alone.
#[derive(Debug)]
pub struct Ground {
    pub addresses: Addresses,
    stack: Stack,
}

/// A database and a dosi set up for it, with topics and a group of its own.
#[derive(Debug)]
pub struct Subject {
    pub dos: Dos,
    pub dosi: Dosi,
}

/// Processor time of the parts so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartsTime {
    pub postgres: f64,
    pub kafka: f64,
}

impl Ground {
    /// The parts end with the thread that calls this: call it from the main one.
    pub async fn start(shared_buffers: &'static str) -> Result<Self> {
        eprintln!("starting PostgreSQL, Kafka and the schema registry");
        let stack = Stack::start(&Settings { durability: Durability::Synced, kafka_nodes: 1, shared_buffers })?;
        let addresses = stack.addresses();
        dos::make_empty_template(&addresses).await?;
        Ok(Self { addresses, stack })
    }

    /// A database to copy from: DoS with these services, what dosi keeps beside it, and statistics of all tables.
    pub async fn make_template(&self, name: &str, services: &[Service], locations: &[Location]) -> Result<()> {
        let mut dos = Dos::create_named(&self.addresses, name, TEMPLATE).await?;
        dos.load(services, locations).await?;
        Dosi::named(&self.addresses, dos.url(), name).done(&["migrate"])?;
        dos.client().batch_execute("CREATE EXTENSION pg_stat_statements").await?;
        dos.client().batch_execute("VACUUM ANALYZE").await?;
        dos.close(&self.addresses, name).await
    }

    /// A copy of a template, with nothing of it left to write out.
    pub async fn copy_of(&self, template: &str) -> Result<Dos> {
        let dos = Dos::copy_of(&self.addresses, template).await?;
        dos.client().batch_execute("CHECKPOINT").await?;
        Ok(dos)
    }

    /// All that a run needs, nothing of it started.
    pub async fn subject(&self, template: &str, topic: &str) -> Result<Subject> {
        let dos = self.copy_of(template).await?;
        let dosi = self.dosi_on(&dos, topic);
        dosi.set_up()?;
        Ok(Subject { dos, dosi })
    }

    /// A dosi with output topics and a group of its own; nothing is set up.
    pub fn dosi_on(&self, dos: &Dos, topic: &str) -> Dosi {
        Dosi::new(&self.addresses, dos.url()).with("DOSI_CHANGE_EVENTS_TOPIC", topic).with("DOSI_TODAY", TODAY)
    }

    /// A new topic that holds these records; its name.
    pub async fn publish(&self, records: impl IntoIterator<Item = Record>) -> Result<String> {
        let topic = topics::unique("change-events");
        topics::create(&self.addresses, &topic, PARTITIONS, &[]).await?;
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let some: Vec<_> = records.by_ref().take(PRODUCED_TOGETHER).collect();
            topics::produce(&self.addresses, &topic, &some).await?;
        }
        Ok(topic)
    }

    pub fn parts_time(&mut self) -> Result<PartsTime> {
        let postgres = processor_of(self.stack.postgres.pid()?, Processor::WithChildren)?;
        let kafka = processor_of(self.stack.kafka.pid(1)?, Processor::Alone)?;
        Ok(PartsTime { postgres, kafka })
    }
}

impl Subject {
    pub async fn remove(self, ground: &Ground) -> Result<()> {
        self.dos.remove(&ground.addresses).await
    }
}

/// Where a picture goes: into docs/ when the Makefile says so, else beside what is built.
pub fn picture(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("DOSI_BENCH_PICTURES").map_or_else(|| "target/bench".into(), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(name))
}
