//! Offsets that a broker told, held against what is committed once it has taken newer ones.
//!
//! A group's coordinator that has just moved or started answers from what it knows to be on enough brokers, which may be less
//! than it had answered before (KAFKA-15910). An offset that it takes is there only when all before it are.

use std::time::Duration;

use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};

/// Where a group is by the broker's word.
pub struct Told {
    offsets: TopicPartitionList,
    asker: BaseConsumer,
}

impl Told {
    /// Before the transaction begins, which then waits for an answer and not for connections. `config` is a
    /// [`super::settings::asker_config`] that is told what is committed, whatever is pending.
    pub fn new(config: &ClientConfig, offsets: TopicPartitionList) -> KafkaResult<Self> {
        Ok(Self { offsets, asker: config.create()? })
    }

    /// Whether the offsets are the committed ones. Blocks.
    pub fn is_right(&self, timeout: Duration) -> KafkaResult<bool> {
        let committed = self.asker.committed_offsets(self.offsets.clone(), timeout)?;
        let mut is_right = true;
        for now in committed.elements() {
            now.error()?;
            let told = self.offsets.find_partition(now.topic(), now.partition());
            is_right &= told.is_some_and(|told| told.offset() == now.offset());
        }
        if !is_right {
            tracing::warn!(told = ?self.offsets, ?committed, "the group's offsets were not what the broker had told");
        }
        Ok(is_right)
    }
}
