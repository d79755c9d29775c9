use apache_avro::{types::Value, writer::datum::GenericDatumWriter};
use serde_json::json;

use super::*;

fn parse(schema: &serde_json::Value) -> WriterSchema {
    WriterSchema::parse(&schema.to_string()).unwrap()
}

/// A record `R` in a namespace, with these fields.
fn record(fields: &serde_json::Value) -> serde_json::Value {
    json!({"type": "record", "name": "a.R", "fields": fields})
}

/// The datum as the library writes it.
fn written(schema: &serde_json::Value, value: Value) -> Vec<u8> {
    let schema = Schema::parse(schema).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}

/// The variable-length form of a number.
fn long(number: i64) -> Vec<u8> {
    written(&json!("long"), Value::Long(number))
}

#[test]
fn each_type_has_its_json() {
    let a_schema = json!({"type": "record", "name": "a.R", "fields": [
        {"name": "nothing", "type": "null"},
        {"name": "yes", "type": "boolean"},
        {"name": "int", "type": {"type": "int", "logicalType": "date"}},
        {"name": "long", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "float", "type": "float"},
        {"name": "double", "type": "double"},
        {"name": "none", "type": "double"},
        {"name": "bytes", "type": "bytes"},
        {"name": "text", "type": "string"},
        {"name": "pair", "type": {"type": "fixed", "name": "Pair", "size": 2}},
        {"name": "word", "type": {"type": "enum", "name": "Word", "symbols": ["ONE", "TWO"]}},
        {"name": "list", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "map", "type": {"type": "map", "values": "Pair"}},
        {"name": "within", "type": ["null", {"type": "record", "name": "W", "fields": [{"name": "word", "type": "Word"}]}]},
    ]});
    let pair = || Value::Fixed(2, vec![b'"', 0xe9]);
    let values = [
        ("nothing", Value::Null),
        ("yes", Value::Boolean(true)),
        ("int", Value::Date(i32::MIN)),
        ("long", Value::TimestampMicros(i64::MIN)),
        ("float", Value::Float(0.1)),
        ("double", Value::Double(-1e300)),
        ("none", Value::Double(f64::NAN)),
        ("bytes", Value::Bytes(vec![0, b'a', 0xff])),
        ("text", Value::String("\"é\"\n".to_owned())),
        ("pair", pair()),
        ("word", Value::Enum(1, "TWO".to_owned())),
        ("list", Value::Array(vec![Value::Union(0, Box::new(Value::Null)), Value::Union(1, Box::new("x".into()))])),
        ("map", Value::Map([("k".to_owned(), pair())].into())),
        (
            "within",
            Value::Union(1, Box::new(Value::Record(vec![("word".to_owned(), Value::Enum(0, "ONE".to_owned()))]))),
        ),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let schema = parse(&a_schema);
    let datum = written(&a_schema, Value::Record(values));
    let expected = concat!(
        r#"{"nothing":null,"yes":true,"int":-2147483648,"long":-9223372036854775808,"float":0.1,"double":-1e+300,"none":null,"#,
        r#""bytes":"\u0000aÿ","text":"\"é\"\n","pair":"\"é","word":"TWO","list":[null,"x"],"map":{"k":"\"é"},"#,
        r#""within":{"word":"ONE"}}"#
    );
    assert!(schema.is_record());
    assert_eq!(schema.json(&datum).as_deref(), Some(expected));
    // A datum that ends within itself, or has something behind it, is none.
    for end in 0..datum.len() {
        assert_eq!(schema.json(&datum[..end]), None, "{end} bytes");
    }
    assert_eq!(schema.json(&[&datum[..], &[0]].concat()), None);
}

#[test]
fn what_is_no_value_of_its_type_is_refused() {
    let a_word = json!({"type": "enum", "name": "Word", "symbols": ["ONE"]});
    let texts = json!({"type": "array", "items": "string"});
    for (schema, datum) in [
        (json!("boolean"), vec![2]),
        (json!("int"), long(1 << 31)),
        (json!("long"), vec![0xff; 11]),
        // One bit more than a number has.
        (json!("long"), [&[0xff; 9][..], &[2]].concat()),
        (json!("string"), vec![2, 0xff]),
        (json!("string"), long(-1)),
        (json!("bytes"), long(i64::MAX)),
        (a_word.clone(), long(1)),
        (a_word, long(-1)),
        (json!(["null", "string"]), long(2)),
        (json!(["null", "string"]), long(-1)),
        (texts, [long(i64::MIN), vec![0]].concat()),
    ] {
        assert_eq!(parse(&schema).json(&datum), None, "{schema} {datum:?}");
    }
}

#[test]
fn lists_come_in_blocks_with_or_without_their_length() {
    let list = parse(&json!({"type": "array", "items": "int"}));
    let blocks = [&long(2)[..], &[2, 4], &long(-1), &long(1), &[6], &[0]].concat();
    assert_eq!(list.json(&blocks).as_deref(), Some("[1,2,3]"));
    assert_eq!(list.json(&[0]).as_deref(), Some("[]"));
    assert!(!list.is_record());
}

#[test]
fn what_a_datum_promises_takes_neither_room_nor_time() {
    let nulls = json!({"type": "array", "items": "null"});
    let empty = record(&json!([]));
    for (schema, datum) in [
        (nulls.clone(), long(1 << 40)),
        (json!({"type": "array", "items": empty}), long(i64::MAX)),
        (
            json!({"type": "array", "items": nulls}),
            [long(1000), [long(1 << 30), vec![0]].concat().repeat(1000)].concat(),
        ),
        (json!({"type": "map", "values": "null"}), long(1 << 40)),
        (json!("string"), long(1 << 40)),
        (json!({"type": "fixed", "name": "F", "size": 1_u64 << 40}), vec![0]),
        // It holds itself twice, without end and without a byte.
        (record(&json!([{"name": "a", "type": "R"}, {"name": "b", "type": "R"}])), vec![]),
    ] {
        assert_eq!(parse(&schema).json(&datum), None, "{schema}");
    }
    let thousand = [long(1000), vec![0]].concat();
    assert!(parse(&json!({"type": "array", "items": "null"})).json(&thousand).is_some());
}

#[test]
fn depth_is_bounded() {
    let list = record(&json!([{"name": "next", "type": ["null", "R"]}]));
    let schema = parse(&list);
    let nested = |depth: usize| [vec![2; depth], vec![0]].concat();
    assert_eq!(schema.json(&nested(1)).as_deref(), Some(r#"{"next":{"next":null}}"#));
    assert!(schema.json(&nested(40)).is_some());
    assert_eq!(schema.json(&nested(1_000_000)), None);
}

#[test]
fn a_schema_is_whole_or_none() {
    for text in ["", "{", r#"{"type":"record"}"#, r#"["null","else.Where"]"#, r#"{"type":"array","items":"Other"}"#] {
        assert!(WriterSchema::parse(text).is_none(), "{text}");
    }
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(10_000), "}".repeat(10_000));
    assert!(WriterSchema::parse(&deep).is_none());
}
