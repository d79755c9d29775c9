//! One Kafka transaction: records of the outbox and the offsets that say they are published.
//!
//! Everything here blocks, sometimes longer than its time-outs say (librdkafka #5456, #5511): callers run it on a thread
//! that may be left behind, under a watchdog. Who calls it, with what, and what follows, is the pipeline's business.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use fail::fail_point;
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use crate::wire::record::{OutputRecord, OutputTopic};

/// The longest that opening a producer takes by its time-outs.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Of it, how long a broker is waited for before anything is asked of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a transaction takes by its time-outs; the broker ends it after `transaction.timeout.ms`.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks whether the brokers have taken what was sent.
const SENT_POLL: Duration = Duration::from_millis(1);
/// The longest that ending one takes that cannot be committed.
pub const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer with the group's and instance's transactional id.
pub type TransactionalProducer = BaseProducer<Context>;

/// Topics by [`OutputTopic`].
#[derive(Clone, Debug)]
pub struct OutputTopics {
    pub audit: String,
    pub dead_letter: String,
}

/// Why a transaction did not commit.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It was aborted: nothing of it is to be seen, the group's offsets are as before.
    #[error("Kafka transaction aborted: {0}")]
    Aborted(KafkaError),
    /// Its end is not known: this producer is of no more use.
    #[error("Kafka transaction in doubt: {0}")]
    Doubt(KafkaError),
    /// Another process has taken the transactional id.
    #[error("Kafka producer fenced: {0}")]
    Fenced(KafkaError),
}

impl PublishError {
    /// What librdkafka said.
    pub fn cause(&self) -> &KafkaError {
        match self {
            Self::Aborted(cause) | Self::Doubt(cause) | Self::Fenced(cause) => cause,
        }
    }
}

/// Only logging; delivery failures surface when the transaction is to commit.
#[derive(Clone, Copy, Debug)]
pub struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        super::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka producer");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Opens a producer to `topic` (and others) and ends whatever a predecessor with the same id left open. Blocks.
pub fn open(config: &ClientConfig, topic: &str) -> KafkaResult<TransactionalProducer> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    let producer: TransactionalProducer = config.create_with_context(Context)?;
    // librdkafka asks for the coordinator at once, and again half a second later if no broker was connected then; the ones that it
    // was given do not count when they have told it of others. One that leads a partition and answers is connected; if none does,
    // what follows says so.
    let _ = producer.client().fetch_watermarks(topic, 0, CONNECT_TIMEOUT);
    producer.init_transactions(left(deadline))?;
    Ok(producer)
}

/// One transaction's content.
pub struct Content<'a, R> {
    pub topics: &'a OutputTopics,
    pub records: R,
    /// The group's new offsets, by [`offsets`].
    pub offsets: &'a TopicPartitionList,
    pub group: &'a ConsumerGroupMetadata,
    /// Whether the group's offsets before this transaction are what its content goes on from, asked within the time given once
    /// the brokers have taken the new ones; if not, it is aborted.
    pub confirm: &'a dyn Fn(Duration) -> KafkaResult<bool>,
    /// Turns true when a partition is given up that the transaction carries: nothing more is sent then.
    pub abandoned: &'a AtomicBool,
}

/// Sends records and the group's new offsets in one transaction. Blocks.
pub fn publish<'a>(
    producer: &TransactionalProducer,
    content: Content<'_, impl Iterator<Item = &'a OutputRecord>>,
) -> Result<(), PublishError> {
    let Content { topics, mut records, offsets, group, confirm, abandoned } = content;
    let deadline = Instant::now() + TRANSACTION_TIMEOUT;
    let go_on = || if abandoned.load(Ordering::Relaxed) { Err(KafkaError::Canceled) } else { Ok(()) };
    fail_point!("kafka-begin-before");
    producer.begin_transaction().map_err(doubt)?;
    fail_point!("kafka-begin-after");
    let sent = records
        .try_for_each(|record| go_on().and_then(|()| send(producer, topics, record, deadline)))
        // Flushed before the offsets are sent: a commit that has to flush takes ten times as long.
        .and_then(|()| wait_until_sent(producer, deadline))
        .and_then(|()| {
            fail_point!("kafka-offsets-before", |_| Err(KafkaError::Canceled));
            go_on()
        })
        .and_then(|()| producer.send_offsets_to_transaction(offsets, group, left(deadline)))
        .and_then(|()| if confirm(left(deadline))? { go_on() } else { Err(KafkaError::Canceled) });
    fail_point!("kafka-commit-before");
    let ended = match sent {
        Ok(()) => producer.commit_transaction(left(deadline)).map_err(|error| match error {
            KafkaError::Transaction(ref cause) if cause.txn_requires_abort() => abort(producer, error),
            error => doubt(error),
        }),
        Err(error) => Err(abort(producer, error)),
    };
    fail_point!("kafka-commit-after");
    ended
}

/// Offsets to send in a transaction.
pub fn offsets(topic: &str, next: impl IntoIterator<Item = (i32, i64)>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in next {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    Ok(list)
}

fn send(
    producer: &TransactionalProducer,
    topics: &OutputTopics,
    record: &OutputRecord,
    deadline: Instant,
) -> KafkaResult<()> {
    let topic = match record.topic {
        OutputTopic::Audit => &topics.audit,
        OutputTopic::DeadLetter => &topics.dead_letter,
    };
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        message.headers = Some(
            record
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() })),
        );
    }
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((error, back)) => {
                let queue_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                if !queue_full || Instant::now() >= deadline {
                    return Err(error);
                }
                message = back;
                wait_a_little(producer);
            }
        }
    }
}

/// As `flush`, which listens for 100 ms at a time: no transaction would be shorter.
fn wait_until_sent(producer: &TransactionalProducer, deadline: Instant) -> KafkaResult<()> {
    while producer.in_flight_count() > 0 {
        if Instant::now() >= deadline {
            return producer.flush(Duration::ZERO);
        }
        wait_a_little(producer);
    }
    Ok(())
}

/// Serves one event, or sleeps when nothing has moved. The library's own wait ends each time with up to a millisecond of asking
/// again and again.
fn wait_a_little(producer: &TransactionalProducer) {
    let before = producer.in_flight_count();
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() == before {
        thread::sleep(SENT_POLL);
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn abort(producer: &TransactionalProducer, cause: KafkaError) -> PublishError {
    match producer.abort_transaction(ABORT_TIMEOUT) {
        Ok(()) => PublishError::Aborted(cause),
        Err(_) => doubt(cause),
    }
}

fn doubt(error: KafkaError) -> PublishError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch) => {
            PublishError::Fenced(error)
        }
        _ => PublishError::Doubt(error),
    }
}
