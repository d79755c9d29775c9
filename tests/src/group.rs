//! Where a group and the log of its topic stand, asked of the broker.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::stack::Addresses;

const TIMEOUT: Duration = Duration::from_secs(30);

/// One topic and one group, for questions only: this never joins the group.
pub struct Group {
    consumer: BaseConsumer,
    /// Sees what a `read_committed` reader sees.
    reader: BaseConsumer,
    name: String,
    topic: String,
    timeout: Duration,
}

impl Group {
    pub fn new(addresses: &Addresses, group: &str, topic: &str) -> Result<Self> {
        let consumer = |isolation| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &addresses.kafka_bootstrap_servers);
            config.set("group.id", group).set("isolation.level", isolation).create()
        };
        // What is committed is asked for whatever transaction a killed process left open.
        let (consumer, reader) = (consumer("read_uncommitted")?, consumer("read_committed")?);
        Ok(Self { consumer, reader, name: group.to_owned(), topic: topic.to_owned(), timeout: TIMEOUT })
    }

    /// The same, waiting no longer than this for each answer.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Where each partition's log ends.
    pub fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        self.ends_of(&self.consumer, &self.topic)
    }

    /// Whether no transaction is open on a topic. One that a killed process left hides what others published after it,
    /// until the broker ends it.
    pub fn is_readable(&self, topic: &str) -> Result<bool> {
        Ok(self.ends_of(&self.reader, topic)? == self.ends_of(&self.consumer, topic)?)
    }

    /// Partitions of each member by its instance id, when the group is not just sharing them out.
    pub fn owners(&self) -> Result<BTreeMap<String, Vec<i32>>> {
        let groups = self.consumer.fetch_group_list(Some(&self.name), self.timeout)?;
        let stable = groups.groups().iter().filter(|group| group.state() == "Stable");
        let members = stable.flat_map(rdkafka::groups::GroupInfo::members).map(|member| {
            // The broker calls a static member by its instance id, a minus and a UUID.
            let id = member.id();
            let instance = id.get(..id.len().saturating_sub(37)).unwrap_or_default();
            (instance.to_owned(), member.assignment().map(assigned).unwrap_or_default())
        });
        Ok(members.collect())
    }

    /// The committed offsets; a partition without one is missing.
    pub fn committed(&self) -> Result<BTreeMap<i32, i64>> {
        self.committed_to(&self.consumer, &self.partitions(&self.consumer, &self.topic)?)
    }

    /// The committed offset of a partition once no transaction is under way that may move it: what a producer was told of a
    /// commit may be ahead of what everybody sees.
    pub fn committed_for_good(&self, partition: i32) -> Result<Option<i64>> {
        Ok(self.committed_to(&self.reader, &[partition])?.remove(&partition))
    }

    fn committed_to(&self, consumer: &BaseConsumer, partitions: &[i32]) -> Result<BTreeMap<i32, i64>> {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        let committed = consumer.committed_offsets(list, self.timeout)?;
        let elements = committed.elements();
        let known = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(known.collect())
    }

    fn partitions(&self, consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
        let metadata = consumer.fetch_metadata(Some(topic), self.timeout)?;
        let topic = metadata.topics().first().context("no answer about the topic")?;
        Ok(topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
    }

    /// A `read_committed` consumer is told where the first open transaction begins.
    fn ends_of(&self, consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let end = |partition| Ok((partition, consumer.fetch_watermarks(topic, partition, self.timeout)?.1));
        self.partitions(consumer, topic)?.into_iter().map(end).collect()
    }
}

/// Of an assignment to one topic, as the consumer protocol writes it: version, number of topics, name, partitions.
fn assigned(assignment: &[u8]) -> Vec<i32> {
    let number = |at: usize| Some(i32::from_be_bytes(assignment.get(at..at + 4)?.try_into().ok()?));
    let name_bytes = assignment.get(6..8).map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    let first = 8 + name_bytes;
    let count = number(first).unwrap_or(0);
    (1..=count).filter_map(|index| number(first + 4 * usize::try_from(index).ok()?)).collect()
}
