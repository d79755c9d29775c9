//! A change event in Avro: its datum, as the schema of `tests/data` has it.

use std::sync::LazyLock;

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as Avro};
use dosi::wire::{avro_event::WriterSchema, change_event::decode_avro};
use serde_json::{Value, json};

use super::{
    holds_planted,
    records::{dead_letter, has_staff},
};
use crate::support::golden_form::record;

const SCHEMA: &str = include_str!("../../../tests/data/change-event.avsc");
static OURS: LazyLock<WriterSchema> = LazyLock::new(|| WriterSchema::parse(SCHEMA).unwrap());
static THEIRS: LazyLock<Schema> = LazyLock::new(|| Schema::parse_str(SCHEMA).unwrap());

/// Most bytes of a dead letter: nothing is left out for its size.
const BYTES_MAX: usize = 1 << 20;

pub(crate) fn run(datum: &[u8]) {
    let text = OURS.json(datum);
    let input = record(&[&[0, 0, 0, 0, 1], datum].concat(), "1");
    let decoded = decode_avro(&input, &OURS);
    let letter = dead_letter(&input, &decoded, BYTES_MAX);
    let Some(text) = text else {
        assert!(decoded.json.is_none() && decoded.archive().is_none());
        assert!(letter.value.is_none(), "what nobody can read is passed on");
        return;
    };
    let tree: Value = serde_json::from_str(&text).unwrap();
    let mut rest = datum;
    let reader = GenericDatumReader::builder(&THEIRS).build().unwrap();
    let theirs = as_json(reader.read_value(&mut rest).unwrap());
    assert!(rest.is_empty() && theirs == tree, "the library reads another event");
    let json = decoded.json.as_deref().unwrap();
    assert!(!has_staff(json));
    assert_eq!(letter.value.as_deref(), Some(json.as_bytes()));
    let others = tree.as_object().unwrap().iter().filter(|(key, _)| *key != "Staff");
    if !others.map(|(_, value)| value.to_string()).any(|value| holds_planted(value.as_bytes())) {
        assert!(!holds_planted(json.as_bytes()), "personal data is written");
    }
}

fn as_json(value: Avro) -> Value {
    let text = |bytes: Vec<u8>| json!(bytes.into_iter().map(char::from).collect::<String>());
    match value {
        Avro::Record(fields) => fields.into_iter().map(|(name, value)| (name, as_json(value))).collect(),
        Avro::Map(values) => values.into_iter().map(|(name, value)| (name, as_json(value))).collect(),
        Avro::Array(values) => values.into_iter().map(as_json).collect(),
        Avro::Union(_, value) => as_json(*value),
        Avro::Null => Value::Null,
        Avro::Boolean(value) => json!(value),
        Avro::Int(value) => json!(value),
        Avro::Long(value) => json!(value),
        Avro::Double(value) => json!(value),
        // Its shortest form, not what it is as a number of twice the length.
        Avro::Float(value) => serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap(),
        Avro::String(value) | Avro::Enum(_, value) => json!(value),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => text(bytes),
        other => panic!("no such type in the schema: {other:?}"),
    }
}
