//! An open loop: when each event is sent is fixed beforehand, and its latency counts from then, whatever held it up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use dosi::wire::audit::AUDIT_SCHEMA;
use dosi_tests::stack::Addresses;
use dosi_tests::topics::Record;
use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_postgres::Client;

use crate::ground::{PARTITIONS, Subject};
use crate::mix::number_of;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Until the last audit record is seen.
const SEEN_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
/// Bytes of the registry's frame before an audit record.
const FRAME_BYTES: usize = 5;
/// The report key stands behind the frame and an id of 37 bytes.
const HEAD_BYTES: usize = 80;
const OUTCOME: &[u8] = b"CHANGE_EVENT_OUTCOME";

/// Moments in seconds since 1970, by the number of the event.
type Moments = HashMap<usize, f64>;

/// From the moment at which an event was to be sent, in microseconds.
#[derive(Debug)]
pub struct Latencies {
    /// Until its transaction in DoS began to commit.
    pub commit: Histogram<u64>,
    /// Until a `read_committed` consumer has its last audit record.
    pub audit: Histogram<u64>,
    /// How much later than planned the generator sent.
    pub sent_late: Histogram<u64>,
}

/// Sends so many events at a rate and measures those after the first `warm_up`.
pub async fn measure(
    addresses: &Addresses,
    subject: &Subject,
    events: impl Iterator<Item = Record>,
    rate: f64,
    (warm_up, measured): (usize, usize),
) -> Result<Latencies> {
    let wanted = warm_up + measured;
    let over = Arc::new(AtomicBool::new(false));
    let reader = reader(addresses, subject.dosi.audit_topic())?;
    let is_over = Arc::clone(&over);
    let reading = thread::spawn(move || read_outcomes(&reader, wanted, &is_over));
    let (planned, sent) = send(addresses, subject.dosi.input_topic(), events, rate)?;
    let deadline = Instant::now() + SEEN_WITHIN;
    while !reading.is_finished() && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    over.store(true, Ordering::Relaxed);
    let outcomes = reading.join().ok().context("the reader of the audit topic failed")??;
    let audited = numbered(&outcomes)?;
    let committed = committed(subject.dos.client()).await?;
    if audited.len() < wanted || committed.len() < wanted {
        bail!("{} outcomes and {} archived of {wanted} events", audited.len(), committed.len());
    }
    let since = |moments: &Moments| histogram((warm_up..wanted).map(|number| moments[&number] - planned[number]));
    let sent_late = histogram((warm_up..wanted).map(|number| sent[number] - planned[number]))?;
    Ok(Latencies { commit: since(&committed)?, audit: since(&audited)?, sent_late })
}

/// When each event was to be sent, and when it was.
fn send(
    addresses: &Addresses,
    topic: &str,
    events: impl Iterator<Item = Record>,
    rate: f64,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &addresses.kafka_bootstrap_servers)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        .create()?;
    // Connected and with the topic's partitions known before the first event is due.
    producer.client().fetch_metadata(Some(topic), TIMEOUT)?;
    let start = Instant::now() + POLL;
    let start_at = now() + POLL.as_secs_f64();
    let (mut planned, mut sent) = (Vec::new(), Vec::new());
    for (number, event) in (0_u32..).zip(events) {
        let offset = Duration::from_secs_f64(f64::from(number) / rate);
        thread::sleep((start + offset).saturating_duration_since(Instant::now()));
        planned.push(start_at + offset.as_secs_f64());
        sent.push(now());
        let headers = event.headers.iter();
        let headers = headers
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let record = BaseRecord {
            topic,
            partition: None,
            payload: event.value.as_deref(),
            key: event.key.as_deref(),
            timestamp: None,
            headers: Some(headers),
            delivery_opaque: (),
        };
        producer.send::<[u8], [u8]>(record).map_err(|(error, _)| error)?;
    }
    producer.flush(TIMEOUT)?;
    Ok((planned, sent))
}

fn reader(addresses: &Addresses, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &addresses.kafka_bootstrap_servers)
        .set("group.id", "latency-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    Ok(consumer)
}

/// Outcome records with the moment at which each was there; they are decoded when nothing is measured any more.
fn read_outcomes(reader: &BaseConsumer, wanted: usize, is_over: &AtomicBool) -> Result<Vec<(f64, Vec<u8>)>> {
    let mut outcomes = Vec::with_capacity(wanted);
    while outcomes.len() < wanted && !is_over.load(Ordering::Relaxed) {
        let Some(message) = reader.poll(POLL) else { continue };
        let message = message?;
        let value = message.payload().unwrap_or_default();
        if value[..value.len().min(HEAD_BYTES)].windows(OUTCOME.len()).any(|part| part == OUTCOME) {
            outcomes.push((now(), value.to_vec()));
        }
    }
    Ok(outcomes)
}

fn numbered(outcomes: &[(f64, Vec<u8>)]) -> Result<Moments> {
    let schema = Schema::parse_str(AUDIT_SCHEMA)?;
    let reader = GenericDatumReader::builder(&schema).build()?;
    let mut moments = Moments::new();
    for (at, value) in outcomes {
        let Value::Record(fields) = reader.read_value(&mut &value[FRAME_BYTES..])? else {
            bail!("an audit record is no record");
        };
        let id = fields.iter().find_map(|(name, value)| match value {
            Value::String(text) if name == "correlation_id" => number_of(text),
            _ => None,
        });
        moments.insert(id.context("an outcome of another event")?, *at);
    }
    Ok(moments)
}

async fn committed(client: &Client) -> Result<Moments> {
    let read = "SELECT correlation_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8
        FROM dos_integration.change_event_archive";
    let rows = client.query(read, &[]).await?;
    Ok(rows.iter().filter_map(|row| Some((number_of(row.get(0))?, row.get(1)))).collect())
}

fn histogram(seconds: impl Iterator<Item = f64>) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3)?;
    for seconds in seconds {
        let micros = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_micros();
        histogram.record(u64::try_from(micros)?)?;
    }
    Ok(histogram)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
