//! One line of a file of change events.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// What is sent for a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub ods_code: Cow<'a, str>,
    pub sequence: i64,
    pub correlation_id: Option<Cow<'a, str>>,
    /// The event as it stands in the line.
    pub body: &'a str,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    sequence: Option<&'a RawValue>,
    #[serde(borrow, default)]
    correlation_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    /// Reads a line; the reason why it is bad repeats nothing of it.
    pub fn parse(text: &'a [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8")?;
        // serde takes an array for a struct too.
        if text.trim_start().starts_with('[') {
            return Err("is not an object");
        }
        let line: Line<'a> = serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => "is not an object, or names sequence, correlation_id or event twice",
            _ => "is not JSON",
        })?;
        let sequence = line.sequence.ok_or("has no sequence")?;
        let sequence = sequence.get().parse().map_err(|_| "sequence is not an integer of 64 bits")?;
        let correlation_id = line.correlation_id.map(correlation_id).transpose()?;
        let body = line.event.ok_or("has no event")?.get();
        let ods_code = ods_code(body)?;
        Ok(Self { ods_code, sequence, correlation_id, body })
    }
}

/// Rule 1.1: 1 to 128 printable ASCII characters.
fn correlation_id(raw: &RawValue) -> Result<Cow<'_, str>, &'static str> {
    const CHARACTERS_MAX: usize = 128;
    const FAULT: &str = "correlation_id is not a text of 1 to 128 printable ASCII characters";
    let Text(id) = serde_json::from_str(raw.get()).map_err(|_| FAULT)?;
    let right = !id.is_empty() && id.len() <= CHARACTERS_MAX && id.bytes().all(|byte| byte.is_ascii_graphic());
    if right { Ok(id) } else { Err(FAULT) }
}

/// The record's key. Whether it is a right code is for the processor to say, as for every other publisher.
fn ods_code(event: &str) -> Result<Cow<'_, str>, &'static str> {
    let LastCode(code) = serde_json::from_str(event).map_err(|_| "event is not an object")?;
    let code = code.ok_or("event has no ODSCode")?;
    let Text(code) = serde_json::from_str(code.get()).map_err(|_| "ODSCode of the event is not a text")?;
    Ok(code)
}

/// A JSON text, borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The value of `ODSCode`; of repeated keys the last counts (rule 1.3, fine print).
struct LastCode<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for LastCode<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CodeVisitor)
    }
}

struct CodeVisitor;

impl<'de> Visitor<'de> for CodeVisitor {
    type Value = LastCode<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut code = None;
        while let Some(Text(key)) = map.next_key()? {
            if key == "ODSCode" {
                code = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(LastCode(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_is_kept_as_it_stands() {
        let line = br#" {"event": {"a" : 1.50,"ODSCode":"X","ODSCode":"FA1\u0032"}, "sequence": -3, "more": 1} "#;
        let event = Event::parse(line).unwrap();
        assert_eq!(event.body, r#"{"a" : 1.50,"ODSCode":"X","ODSCode":"FA1\u0032"}"#);
        assert_eq!((event.ods_code.as_ref(), event.sequence, event.correlation_id), ("FA12", -3, None));
        let line = br#"{"sequence":1,"correlation_id":"c","event":{"ODSCode":""}}"#;
        assert_eq!(Event::parse(line).unwrap().correlation_id.as_deref(), Some("c"));
    }

    #[test]
    fn a_bad_line_is_told_why() {
        let cases: [(&[u8], &str); 14] = [
            (b"\xff", "UTF-8"),
            (b"{", "JSON"),
            (b"{} x", "JSON"),
            (b"[]", "not an object"),
            (b"7", "not an object"),
            (br#"{"event":{"ODSCode":"A"}}"#, "has no sequence"),
            (br#"{"sequence":null,"event":{"ODSCode":"A"}}"#, "sequence"),
            (br#"{"sequence":"1","event":{"ODSCode":"A"}}"#, "64 bits"),
            (br#"{"sequence":9223372036854775808,"event":{"ODSCode":"A"}}"#, "64 bits"),
            (br#"{"sequence":1}"#, "has no event"),
            (br#"{"sequence":1,"event":[]}"#, "not an object"),
            (br#"{"sequence":1,"event":{}}"#, "no ODSCode"),
            (br#"{"sequence":1,"event":{"ODSCode":5}}"#, "not a text"),
            (br#"{"sequence":1,"correlation_id":"a b","event":{"ODSCode":"A"}}"#, "correlation_id"),
        ];
        for (line, part) in cases {
            let reason = Event::parse(line).unwrap_err();
            assert!(reason.contains(part), "{}: {reason}", String::from_utf8_lossy(line));
        }
    }
}
