//! Defects of the Kafka transaction (see [`crate::fault_injection`]).

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rdkafka::{
    TopicPartitionList,
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
/// One in so many transactions takes that long: with all of them dosi would never catch up.
const SLOW_EVERY: u32 = 6;

/// In some instances only, by the length of their names: one that takes over must not be as slow to look where the group is.
fn wait_for_a_rebalance() {
    static TRANSACTIONS: AtomicU32 = AtomicU32::new(0);
    let is_slow = env::var("DOSI_INSTANCE_ID").is_ok_and(|id| !id.len().is_multiple_of(2));
    if is_slow && TRANSACTIONS.fetch_add(1, Ordering::Relaxed) % SLOW_EVERY == SLOW_EVERY - 1 {
        thread::sleep(REBALANCE);
    }
}

/// Between the list that was taken too early and its use.
pub(super) fn before_the_lock() {
    if is(Mutant::PartitionsOutsideLock) {
        wait_for_a_rebalance();
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
        let stranger: BaseConsumer = shared.asker_config.create().map_err(PublishError::Aborted)?;
        let group = stranger.group_metadata().ok_or_else(nothing)?;
        wait_for_a_rebalance();
        // A live member would be stopped by the revocation; what only the generation stops is a process that hung.
        let abandoned = &AtomicBool::new(false);
        return publisher::publish(producer, Content { group: &group, abandoned, ..content });
    }
    if is(Mutant::LateOffset) {
        wait_for_a_rebalance();
        let group = member.group_metadata().ok_or_else(nothing)?;
        return publisher::publish(producer, Content { group: &group, ..content });
    }
    publisher::publish(producer, content)
}
