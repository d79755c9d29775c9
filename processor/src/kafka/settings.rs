//! librdkafka's settings that the exactly-once protocol depends on; the operator's own come first and cannot name these.

use rdkafka::ClientConfig;

/// What an operator may tune is a default here, the rest is the protocol or bounds memory: the settings file cannot name it.
pub const TUNABLE: [&str; 2] = ["compression.type", "topic.metadata.refresh.interval.ms"];

/// Settings that librdkafka knows under a second name. Settings come to it from a map: of two names either might win.
const ALIASES: [(&str, &str); 1] = [("compression.type", "compression.codec")];

/// librdkafka's own bound of a batch.
const BATCH_BYTES_MAX: usize = 1_000_000;
/// Between these `message.max.bytes` must lie; a topic's limit may be anything.
const MESSAGE_BYTES: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000;

/// The name under which a setting is kept, whatever the settings file calls it.
pub fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(_, alias)| *alias == name).map_or(name, |(name, _)| name)
}

/// `message.max.bytes` for a topic that takes records so large.
pub fn message_max_bytes(bytes: u64) -> String {
    bytes.clamp(*MESSAGE_BYTES.start(), *MESSAGE_BYTES.end()).to_string()
}

/// The protocol's settings on top of the operator's (design: rebalancing).
pub fn consumer_config(base: &ClientConfig, group_id: &str, instance_id: &str) -> ClientConfig {
    let mut config = base.clone();
    for (name, value) in [
        ("group.id", group_id),
        ("group.instance.id", instance_id),
        ("group.protocol", "classic"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "1000"),
        ("max.poll.interval.ms", "60000"),
        ("auto.offset.reset", "error"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
        ("allow.auto.create.topics", "false"),
        ("statistics.interval.ms", "500"),
        ("fetch.queue.backoff.ms", "10"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.message.max.bytes", "524288"),
        ("fetch.max.bytes", "2097152"),
        // The next fetch waits until fewer than these are left in the queue that all partitions share: pausing drops what is
        // fetched and not handed over.
        ("queued.min.messages", "100"),
        ("queued.max.messages.kbytes", "2048"),
        ("topic.metadata.refresh.interval.ms", "30000"),
    ] {
        set(&mut config, base, name, value);
    }
    config
}

/// For a client that asks for a group's offsets and never joins it. While a transaction that may move them is open it is told
/// what they were before (`read_uncommitted`), or waits for its end (`read_committed`).
pub fn asker_config(base: &ClientConfig, group_id: &str, isolation_level: &str) -> ClientConfig {
    let mut config = base.clone();
    config
        .set("group.id", group_id)
        .set("isolation.level", isolation_level)
        .set("enable.auto.commit", "false")
        .set("allow.auto.create.topics", "false");
    config
}

/// The protocol's settings on top of the operator's (design: publishing).
pub fn producer_config(
    base: &ClientConfig,
    transactional_id: &str,
    bytes_max: usize,
    batch_bytes_max: usize,
) -> ClientConfig {
    let mut config = base.clone();
    for (name, value) in [
        ("transactional.id", transactional_id),
        ("transaction.timeout.ms", "15000"),
        ("message.timeout.ms", "14000"),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("partitioner", "murmur2_random"),
        ("linger.ms", "0"),
        // Nobody reads reports of success; a failed delivery fails the commit.
        ("delivery.report.only.error", "true"),
        ("compression.type", "lz4"),
        ("queue.buffering.max.kbytes", "65536"),
        ("allow.auto.create.topics", "false"),
    ] {
        set(&mut config, base, name, value);
    }
    config.set("message.max.bytes", message_max_bytes(u64::try_from(bytes_max).unwrap_or(u64::MAX)));
    // The broker holds a topic's limit against whole batches: none is larger than what the narrower topic takes.
    config.set("batch.size", batch_bytes_max.clamp(1, BATCH_BYTES_MAX).to_string());
    config
}

fn set(config: &mut ClientConfig, base: &ClientConfig, name: &str, value: &str) {
    if !TUNABLE.contains(&name) || base.get(name).is_none() {
        config.set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KafkaProperties, KafkaSettings, kafka_base_config};

    fn base(properties: &str) -> ClientConfig {
        let config = Some(KafkaProperties::parse(properties).unwrap());
        kafka_base_config(&KafkaSettings { bootstrap_servers: "localhost:9092".to_owned(), config })
    }

    #[test]
    fn what_is_tuned_counts_under_either_of_its_names() {
        for (properties, expected) in [
            ("", "lz4"),
            ("compression.type=gzip", "gzip"),
            ("compression.codec=gzip", "gzip"),
            ("compression.codec=gzip\ncompression.type=snappy", "snappy"),
            ("compression.type=snappy\ncompression.codec=gzip", "gzip"),
        ] {
            let config = producer_config(&base(properties), "t", 1 << 20, 1 << 20);
            assert_eq!(config.get("compression.codec"), None, "{properties:?}");
            let native = config.create_native_config().unwrap();
            assert_eq!(native.get("compression.codec").unwrap(), expected, "{properties:?}");
        }
    }

    #[test]
    fn a_topic_may_take_larger_and_smaller_records_than_librdkafka() {
        for (topics, ours) in [(0, "1000"), (1 << 20, "1048576"), (usize::MAX, "1000000000")] {
            let native = producer_config(&base(""), "t", topics, topics).create_native_config().unwrap();
            assert_eq!(native.get("message.max.bytes").unwrap(), ours);
        }
    }
}
