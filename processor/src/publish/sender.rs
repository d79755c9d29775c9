//! The producer of `dosi publish`, and the count of what it delivered.

use std::{
    borrow::Cow,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use indicatif::ProgressBar;
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, Message as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};

use super::line::Event;
use crate::{error::Failure, kafka::admin::refused_settings};

/// Longest wait for what is in flight: each message has its own, shorter, time-out.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(35);
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// What became of messages; told by librdkafka from its poll.
#[derive(Debug)]
struct Deliveries {
    bar: ProgressBar,
    sent: AtomicU64,
    undelivered: AtomicU64,
    /// The lowest line that nothing was heard of, [`NO_LINE`] while there is none.
    gave_up_at: AtomicUsize,
}

const NO_LINE: usize = usize::MAX;

/// What became of what was handed to the producer.
pub(super) struct Delivered {
    pub sent: u64,
    pub undelivered: u64,
    pub gave_up_at: Option<usize>,
}

impl Deliveries {
    fn delivered(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, message)) => {
                self.undelivered.fetch_add(1, Ordering::Relaxed);
                let gave_up = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut);
                // Once nothing has been acknowledged for the whole time-out the rest fares no better: told once.
                if !gave_up || self.gave_up_at.fetch_min(number, Ordering::Relaxed) == NO_LINE {
                    self.tell(number, &format!("was not delivered to {}: {error}", message.topic()));
                }
            }
        }
    }

    fn tell(&self, number: usize, reason: &str) {
        let line = format!("line {number}: {}", crate::error::one_line(reason));
        // Nothing can be done about a stderr that is gone; the summary counts the line all the same.
        self.bar.suspend(|| writeln!(io::stderr(), "{line}")).ok();
    }
}

/// Sends events; at most the producer's queue waits to be acknowledged.
pub(super) struct Sender<'a> {
    producer: BaseProducer<SharedDeliveries>,
    deliveries: Arc<Deliveries>,
    topic: &'a str,
}

/// The producer owns its context, the sender reads it.
struct SharedDeliveries(Arc<Deliveries>);

impl ClientContext for SharedDeliveries {}

impl ProducerContext for SharedDeliveries {
    /// The line's number.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        self.0.delivered(result, number);
    }
}

impl<'a> Sender<'a> {
    /// Makes the producer; lines that are not delivered are told through `bar`, so that neither tears the other.
    pub(super) fn connect(config: &ClientConfig, topic: &'a str, bar: ProgressBar) -> Result<Self, Failure> {
        let (sent, undelivered) = (AtomicU64::new(0), AtomicU64::new(0));
        let deliveries = Arc::new(Deliveries { bar, sent, undelivered, gave_up_at: AtomicUsize::new(NO_LINE) });
        let context = SharedDeliveries(Arc::clone(&deliveries));
        let producer = config.create_with_context(context).map_err(|error| refused_settings(&error))?;
        Ok(Self { producer, deliveries, topic })
    }

    /// Hands an event to the producer, waiting while its queue is full. An error says why the event cannot be sent.
    pub(super) fn send(&self, number: usize, event: &Event<'_>) -> Result<(), Cow<'static, str>> {
        let sequence = event.sequence.to_string();
        let mut headers = OwnedHeaders::new().insert(Header { key: "sequence-number", value: Some(&sequence) });
        if let Some(id) = &event.correlation_id {
            headers = headers.insert(Header { key: "correlation-id", value: Some(id.as_ref()) });
        }
        let record = BaseRecord::with_opaque_to(self.topic, number).key(event.ods_code.as_ref()).payload(event.body);
        let mut record = record.headers(headers);
        loop {
            self.producer.poll(Duration::ZERO);
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
                Err((error, _)) => return Err(error.to_string().into()),
            }
            self.producer.poll(FULL_PAUSE);
        }
    }

    /// Names a line and what is wrong with it on stderr.
    pub(super) fn tell(&self, number: usize, reason: &str) {
        self.deliveries.tell(number, reason);
    }

    /// Nothing was acknowledged for the whole time-out, of this line and what came after it.
    pub(super) fn gave_up_at(&self) -> Option<usize> {
        Some(self.deliveries.gave_up_at.load(Ordering::Relaxed)).filter(|line| *line != NO_LINE)
    }

    /// Waits for what is in flight.
    pub(super) fn finish(self) -> Delivered {
        // What is still in flight after that counts as not delivered below.
        let _ = self.producer.flush(FLUSH_TIMEOUT);
        let in_flight = u64::try_from(self.producer.in_flight_count()).unwrap_or_default();
        let undelivered = self.deliveries.undelivered.load(Ordering::Relaxed) + in_flight;
        Delivered { sent: self.deliveries.sent.load(Ordering::Relaxed), undelivered, gave_up_at: self.gave_up_at() }
    }
}
