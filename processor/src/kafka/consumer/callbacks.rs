//! Callbacks of librdkafka: what is assigned and revoked, what the statistics say. All but logging come on the polling thread.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    topic_partition_list::TopicPartitionListElem,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use super::Ends;
use crate::kafka::{partitions::Partitions, refusals};

/// What the thread knows of an assigned partition.
#[derive(Debug)]
pub(super) struct Assigned {
    /// The lane has begun: records are handed over.
    pub(super) begun: bool,
    /// Offset after the last record that came, or the one to begin at.
    pub(super) next: i64,
    /// When a record or an end of partition last came.
    pub(super) active_at: Instant,
    pub(super) at_end: bool,
    /// The end told last through `quiet_end`.
    pub(super) told_quiet: i64,
}

impl Assigned {
    pub(super) fn new() -> Self {
        Self { begun: false, next: 0, active_at: Instant::now(), at_end: false, told_quiet: -1 }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PartitionStatistics {
    pub(super) eof_offset: i64,
    pub(super) at: Instant,
}

/// What the callbacks and the polling thread share.
pub struct Context {
    pub(super) topic: Arc<str>,
    pub(super) partitions: Arc<dyn Partitions>,
    pub(super) assigned: Mutex<HashMap<i32, Assigned>>,
    pub(super) statistics: Mutex<HashMap<i32, PartitionStatistics>>,
    /// Calls of the callbacks below.
    served: AtomicU64,
    began: OnceLock<()>,
}

fn assign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

impl Context {
    pub(super) fn new(topic: &str, partitions: Arc<dyn Partitions>) -> Self {
        Self {
            topic: Arc::from(topic),
            partitions,
            assigned: Mutex::default(),
            statistics: Mutex::default(),
            served: AtomicU64::new(0),
            began: OnceLock::new(),
        }
    }

    /// Changes with every event that a poll serves by itself.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn count_served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn list(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    pub(super) fn with_assigned<T>(&self, partition: i32, act: impl FnOnce(&mut Assigned) -> T) -> Option<T> {
        self.assigned.lock().expect("no holder of this lock panics").get_mut(&partition).map(act)
    }

    /// Ends told since the last record.
    pub(super) fn told_ends(&self) -> Ends {
        let assigned = self.assigned.lock().expect("no holder of this lock panics");
        let told = assigned.iter().filter(|(_, state)| state.begun && state.at_end && state.told_quiet >= 0);
        told.map(|(&partition, state)| (partition, state.told_quiet)).collect()
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> KafkaResult<()> {
        if partitions.is_empty() {
            assign(consumer, &self.list([]))?;
            self.partitions.assigned(&[]);
            return Ok(());
        }
        let mut list = self.list(partitions.iter().copied());
        let positions = self.partitions.positions(partitions);
        for &partition in partitions {
            // Its lane says where it begins; what is fetched before the pause is from there or dropped. A number even where none
            // is known: an answer to a question for the log's beginning could come after that, and librdkafka would go there.
            let offset = positions.get(&partition).copied().unwrap_or(0);
            list.set_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        {
            let mut assigned = self.assigned.lock().expect("no holder of this lock panics");
            assigned.extend(partitions.iter().map(|&partition| (partition, Assigned::new())));
        }
        assign(consumer, &list)?;
        consumer.pause(&self.list(partitions.iter().copied()))?;
        self.partitions.assigned(partitions);
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> KafkaResult<()> {
        self.partitions.revoked(partitions);
        {
            let mut assigned = self.assigned.lock().expect("no holder of this lock panics");
            let mut statistics = self.statistics.lock().expect("no holder of this lock panics");
            for partition in partitions {
                assigned.remove(partition);
                statistics.remove(partition);
            }
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(&self.list(partitions.iter().copied())),
            _ => consumer.unassign(),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        crate::kafka::log(level, facility, line);
    }

    fn stats(&self, statistics: Statistics) {
        self.count_served();
        let reachable = statistics.brokers.values().any(|broker| broker.state == "UP");
        if reachable {
            self.began.get_or_init(|| ());
        }
        // Before the first connection "not reachable" is news to nobody.
        if self.began.get().is_some() {
            self.partitions.brokers_reachable(reachable);
        }
        let Some(topic) = statistics.topics.get(&*self.topic) else { return };
        let mut known = self.statistics.lock().expect("no holder of this lock panics");
        let assigned = self.assigned.lock().expect("no holder of this lock panics");
        for (number, partition) in topic.partitions.iter().filter(|(number, _)| assigned.contains_key(number)) {
            known.insert(*number, PartitionStatistics { eof_offset: partition.eof_offset, at: Instant::now() });
            if partition.ls_offset >= 0 {
                self.partitions.lag(*number, partition.ls_offset);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.count_served();
        if let Some(line) = refusals::refusal(&error, reason) {
            self.partitions.refused(line);
        } else if !matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "Kafka consumer");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.count_served();
        let partitions: Vec<i32> = list.elements().iter().map(TopicPartitionListElem::partition).collect();
        let (what, result) = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            ("assigned", self.assign(consumer, &partitions))
        } else {
            ("revoked", self.revoke(consumer, &partitions))
        };
        match result {
            Ok(()) => tracing::info!(?partitions, "{what}"),
            Err(error) => {
                self.partitions.fatal(format!("failed to answer a rebalance ({what} {partitions:?}): {error}"));
            }
        }
    }
}
