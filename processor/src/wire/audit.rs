//! Audit records: one for each report, Avro behind the Confluent frame (interface, section 3).
//!
//! `schemas/audit-record.avsc` is the single source of the format. A record can never be refused for its size: texts and
//! lists are bounded here (design, section 2).

mod bounds;
mod row;
#[cfg(test)]
mod tests;

use std::{fmt::Write as _, sync::LazyLock};

use anyhow::Context as _;
use apache_avro::{Schema, writer::datum::GenericDatumWriter};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use self::row::AuditRecord;
use super::{
    change_event::Decoded,
    record::{InputRecord, OutputRecord, OutputTopic},
};
use crate::domain::audit::Report;

/// The schema as registered.
pub const AUDIT_SCHEMA: &str = include_str!("../../../schemas/audit-record.avsc");

static PARSED_SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let schema = Schema::parse_str(AUDIT_SCHEMA).expect("the schema of this program is valid");
    assert!(is_of_rows(&schema), "the schema of this program has the fields of its rows");
    schema
});

/// Fields are written by position, so names and order must be the same.
fn is_of_rows(schema: &Schema) -> bool {
    match schema {
        Schema::Record(record) => {
            record.fields.iter().map(|field| field.name.as_str()).eq(AuditRecord::FIELDS.iter().copied())
        }
        _ => false,
    }
}

static WRITER: LazyLock<GenericDatumWriter<'static>> = LazyLock::new(|| {
    let writer = GenericDatumWriter::builder(&PARSED_SCHEMA).human_readable(false).build();
    writer.expect("the schema of this program names no other schema")
});

/// What all records share that one input record caused.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// The input record's timestamp, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// As received; it need not be a valid code.
    pub ods_code: Option<&'a str>,
    pub sequence_number: Option<i64>,
    pub correlation_id: &'a str,
    pub occurred_at: DateTime<Utc>,
}

impl<'a> Envelope<'a> {
    pub fn of(record: &'a InputRecord, decoded: &'a Decoded, occurred_at: DateTime<Utc>) -> Self {
        Self {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            ods_code: decoded.ods_code.as_deref(),
            sequence_number: decoded.sequence_number,
            correlation_id: &decoded.input.correlation_id,
            occurred_at,
        }
    }
}

/// A repair by `dosi position set`.
#[derive(Clone, Debug)]
pub struct PositionSet<'a> {
    pub topic: &'a str,
    pub partition: i32,
    /// The new position.
    pub offset: i64,
    /// The operator's words.
    pub reason: &'a str,
    /// Old position, old group offset, outbox rows deleted.
    pub detail: &'a str,
    pub occurred_at: DateTime<Utc>,
}

/// Makes audit records. One for each instance is enough; it can be shared between threads.
#[derive(Clone, Debug)]
pub struct AuditEncoder {
    schema_id: u32,
    environment: String,
    dead_letter_topic: String,
}

impl AuditEncoder {
    /// `schema_id`: what the registry calls [`AUDIT_SCHEMA`].
    pub fn new(schema_id: u32, environment: &str, dead_letter_topic: &str) -> Self {
        Self { schema_id, environment: environment.to_owned(), dead_letter_topic: dead_letter_topic.to_owned() }
    }

    /// One record for each report, in order; a record's place makes its id, so all reports of an input record go in one call.
    pub fn encode(&self, envelope: &Envelope<'_>, reports: &[Report]) -> anyhow::Result<Vec<OutputRecord>> {
        let Envelope { topic, partition, offset, timestamp_ms, .. } = envelope;
        let mut name = format!("dosi:{topic}/{partition}/{offset}/{timestamp_ms}/");
        let prefix = name.len();
        let mut records = Vec::with_capacity(reports.len());
        for (ordinal, report) in reports.iter().enumerate() {
            name.truncate(prefix);
            let _ = write!(name, "{ordinal}");
            let event_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
            let row = self.row(event_id, envelope, report);
            records.push(self.record(&row, envelope.offset)?);
        }
        Ok(records)
    }

    /// The one record of a repair. Its key is null: it concerns no organisation.
    pub fn encode_position_set(&self, repair: &PositionSet<'_>) -> anyhow::Result<OutputRecord> {
        let correlation_id = Uuid::now_v7().to_string();
        let envelope = Envelope {
            topic: repair.topic,
            partition: repair.partition,
            offset: repair.offset,
            timestamp_ms: 0,
            ods_code: None,
            sequence_number: None,
            correlation_id: &correlation_id,
            occurred_at: repair.occurred_at,
        };
        let (reason, detail) = (repair.reason.to_owned(), repair.detail.to_owned());
        let report = Report::PositionSet { reason, detail };
        let mut row = self.row(Uuid::now_v7(), &envelope, &report);
        row.received_at = None;
        self.record(&row, repair.offset)
    }

    fn row<'a>(&'a self, event_id: Uuid, envelope: &Envelope<'a>, report: &'a Report) -> AuditRecord<'a> {
        let mut row = AuditRecord::from_envelope(event_id, envelope, &self.environment);
        row.fill(report, &self.dead_letter_topic);
        row
    }

    fn record(&self, row: &AuditRecord<'_>, source_offset: i64) -> anyhow::Result<OutputRecord> {
        /// Room for a usual record, so that it is written without growing.
        const BYTES_USUAL: usize = 512;
        let mut value = Vec::with_capacity(BYTES_USUAL);
        value.push(0);
        value.extend_from_slice(&self.schema_id.to_be_bytes());
        WRITER.write_ser(&mut value, row).context("failed to encode an audit record")?;
        let key = row.ods_code.as_ref().map(|code| code.as_bytes().to_vec());
        Ok(OutputRecord { topic: OutputTopic::Audit, source_offset, key, value: Some(value), headers: Vec::new() })
    }
}
