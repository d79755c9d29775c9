//! A record's key and headers. An input is text: the first line is the key (`-`: none), each other one `name=value`, or a
//! name alone for a null value.

use dosi::wire::{
    change_event::decode,
    headers::{CORRELATION_ID, SEQUENCE_NUMBER},
    record::Headers,
};

use super::records::dead_letter;
use crate::support::golden_form::record;

pub(crate) fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let key = lines.next().filter(|key| *key != b"-").map(<[u8]>::to_vec);
    let headers: Headers = lines.map(header).collect();
    let mut input = record(br#"{"ODSCode":"FA001","OrganisationTypeId":"PHA","OrganisationSubType":"Community"}"#, "");
    input.key = key;
    input.headers = headers;
    let decoded = decode(&input, Ok(input.value.as_deref().unwrap()));

    let number = last(&input.headers, SEQUENCE_NUMBER).and_then(|value| std::str::from_utf8(value).ok());
    let number = number.filter(|text| !text.starts_with('+')).and_then(|text| text.parse::<i64>().ok());
    assert_eq!(decoded.sequence_number, number);
    let is_right_key = input.key.as_deref().is_none_or(|key| key == b"FA001");
    assert_eq!(decoded.input.body.event().is_some(), number.is_some() && is_right_key);

    let id = &decoded.input.correlation_id;
    assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    let given = last(&input.headers, CORRELATION_ID);
    let is_kept = given == Some(id.as_bytes());
    assert!(is_kept || given.is_none_or(|id| id.is_empty() || id.len() > 128 || !id.is_ascii() || has_space(id)));

    for bytes_max in [200, 1_000, 100_000] {
        let letter = dead_letter(&input, &decoded, bytes_max);
        for name in ["__connect.errors.topic", "__connect.errors.offset", "dosi.correlation-id"] {
            assert_eq!(letter.headers.iter().filter(|(header, _)| header == name).count(), 1, "{name}");
        }
        if letter.value.is_some() {
            let original = letter.headers.iter().filter(|header| input.headers.contains(header)).count();
            assert!(original >= input.headers.iter().filter(|(name, _)| !is_own(name)).count(), "a header is lost");
        }
    }
}

fn header(line: &[u8]) -> (String, Option<Vec<u8>>) {
    let mut parts = line.splitn(2, |byte| *byte == b'=');
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    (name, parts.next().map(<[u8]>::to_vec))
}

/// Of repeated headers the last counts; its value may be null.
fn last<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().rfind(|(header, _)| header == name).and_then(|(_, value)| value.as_deref())
}

fn has_space(id: &[u8]) -> bool {
    id.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
}

fn is_own(name: &str) -> bool {
    name.starts_with("__connect.errors.") || name.starts_with("dosi.")
}
