//! Kafka records as plain values, before and after librdkafka.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Headers in order; a name may repeat, a value may be null.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record of the input topic, as received.
#[derive(Clone, PartialEq, Eq)]
pub struct InputRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// The record's timestamp, milliseconds since the epoch.
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

/// Where an output record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputTopic {
    Audit,
    DeadLetter,
}

/// A record to publish, as the outbox keeps it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    pub topic: OutputTopic,
    /// Offset of the input record that caused it.
    pub source_offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

/// Says where it came from, never what is in it.
impl fmt::Debug for InputRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset, .. } = self;
        write!(formatter, "InputRecord({topic}/{partition}/{offset})")
    }
}

/// Says where it goes and whence it came, never what is in it.
impl fmt::Debug for OutputRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, source_offset, .. } = self;
        write!(formatter, "OutputRecord({topic:?} from {source_offset})")
    }
}
