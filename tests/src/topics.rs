//! Topics made and events produced.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::stream::{FuturesUnordered, TryStreamExt};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::golden_form::Event;
use crate::stack::Addresses;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A name that no other test uses.
pub fn unique(name: &str) -> String {
    format!("{name}-{:016x}", rand::random::<u64>())
}

/// Makes a topic and returns when it is there.
pub async fn create(addresses: &Addresses, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(addresses).create()?;
    let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    for (name, value) in config {
        wanted = wanted.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    for result in admin.create_topics([&wanted], &options).await? {
        if let Err((topic, code)) = result {
            bail!("failed to create topic {topic}: {code}");
        }
    }
    Ok(())
}

/// Gives a topic more partitions, up to this number.
pub async fn add_partitions(addresses: &Addresses, topic: &str, partitions: usize) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(addresses).create()?;
    let wanted = NewPartitions::new(topic, partitions);
    for result in admin.create_partitions([&wanted], &AdminOptions::new()).await? {
        if let Err((topic, code)) = result {
            bail!("failed to add partitions to {topic}: {code}");
        }
    }
    Ok(())
}

/// Offsets of the records that a partition holds now, markers and what compaction took away left out. Blocks.
pub fn offsets(addresses: &Addresses, topic: &str, partition: i32) -> Result<Vec<i64>> {
    let mut config = client(addresses);
    let consumer: BaseConsumer = config
        .set("group.id", "nobody")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)?;
    consumer.assign(&list)?;
    let mut offsets = Vec::new();
    loop {
        match consumer.poll(TIMEOUT) {
            Some(Ok(record)) => offsets.push(record.offset()),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(offsets),
            Some(Err(error)) => return Err(error.into()),
            None => bail!("{topic} cannot be read"),
        }
    }
}

/// One record as it is to stand in a topic, whatever it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Chosen by the key when `None`.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    /// A tombstone when `None`.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// As [`Self::of_event`], under the code that the event names.
    pub fn of(event: &Event) -> Result<Self> {
        let body: Value = serde_json::from_str(&event.event)?;
        Ok(Self::of_event(body["ODSCode"].as_str().context("the event names no code")?, event))
    }

    /// A change event as NHS.uk's publisher sends it: behaviour 1.1.
    pub fn of_event(ods_code: &str, event: &Event) -> Self {
        let mut headers = vec![("sequence-number".to_owned(), event.sequence.to_string().into_bytes())];
        if let Some(correlation_id) = &event.correlation_id {
            headers.push(("correlation-id".to_owned(), correlation_id.clone().into_bytes()));
        }
        Self {
            partition: None,
            key: Some(ods_code.as_bytes().to_vec()),
            value: Some(event.event.clone().into_bytes()),
            headers,
        }
    }
}

/// Produces records in order and returns when all are acknowledged.
pub async fn produce(addresses: &Addresses, topic: &str, records: &[Record]) -> Result<()> {
    produce_compressed(addresses, topic, "none", records).await
}

/// The same, compressed by this codec where that makes them smaller.
pub async fn produce_compressed(addresses: &Addresses, topic: &str, codec: &str, records: &[Record]) -> Result<()> {
    let producer: FutureProducer = client(addresses)
        .set("enable.idempotence", "true")
        .set("compression.type", codec)
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", "10000000")
        .set("linger.ms", "5")
        .create()?;
    let sent: FuturesUnordered<_> = records
        .iter()
        .map(|record| async {
            let sent = producer.send(future_record(topic, record), TIMEOUT).await;
            sent.map_err(|(error, _)| error)
        })
        .collect();
    sent.try_collect::<Vec<_>>().await.with_context(|| format!("failed to produce to {topic}"))?;
    Ok(())
}

/// Produces records in one transaction, which leaves a marker behind them in each partition; aborted unless `commit`.
///
/// Returns each record's offset. The broker writes the marker after it has answered, so that the record of a
/// transaction begun afterwards may stand in front of it.
pub async fn produce_in_transaction(
    addresses: &Addresses,
    topic: &str,
    records: &[Record],
    commit: bool,
) -> Result<Vec<i64>> {
    let producer: FutureProducer =
        client(addresses).set("transactional.id", unique("publisher")).set("partitioner", "murmur2_random").create()?;
    let blocking = producer.clone();
    tokio::task::spawn_blocking(move || blocking.init_transactions(TIMEOUT)).await??;
    producer.begin_transaction()?;
    let mut offsets = Vec::with_capacity(records.len());
    for record in records {
        offsets.push(producer.send(future_record(topic, record), TIMEOUT).await.map_err(|(error, _)| error)?.offset);
    }
    let end = move || if commit { producer.commit_transaction(TIMEOUT) } else { producer.abort_transaction(TIMEOUT) };
    tokio::task::spawn_blocking(end).await??;
    Ok(offsets)
}

pub(crate) fn future_record<'a>(topic: &'a str, record: &'a Record) -> FutureRecord<'a, [u8], [u8]> {
    let headers = record
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
    FutureRecord {
        topic,
        partition: record.partition,
        payload: record.value.as_deref(),
        key: record.key.as_deref(),
        timestamp: None,
        headers: Some(headers),
    }
}

fn client(addresses: &Addresses) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &addresses.kafka_bootstrap_servers);
    config
}
