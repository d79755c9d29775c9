//! Headers of an input record (rule 1.1).

use uuid::Uuid;

use super::record::Headers;
use crate::domain::rejection::Fault;

pub const CORRELATION_ID: &str = "correlation-id";
pub const SEQUENCE_NUMBER: &str = "sequence-number";
pub const TRACEPARENT: &str = "traceparent";

/// Longest correlation id that is kept.
const CORRELATION_ID_BYTES_MAX: usize = 128;

/// The value of a header; of repeated ones the last counts (section 13, 1.1). A null value is no value.
pub fn last<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().rev().find(|(header, _)| header == name)?.1.as_deref()
}

/// The record's correlation id; one is made when it has none that is 1 to 128 printable ASCII characters (rule 1.1).
pub fn correlation_id(headers: &Headers) -> String {
    let is_fine =
        |id: &&[u8]| (1..=CORRELATION_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    last(headers, CORRELATION_ID)
        .filter(is_fine)
        .and_then(|id| String::from_utf8(id.to_vec()).ok())
        .unwrap_or_else(|| Uuid::now_v7().to_string())
}

/// The sequence number: `-?[0-9]+` in 64 bits (rules 1.1, 1.3, section 13).
pub fn sequence_number(headers: &Headers) -> Result<i64, Fault> {
    let value = last(headers, SEQUENCE_NUMBER).ok_or(Fault::SequenceNumberMissing)?;
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let is_integer = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| is_integer).and_then(|text| text.parse().ok());
    number.ok_or(Fault::SequenceNumberNotAnInteger)
}

/// The trace that the event is part of, 32 hex digits, where a W3C `traceparent` says so (rule 1.1): version, trace, parent and
/// flags, to which versions after the first may add.
pub fn trace_id(headers: &Headers) -> Option<&str> {
    let text = std::str::from_utf8(last(headers, TRACEPARENT)?).ok()?;
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        let is_hex =
            |part: &&str| part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        parts.next().filter(is_hex)
    };
    let (version, trace, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_whole = version != "00" || parts.next().is_none();
    let is_set = |id: &str| id.bytes().any(|digit| digit != b'0');
    (version != "ff" && is_whole && is_set(trace) && is_set(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &[u8]) -> (String, Option<Vec<u8>>) {
        (name.to_owned(), Some(value.to_vec()))
    }

    #[test]
    fn a_correlation_id_is_kept_when_printable_and_made_otherwise() {
        let longest = "x".repeat(128);
        for kept in ["a", "~!id-1", &longest] {
            assert_eq!(correlation_id(&vec![header(CORRELATION_ID, kept.as_bytes())]), kept);
        }
        let made = [&b""[..], b"a b", b"a\n", "caf\u{e9}".as_bytes(), &[0xff], &[b'x'; 129], b"\x7f"];
        for unfit in made {
            let id = correlation_id(&vec![header(CORRELATION_ID, unfit)]);
            assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 7, "{unfit:?}");
        }
        assert_ne!(correlation_id(&Vec::new()), correlation_id(&Vec::new()));
    }

    #[test]
    fn the_last_of_repeated_headers_counts() {
        let headers =
            vec![header(SEQUENCE_NUMBER, b"1"), header(SEQUENCE_NUMBER, b"2"), header("Sequence-Number", b"3")];
        assert_eq!(sequence_number(&headers), Ok(2));
        assert_eq!(correlation_id(&vec![header(CORRELATION_ID, b"a"), header(CORRELATION_ID, b"b")]), "b");
    }

    #[test]
    fn a_trace_is_known_by_a_well_formed_traceparent_only() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        let fine = format!("00-{TRACE}-b7ad6b7169203331-01");
        let of = |text: &str| trace_id(&vec![header(TRACEPARENT, text.as_bytes())]).map(str::to_owned);
        for text in [fine.clone(), fine.replacen("00", "cc", 1), fine.replacen("00", "01", 1) + "-more"] {
            assert_eq!(of(&text).as_deref(), Some(TRACE), "{text}");
        }
        for text in [
            String::new(),
            TRACE.to_owned(),
            format!("{fine}-more"),
            format!("{fine} "),
            fine.to_uppercase(),
            fine.replacen("00", "ff", 1),
            fine.replace(TRACE, &"0".repeat(32)),
            fine.replace("b7ad6b7169203331", &"0".repeat(16)),
            fine.replace('c', "g"),
            fine.replacen("00-", "0-", 1),
            fine.replace("-01", ""),
            fine.replace("-01", "-1"),
        ] {
            assert_eq!(of(&text), None, "{text}");
        }
        assert_eq!(trace_id(&vec![header(TRACEPARENT, &[0xff])]), None);
        assert_eq!(trace_id(&Vec::new()), None);
    }

    #[test]
    fn a_sequence_number_is_a_signed_integer_of_64_bits() {
        for (text, expected) in [
            ("0", 0),
            ("-0", 0),
            ("-5", -5),
            ("007", 7),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(sequence_number(&vec![header(SEQUENCE_NUMBER, text.as_bytes())]), Ok(expected), "{text}");
        }
        for text in
            ["", "-", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "--1", "٣", "9223372036854775808", "-9223372036854775809"]
        {
            let found = sequence_number(&vec![header(SEQUENCE_NUMBER, text.as_bytes())]);
            assert_eq!(found, Err(Fault::SequenceNumberNotAnInteger), "{text}");
        }
        let not_text = sequence_number(&vec![header(SEQUENCE_NUMBER, &[0xff, b'1'])]);
        assert_eq!(not_text, Err(Fault::SequenceNumberNotAnInteger));
        assert_eq!(sequence_number(&vec![(SEQUENCE_NUMBER.to_owned(), None)]), Err(Fault::SequenceNumberMissing));
        assert_eq!(sequence_number(&Vec::new()), Err(Fault::SequenceNumberMissing));
    }
}
