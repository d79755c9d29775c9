//! Where a group and the log of its topic stand, asked of the broker.

use std::collections::BTreeMap;
use std::time::Duration;

use dosi_tests::stack::Addresses;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(30);

/// One topic and one group, for questions only: this never joins the group.
pub(crate) struct Group {
    consumer: BaseConsumer,
    /// Sees what a `read_committed` reader sees.
    reader: BaseConsumer,
    name: String,
    topic: String,
}

impl Group {
    pub(crate) fn new(addresses: &Addresses, group: &str, topic: &str) -> Self {
        let consumer = |isolation| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &addresses.kafka_bootstrap_servers);
            config.set("group.id", group).set("isolation.level", isolation).create().unwrap()
        };
        // What is committed is asked for whatever transaction a killed process left open.
        let (consumer, reader) = (consumer("read_uncommitted"), consumer("read_committed"));
        Self { consumer, reader, name: group.to_owned(), topic: topic.to_owned() }
    }

    /// Where each partition's log ends.
    pub(crate) fn ends(&self) -> BTreeMap<i32, i64> {
        ends(&self.consumer, &self.topic)
    }

    /// Whether no transaction is open on a topic. One that a killed process left hides what others published after it,
    /// until the broker ends it.
    pub(crate) fn is_readable(&self, topic: &str) -> bool {
        ends(&self.reader, topic) == ends(&self.consumer, topic)
    }

    /// Partitions of each member by its instance id, when the group is not just sharing them out.
    pub(crate) fn owners(&self) -> BTreeMap<String, Vec<i32>> {
        let groups = self.consumer.fetch_group_list(Some(&self.name), TIMEOUT).unwrap();
        let stable = groups.groups().iter().filter(|group| group.state() == "Stable");
        let members = stable.flat_map(rdkafka::groups::GroupInfo::members).map(|member| {
            // The broker calls a static member by its instance id, a minus and a UUID.
            let id = member.id();
            let instance = id.get(..id.len().saturating_sub(37)).unwrap_or_default();
            (instance.to_owned(), member.assignment().map(assigned).unwrap_or_default())
        });
        members.collect()
    }

    /// The committed offsets; a partition without one is missing.
    pub(crate) fn committed(&self) -> BTreeMap<i32, i64> {
        self.committed_to(&self.consumer, self.ends().into_keys())
    }

    /// The committed offset of a partition once no transaction is under way that may move it: what a producer was told of a
    /// commit may be ahead of what everybody sees.
    pub(crate) fn committed_for_good(&self, partition: i32) -> Option<i64> {
        self.committed_to(&self.reader, [partition]).remove(&partition)
    }

    fn committed_to(&self, consumer: &BaseConsumer, partitions: impl IntoIterator<Item = i32>) -> BTreeMap<i32, i64> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        let committed = consumer.committed_offsets(list, TIMEOUT).unwrap();
        let elements = committed.elements();
        let known = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        known.collect()
    }
}

/// A `read_committed` consumer is told where the first open transaction begins.
fn ends(consumer: &BaseConsumer, topic: &str) -> BTreeMap<i32, i64> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let partitions = metadata.topics()[0].partitions().iter().map(rdkafka::metadata::MetadataPartition::id);
    let end = |partition| consumer.fetch_watermarks(topic, partition, TIMEOUT).unwrap().1;
    partitions.map(|partition| (partition, end(partition))).collect()
}

/// Of an assignment to one topic, as the consumer protocol writes it: version, number of topics, name, partitions.
fn assigned(assignment: &[u8]) -> Vec<i32> {
    let number = |at: usize| Some(i32::from_be_bytes(assignment.get(at..at + 4)?.try_into().ok()?));
    let name_bytes = assignment.get(6..8).map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    let first = 8 + name_bytes;
    let count = number(first).unwrap_or(0);
    (1..=count).filter_map(|index| number(first + 4 * usize::try_from(index).ok()?)).collect()
}
