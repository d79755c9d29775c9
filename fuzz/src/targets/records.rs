//! What must hold for everything that a record leads to.

use std::sync::LazyLock;

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as Avro};
use chrono::{TimeZone, Utc};
use dosi::{
    domain::{
        batch::{DeadLetter, EventDecision},
        json,
    },
    wire::{
        audit::{AUDIT_SCHEMA, AuditEncoder, Envelope},
        change_event::{Decoded, FRAME_BYTES, Undecodable, ValueForm, value_form},
        dead_letter,
        record::{InputRecord, OutputRecord},
    },
};

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::parse_str(AUDIT_SCHEMA).unwrap());
static READER: LazyLock<GenericDatumReader<'static>> =
    LazyLock::new(|| GenericDatumReader::builder(&SCHEMA).build().unwrap());
static ENCODER: LazyLock<AuditEncoder> = LazyLock::new(|| AuditEncoder::new(1, "fuzz", "dead"));

/// The JSON of a value whose frame names a JSON schema.
pub(super) fn json_of(value: &[u8]) -> Result<&[u8], Undecodable> {
    match value_form(value) {
        Some(ValueForm::Plain) => Ok(value),
        Some(ValueForm::Framed { .. }) => Ok(&value[FRAME_BYTES..]),
        None => Err(Undecodable::Frame),
    }
}

/// The dead letter of a record; it is no larger than it may be as long as its own headers fit.
pub(super) fn dead_letter(input: &InputRecord, decoded: &Decoded, bytes_max: usize) -> OutputRecord {
    let why = DeadLetter { reason: "Value too long".to_owned(), detail: "services.web".to_owned() };
    let letter = dead_letter::record(input, decoded, &why, 1, bytes_max);
    let is_own = |name: &str| name.starts_with("__connect.errors.") || name.starts_with("dosi.");
    if letter.headers.iter().any(|(name, _)| !is_own(name)) || letter.key.is_some() {
        assert!(bytes(&letter) <= bytes_max, "{} bytes of {bytes_max}", bytes(&letter));
    }
    let said = letter.headers.iter().filter(|(name, _)| name == dead_letter::VALUE_OMITTED).count();
    assert_eq!(said == 1, letter.value.is_none() && input.value.is_some(), "a value is left out and that is said once");
    if let Some(value) = &letter.value {
        let is_written_anew = decoded.is_other_format;
        assert!(is_written_anew || value.len() <= input.value.as_ref().unwrap().len());
        no_staff_passes(value, decoded);
    }
    letter
}

fn bytes(record: &OutputRecord) -> usize {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + length(value));
    length(&record.key) + length(&record.value) + headers.sum::<usize>()
}

/// Rule 9.3, read from the outside: no member `Staff` in an object, no such word in anything else that decodes, nor what may
/// spell it in what does not.
fn no_staff_passes(value: &[u8], decoded: &Decoded) {
    let spells = |text: &str| text.replace('\0', "").to_ascii_lowercase().contains("staff");
    if decoded.json.is_some() {
        let text = std::str::from_utf8(json_of(value).unwrap()).unwrap();
        let is_object = json::object(text).is_some();
        assert!(if is_object { !has_staff(text) } else { !spells(&json::without_escapes(text)) }, "Staff passes");
    } else {
        let text = String::from_utf8_lossy(value).replace('\0', "");
        assert!(!spells(&text) && !text.contains("\\u"), "what may be Staff passes");
    }
}

/// Whether an object's text has a member `Staff`.
pub(super) fn has_staff(text: &str) -> bool {
    let members = json::members(json::parse(text).unwrap()).unwrap();
    members.iter().any(|(key, _)| key == "Staff")
}

/// The audit records of a decision; each reads back by the schema.
pub(super) fn audit(input: &InputRecord, decoded: &Decoded, decision: &EventDecision) -> Vec<OutputRecord> {
    let envelope = Envelope::of(input, decoded, Utc.timestamp_opt(1_700_000_000, 0).unwrap());
    let records = ENCODER.encode(&envelope, &decision.reports).unwrap();
    for record in &records {
        let value = record.value.as_ref().unwrap();
        assert!(value.len() < 1_000_000);
        let mut rest = &value[FRAME_BYTES..];
        assert!(matches!(READER.read_value(&mut rest), Ok(Avro::Record(_))), "no record");
        assert!(rest.is_empty(), "bytes behind a record");
    }
    records
}
