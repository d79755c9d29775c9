//! The only place that knows the order of the steps, and the only one that joins Kafka and PostgreSQL.
//!
//! - [`lanes`]: partitions come and go; each that is here has a lane
//! - [`lane`]: one partition: begin, take what is there, apply, again
//! - [`batch`]: decode → load → decide → write → commit, one transaction
//! - [`retry`]: what follows an error of that transaction
//! - [`publishing`]: outbox → Kafka transaction → group's offset
//! - [`clearing`]: what is published goes from the outbox
//! - [`rights`]: what Kafka no longer lets this instance do
//! - [`serving`], [`partition`]: what these share

pub mod backoff;
pub mod batch;
pub mod clearing;
pub mod lane;
pub mod lanes;
#[cfg(feature = "fault-injection")]
mod mutants;
pub mod partition;
pub mod publishing;
pub mod retry;
pub mod rights;
pub mod serving;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use chrono::{NaiveDate, Utc};
use rdkafka::{ClientConfig, Offset, TopicPartitionList, consumer::Consumer as _};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};

use self::{
    partition::{Delivery, Partition},
    serving::Serving,
};
use crate::{
    domain::london::today_in_london,
    kafka::{consumer::ConsumerHandle, publisher::OutputTopics, registry::Registry},
    postgres::{self, Fault, database::Database, position::PositionRow},
    protocol::position::{GroupOffset, HaltReason, LogEnds, is_behind},
    telemetry::{
        metrics::{Dependency, Metrics},
        readiness::Readiness,
    },
    wire::audit::AuditEncoder,
};

/// A question to the brokers waits this long; a broker that holds an answer back is asked again.
const BROKER_TIMEOUT: Duration = Duration::from_secs(2);

/// A look at the positions waits this long for the database.
const POSITIONS_TIMEOUT: Duration = Duration::from_secs(5);

/// A halted partition's name in `/readyz`.
fn halt_component(partition: i32) -> String {
    format!("partition {partition}")
}

/// The name in `/readyz` of a partition whose lane waits for something.
fn waiting_component(dependency: Dependency, partition: i32) -> String {
    format!("{} (partition {partition})", dependency.as_str())
}

/// The name in `/readyz` of a partition whose outbox the publisher cannot read.
fn reading_component(partition: i32) -> String {
    format!("outbox (partition {partition})")
}

/// The name in `/readyz` of a group offset that is less than it was.
fn refused_offset_component(partition: i32) -> String {
    format!("group offset (partition {partition})")
}

/// Names of the three topics.
#[derive(Clone, Debug)]
pub struct Topics {
    pub change_events: String,
    pub audit: String,
    pub dead_letter: String,
}

/// What lanes, publisher and consumer callbacks share.
pub struct Shared {
    pub database: Database,
    pub registry: Registry,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub encoder: AuditEncoder,
    pub topics: Topics,
    pub producer_config: ClientConfig,
    /// Of clients that ask for the group's offsets as they are committed, whatever is pending.
    pub asker_config: ClientConfig,
    /// Most bytes of a dead-letter record's value.
    pub dead_letter_bytes_max: usize,
    pub batch_events_max: usize,
    /// A date to take as today, for rehearsals and tests.
    pub today: Option<NaiveDate>,
    /// With `--exit-at-end`: where each partition ended at start.
    pub ends: BTreeMap<i32, i64>,
    pub serving: Serving,
    /// Places in the database: lanes that may have a transaction open at the same time.
    pub places: Arc<Semaphore>,
    pub publish_now: Notify,
    pub consumer: OnceLock<ConsumerHandle>,
    pub fatal: watch::Sender<Option<String>>,
    /// The input topic is gone: no offset of it may be committed any more.
    pub topic_gone: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl Shared {
    pub fn today(&self) -> NaiveDate {
        self.today.unwrap_or_else(|| today_in_london(Utc::now()))
    }

    pub fn consumer(&self) -> &ConsumerHandle {
        self.consumer.get().expect("lanes and publisher start after the consumer")
    }

    pub fn output_topics(&self) -> OutputTopics {
        OutputTopics { audit: self.topics.audit.clone(), dead_letter: self.topics.dead_letter.clone() }
    }

    pub fn up(&self, dependency: Dependency) {
        self.metrics.set_up(dependency, true);
        if self.readiness.clear(dependency.as_str()) {
            tracing::info!(dependency = dependency.as_str(), "reachable again");
        }
    }

    /// Says what is away where an operator looks; once in the log, not at each try.
    pub fn down(&self, dependency: Dependency, why: &dyn Display) {
        self.metrics.set_up(dependency, false);
        if self.readiness.set(dependency.as_str(), Some(why.to_string())) {
            tracing::warn!(dependency = dependency.as_str(), "not usable, waiting: {why}");
        }
    }

    /// Gauges that are looked at rather than counted.
    pub fn measure(&self) {
        let now_ms = Utc::now().timestamp_millis();
        let partitions = self.serving.all();
        let oldest = partitions.iter().filter_map(|partition| partition.oldest_ms()).min();
        let batches = self.serving.lock().protocol.batches();
        self.metrics.outbox_batches.set(i64::try_from(batches).unwrap_or(i64::MAX));
        let halted = partitions.iter().filter(|partition| partition.is_halted()).count();
        self.metrics.halted_partitions.set(i64::try_from(halted).unwrap_or(i64::MAX));
        self.metrics
            .oldest_unprocessed_age
            .set(oldest.map_or(0, |oldest| now_ms.saturating_sub(oldest).max(0) / 1_000));
        self.database.measure(&self.metrics);
    }

    /// The process cannot go on.
    pub fn fatal(&self, line: String) {
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            if first {
                *fatal = Some(line);
            }
            first
        });
    }

    /// Says where an operator looks that a partition is halted, or no longer.
    pub fn set_halted(&self, partition: &Partition, line: Option<String>) {
        partition.set_halted(line.is_some());
        self.readiness.set(&halt_component(partition.number), line);
    }

    /// What was told of a partition that is ours no longer.
    pub fn forget_partition(&self, partition: i32) {
        self.metrics.forget_partition(partition);
        self.readiness.clear(&halt_component(partition));
        self.readiness.clear(&waiting_component(Dependency::Database, partition));
        if self.readiness.clear(&waiting_component(Dependency::Registry, partition)) {
            // Nobody may be left who would ask it and say so.
            self.metrics.set_up(Dependency::Registry, true);
        }
        self.readiness.clear(&refused_offset_component(partition));
        self.readiness.clear(&reading_component(partition));
    }

    /// The database has lost what the group's offset says is published.
    pub fn tell_behind(&self, partition: i32, position: i64, group: i64) {
        if position < group {
            self.metrics.reapplied(partition, position, group);
            tracing::warn!(
                partition,
                from = position,
                to = group,
                "position behind the group's offset: effects are applied again, their audit is not"
            );
        }
    }

    /// A lane waits for a dependency: said under a name of its own, so that another lane's success does not hide it.
    pub fn lane_waits(&self, dependency: Dependency, partition: i32, why: &dyn Display) {
        self.metrics.set_up(dependency, false);
        if self.readiness.set(&waiting_component(dependency, partition), Some(why.to_string())) {
            tracing::warn!(partition, "waiting for the {}: {why}", dependency.as_str());
        }
    }

    /// The dependency has answered the lane.
    pub fn lane_goes_on(&self, dependency: Dependency, partition: i32) {
        self.up(dependency);
        if self.readiness.clear(&waiting_component(dependency, partition)) {
            tracing::info!(partition, "goes on");
        }
    }

    /// Halts a partition, unless it has moved on elsewhere since that reason was found.
    pub async fn halt(&self, partition: &Partition, reason: &HaltReason) -> Result<(), Fault> {
        let topic = &self.topics.change_events;
        let line = reason.line(topic, partition.number);
        let standing = (reason.position(), reason.has_position());
        let halted = self
            .database
            .ask(async |lease| postgres::position::halt(&**lease, topic, partition.number, standing, &line).await);
        let is_halted = halted.await?;
        if self.serving.get(partition.number).is_none_or(|now| now.assignment != partition.assignment) {
            // Revoked meanwhile: its next owner tells.
            return Ok(());
        }
        if is_halted {
            tracing::error!(partition = partition.number, "{line}");
            self.set_halted(partition, Some(line));
            partition.notify_changed();
            partition.deliver(Delivery::CheckLog);
        } else {
            tracing::warn!(partition = partition.number, "not halted yet, its position has moved on: {line}");
        }
        Ok(())
    }

    /// Asks the database whether it still has what the lanes have moved their positions to.
    pub async fn look_at_positions(&self) {
        let partitions = self.serving.all();
        let begun = partitions.into_iter().filter(|partition| partition.position() > 0 && !partition.is_halted());
        let moved: Vec<_> = begun.map(|partition| (partition.position(), partition)).collect();
        let numbers: Vec<i32> = moved.iter().map(|(_, partition)| partition.number).collect();
        let read = timeout(POSITIONS_TIMEOUT, self.read_positions(&numbers)).await;
        match read.unwrap_or_else(|_| Err(Fault::no_answer())) {
            Ok(rows) => {
                self.up(Dependency::Database);
                for (moved_to, partition) in moved {
                    let seen = rows.get(&partition.number).map_or(0, |row| row.position);
                    if is_behind(seen, moved_to) {
                        tracing::warn!(partition = partition.number, seen, moved_to, "the database has lost commits");
                        partition.deliver(Delivery::CommitsLost);
                    }
                }
            }
            Err(fault) => self.down(Dependency::Database, &fault),
        }
    }

    /// The rows of these partitions; one without a row is absent.
    pub async fn read_positions(&self, partitions: &[i32]) -> Result<HashMap<i32, PositionRow>, Fault> {
        let topic = &self.topics.change_events;
        self.database.ask(async |lease| postgres::position::read(&**lease, topic, partitions).await).await
    }

    /// The group's committed offset; `None` when the broker does not tell.
    pub async fn group_offset(&self, partition: i32) -> Option<GroupOffset> {
        let consumer = Arc::clone(self.consumer().consumer());
        let topic = self.topics.change_events.clone();
        let ask = spawn_blocking(move || {
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, partition);
            let answer = consumer.committed_offsets(list, BROKER_TIMEOUT);
            // The call succeeds although the broker refused to answer for the partition.
            let told = |offsets: TopicPartitionList| {
                let found = offsets.find_partition(&topic, partition)?;
                found.error().ok()?;
                Some(found.offset())
            };
            answer.map(told)
        });
        match timeout(BROKER_TIMEOUT * 2, ask).await {
            Ok(Ok(Ok(Some(Offset::Offset(offset))))) => Some(GroupOffset::At(offset)),
            Ok(Ok(Ok(Some(Offset::Invalid)))) => Some(GroupOffset::Missing),
            other => {
                tracing::debug!(partition, ?other, "committed offset not told");
                None
            }
        }
    }

    /// The log's ends; `None` when the broker does not tell.
    pub async fn log_ends(&self, partition: i32) -> Option<LogEnds> {
        let consumer = Arc::clone(self.consumer().consumer());
        let topic = self.topics.change_events.clone();
        let ask = spawn_blocking(move || consumer.fetch_watermarks(&topic, partition, BROKER_TIMEOUT));
        match timeout(BROKER_TIMEOUT * 2, ask).await {
            Ok(Ok(Ok((low, high)))) => Some(LogEnds { low, high }),
            other => {
                tracing::debug!(partition, ?other, "log ends not told");
                None
            }
        }
    }
}
