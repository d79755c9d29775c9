//! The dead-letter record (rule 9.3): what came in, without personal data, and headers that say where from and why.

use super::{
    change_event::{Decoded, FRAME_BYTES, ValueForm, value_form},
    record::{Headers, InputRecord, OutputRecord, OutputTopic},
    redaction,
};
use crate::domain::batch::{DeadLetter, InputBody};

/// Says why a record has no value although its input had one: `undecodable` or `too-large`.
pub const VALUE_OMITTED: &str = "dosi.value-omitted";

const TOPIC: &str = "__connect.errors.topic";
const PARTITION: &str = "__connect.errors.partition";
const OFFSET: &str = "__connect.errors.offset";
const STAGE: &str = "__connect.errors.stage";
const CLASS: &str = "__connect.errors.exception.class.name";
const MESSAGE: &str = "__connect.errors.exception.message";
const ATTEMPTS: &str = "dosi.attempts";
const CORRELATION_ID: &str = "dosi.correlation-id";

/// Headers that this module sets; those of an earlier dead letter, come back by replay, give way.
const OWN: [&str; 9] = [TOPIC, PARTITION, OFFSET, STAGE, CLASS, MESSAGE, ATTEMPTS, CORRELATION_ID, VALUE_OMITTED];

/// What the broker may add to a record of its key, value and headers.
const OVERHEAD_BYTES: usize = 128;
/// What the broker may add to a header of its name and value.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// The record to publish. What would make it larger than `bytes_max` is left out, the value first (the archive has it), then
/// the original headers, then the key.
pub fn record(
    input: &InputRecord,
    decoded: &Decoded,
    dead_letter: &DeadLetter,
    attempts: i32,
    bytes_max: usize,
) -> OutputRecord {
    let mut record = OutputRecord {
        topic: OutputTopic::DeadLetter,
        source_offset: input.offset,
        key: input.key.clone(),
        value: None,
        headers: headers(input, decoded, dead_letter, attempts),
    };
    let omitted = match redacted(input, decoded) {
        Value::Missing => None,
        Value::Undecodable => Some("undecodable"),
        Value::Fit(value) if size(&record) + value.len() > bytes_max => Some("too-large"),
        Value::Fit(value) => {
            record.value = Some(value);
            None
        }
    };
    record.headers.extend(omitted.map(|why| header(VALUE_OMITTED, why)));
    // A topic that allows much less than the input's may not even take what comes with the value: refused for its size, one
    // record would stop all publishing.
    if size(&record) > bytes_max {
        record.headers.retain(|(name, _)| OWN.contains(&name.as_str()));
    }
    if size(&record) > bytes_max {
        record.key = None;
    }
    record
}

/// The input's value as far as it may be passed on.
enum Value {
    Missing,
    /// It may hold personal data that nobody can cut out.
    Undecodable,
    Fit(Vec<u8>),
}

fn redacted(input: &InputRecord, decoded: &Decoded) -> Value {
    let Some(value) = &input.value else { return Value::Missing };
    match &decoded.json {
        // A replay needs nothing else than the JSON that an Avro value was.
        Some(json) if decoded.is_other_format => Value::Fit(json.clone().into_bytes()),
        Some(json) => Value::Fit([frame(value), json.as_bytes()].concat()),
        None if decoded.is_other_format || redaction::may_hold_staff(value) => Value::Undecodable,
        None => Value::Fit(value.clone()),
    }
}

/// What stands before the JSON of a value.
fn frame(value: &[u8]) -> &[u8] {
    match value_form(value) {
        Some(ValueForm::Framed { .. }) => &value[..FRAME_BYTES],
        Some(ValueForm::Plain) | None => &[],
    }
}

/// All original headers, then our own.
fn headers(input: &InputRecord, decoded: &Decoded, dead_letter: &DeadLetter, attempts: i32) -> Headers {
    let DeadLetter { reason, detail } = dead_letter;
    let (stage, class) = match decoded.input.body {
        InputBody::Rejected { .. } => ("VALUE_CONVERTER", "uk.nhs.dosintegration.ChangeEventRejected"),
        InputBody::Event { .. } => ("TASK_PUT", "uk.nhs.dosintegration.ChangeEventRefused"),
    };
    let own = [
        header(TOPIC, &input.topic),
        header(PARTITION, &input.partition.to_string()),
        header(OFFSET, &input.offset.to_string()),
        header(STAGE, stage),
        header(CLASS, class),
        header(MESSAGE, &format!("{reason}: {detail}")),
        header(ATTEMPTS, &attempts.to_string()),
        header(CORRELATION_ID, &decoded.input.correlation_id),
    ];
    let original = input.headers.iter().filter(|(name, _)| !OWN.contains(&name.as_str())).cloned();
    original.chain(own).collect()
}

fn header(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}

/// A record's size on the wire, at most.
fn size(record: &OutputRecord) -> usize {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + bytes(value) + HEADER_OVERHEAD_BYTES);
    bytes(&record.key) + bytes(&record.value) + headers.sum::<usize>() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
