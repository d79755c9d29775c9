use super::*;
use crate::wire::{
    avro_event::WriterSchema,
    change_event::{Undecodable, decode, decode_avro},
};

const BYTES_MAX: usize = 1_000_000;

fn input(value: Option<&[u8]>) -> InputRecord {
    InputRecord {
        topic: "dos.change-events".into(),
        partition: 3,
        offset: 42,
        timestamp_ms: 0,
        key: Some(vec![0xff]),
        value: value.map(<[u8]>::to_vec),
        headers: vec![
            ("correlation-id".to_owned(), Some(b"id-1".to_vec())),
            ("x".to_owned(), None),
            ("x".to_owned(), Some(vec![0xfe])),
        ],
    }
}

fn dead_letter() -> DeadLetter {
    DeadLetter { reason: "ODSCode missing".to_owned(), detail: "ODSCode missing; Sequence number missing".to_owned() }
}

fn dead(input: &InputRecord, bytes_max: usize) -> OutputRecord {
    let value = input.value.as_deref().unwrap_or_default();
    let json = match value_form(value) {
        Some(ValueForm::Plain) => Ok(value),
        Some(ValueForm::Framed { schema_id: 1 }) => Ok(&value[FRAME_BYTES..]),
        Some(ValueForm::Framed { .. }) => Err(Undecodable::Schema),
        None => Err(Undecodable::Frame),
    };
    record(input, &decode(input, json), &dead_letter(), 1, bytes_max)
}

fn header<'a>(record: &'a OutputRecord, name: &str) -> Vec<&'a [u8]> {
    let headers = record.headers.iter().filter(|(header, _)| header == name);
    headers.map(|(_, value)| value.as_deref().unwrap_or(b"null")).collect()
}

#[test]
fn it_says_where_from_and_why_and_keeps_key_and_headers() {
    let record = dead(&input(Some(b"{\"a\":1}")), BYTES_MAX);
    assert_eq!((record.topic, record.source_offset), (OutputTopic::DeadLetter, 42));
    assert_eq!(record.key, Some(vec![0xff]));
    assert_eq!(header(&record, "x"), [&b"null"[..], &[0xfe]]);
    for (name, value) in [
        ("correlation-id", "id-1"),
        ("__connect.errors.topic", "dos.change-events"),
        ("__connect.errors.partition", "3"),
        ("__connect.errors.offset", "42"),
        ("__connect.errors.stage", "VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", "uk.nhs.dosintegration.ChangeEventRejected"),
        ("__connect.errors.exception.message", "ODSCode missing: ODSCode missing; Sequence number missing"),
        ("dosi.attempts", "1"),
        ("dosi.correlation-id", "id-1"),
    ] {
        assert_eq!(header(&record, name), [value.as_bytes()], "{name}");
    }
    assert!(header(&record, VALUE_OMITTED).is_empty());
}

#[test]
fn staff_is_cut_out_of_a_value_that_decodes() {
    let plain = dead(&input(Some(br#"{"Staff":[1],"a":1.50,"\u0053taff":2}"#)), BYTES_MAX);
    assert_eq!(plain.value.as_deref(), Some(&br#"{"a":1.50}"#[..]));
    let framed = dead(&input(Some(b"\0\0\0\0\x01{\"Staff\":1,\"a\":2}")), BYTES_MAX);
    assert_eq!(framed.value.as_deref(), Some(&b"\0\0\0\0\x01{\"a\":2}"[..]));
}

#[test]
fn all_other_bytes_of_a_value_that_decodes_stay() {
    for value in [
        " {\"a\" : 1}\n",
        "\0\0\0\0\x01\t{\"a\":1} ",
        "[\"caf\\u00e9\"]",
        "\0\0\0\0\x01 \"x\\u0041\" ",
        "[\"\\\\u0053taff\"]",
    ] {
        let record = dead(&input(Some(value.as_bytes())), BYTES_MAX);
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
    }
    let spaced = dead(&input(Some(b"\n{\"Staff\":1, \"a\":2 }\n")), BYTES_MAX);
    assert_eq!(spaced.value.as_deref(), Some(&b"\n{ \"a\":2 }\n"[..]));
}

#[test]
fn an_avro_value_becomes_plain_json_or_is_left_out() {
    let fields = r#"[{"name":"a","type":"string"},{"name":"Staff","type":"string"}]"#;
    let record_of = format!(r#"{{"type":"record","name":"R","fields":{fields}}}"#);
    let dead = |schema: &str, datum: &[u8]| {
        let input = input(Some(&[&[0, 0, 0, 0, 9], datum].concat()));
        let decoded = decode_avro(&input, &WriterSchema::parse(schema).unwrap());
        record(&input, &decoded, &dead_letter(), 1, BYTES_MAX)
    };
    assert_eq!(dead(&record_of, b"\x02x\x04Jo").value.as_deref(), Some(&br#"{"a":"x"}"#[..]));
    assert_eq!(dead(r#""string""#, b"\x02x").value.as_deref(), Some(&br#""x""#[..]));
    for (schema, datum) in [(&*record_of, &b"\x02x"[..]), (r#""string""#, b"\x0astaff"), (r#""string""#, b"\x02x\0")] {
        let left_out = dead(schema, datum);
        assert_eq!((&left_out.value, header(&left_out, VALUE_OMITTED)), (&None, vec![&b"undecodable"[..]]));
    }
}

#[test]
fn a_value_that_does_not_decode_is_copied_only_when_it_cannot_hold_staff() {
    for copied in [&b"{\"a\":"[..], b"\xff\xfe", b"\0\0", b"\0\0\0\0\x09{\"a\":1}", b"[1]", b"{\"ODSCode\": \"\xff\"}"]
    {
        let record = dead(&input(Some(copied)), BYTES_MAX);
        assert_eq!(record.value.as_deref(), Some(copied));
        assert!(header(&record, VALUE_OMITTED).is_empty());
    }
    let left_out = [
        &b"{\"Staff\":"[..],
        b"\xffstaff",
        br#"{"\u0053taff":"#,
        b"\0\0\0\0\x09{\"Staff\":1}",
        b"[{\"Staff\":1}]",
        br#"["\u0053TAFF"]"#,
        br#"{"Staff":"\ud800"}"#,
    ];
    for left_out in left_out {
        let record = dead(&input(Some(left_out)), BYTES_MAX);
        assert_eq!(record.value, None, "{left_out:?}");
        assert_eq!(header(&record, VALUE_OMITTED), [b"undecodable"]);
    }
}

#[test]
fn a_tombstone_stays_one() {
    let record = dead(&input(None), BYTES_MAX);
    assert_eq!(record.value, None);
    assert!(header(&record, VALUE_OMITTED).is_empty());
    assert_eq!(dead(&input(Some(b"")), BYTES_MAX).value, Some(Vec::new()));
}

#[test]
fn a_value_that_is_too_large_is_left_out() {
    let value = format!("{{\"a\":\"{}\"}}", "x".repeat(5000));
    let record = dead(&input(Some(value.as_bytes())), 5000);
    assert_eq!(record.value, None);
    assert_eq!(header(&record, VALUE_OMITTED), [b"too-large"]);
    assert!(dead(&input(Some(value.as_bytes())), 6000).value.is_some());
}

#[test]
fn what_comes_with_the_value_is_left_out_where_the_topic_allows_less() {
    let mut large = input(Some(b"{}"));
    large.headers.push(("h".to_owned(), Some(vec![b'x'; 5000])));
    let record = dead(&large, 4000);
    assert!(header(&record, "h").is_empty() && record.key == large.key, "{record:?}");
    assert_eq!(header(&record, VALUE_OMITTED), [b"too-large"]);
    large.key = Some(vec![b'k'; 5000]);
    let record = dead(&large, 4000);
    assert_eq!((header(&record, OFFSET).len(), record.key), (1, None));
}

#[test]
fn headers_of_an_earlier_dead_letter_are_replaced() {
    let mut replayed = input(Some(b"{}"));
    let earlier = dead(&input(Some(b"Staff")), BYTES_MAX).headers;
    replayed.headers = earlier.into_iter().map(|(name, _)| (name, Some(b"old".to_vec()))).collect();
    let record = dead(&replayed, BYTES_MAX);
    for name in OWN.iter().filter(|name| ![VALUE_OMITTED, CORRELATION_ID].contains(name)) {
        let values = header(&record, name);
        assert!(values.len() == 1 && values[0] != b"old", "{name}");
    }
    assert!(header(&record, VALUE_OMITTED).is_empty());
    assert_eq!(header(&record, "correlation-id"), [b"old"]);
    assert_eq!(header(&record, CORRELATION_ID).len(), 1);
}

#[test]
fn an_event_that_was_refused_says_so() {
    let json = br#"{"ODSCode":"FA001","OrganisationTypeId":"PHA","OrganisationSubType":"Community"}"#;
    let mut input = input(Some(json));
    input.key = None;
    input.headers.push(("sequence-number".to_owned(), Some(b"1".to_vec())));
    let record = dead(&input, BYTES_MAX);
    assert_eq!(header(&record, "__connect.errors.stage"), [b"TASK_PUT"]);
}
