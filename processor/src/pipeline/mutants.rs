//! Defects of the Kafka transaction (see [`crate::fault_injection`]).

use std::{env, thread, time::Duration};

use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
};

use super::Shared;
use crate::{
    fault_injection::{Mutant, is},
    kafka::publisher::{self, Content, PublishError, TransactionalProducer},
    wire::record::OutputRecord,
};

/// Long enough for a fault to fall into.
const GAP: Duration = Duration::from_millis(400);
/// Long enough for the others to hear of a rebalance and to take the partitions over.
const REBALANCE: Duration = Duration::from_secs(4);

/// Between the list that was taken too early and its use.
pub(super) fn before_the_lock() {
    if is(Mutant::PartitionsOutsideLock) {
        thread::sleep(REBALANCE);
    }
}

/// Publishes with the defect that is wanted.
pub(super) fn publish<'a>(
    shared: &Shared,
    producer: &TransactionalProducer,
    content: Content<'_, impl Iterator<Item = &'a OutputRecord>>,
) -> Result<(), PublishError> {
    let nothing = || PublishError::Aborted(KafkaError::Canceled);
    let member = shared.consumer().consumer();
    if is(Mutant::OffsetOutsideTransaction) {
        let offsets = content.offsets;
        publisher::publish(producer, Content { offsets: &TopicPartitionList::new(), ..content })?;
        thread::sleep(GAP);
        return member.commit(offsets, CommitMode::Sync).map_err(PublishError::Doubt);
    }
    if is(Mutant::ForeignGroupMetadata) {
        let stranger: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", shared.producer_config.get("bootstrap.servers").unwrap_or_default())
            .set("group.id", env::var("DOSI_GROUP_ID").unwrap_or_default())
            .create()
            .map_err(PublishError::Aborted)?;
        let group = stranger.group_metadata().ok_or_else(nothing)?;
        thread::sleep(REBALANCE);
        return publisher::publish(producer, Content { group: &group, ..content });
    }
    if is(Mutant::LateOffset) {
        thread::sleep(REBALANCE);
        let group = member.group_metadata().ok_or_else(nothing)?;
        return publisher::publish(producer, Content { group: &group, ..content });
    }
    publisher::publish(producer, content)
}
