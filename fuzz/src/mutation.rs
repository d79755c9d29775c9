//! Variations of a JSON text part by part: bytes alone rarely make a document that is still read to its end.

use dosi::domain::json;
use serde_json::value::RawValue;

/// What stands where something else was expected.
const AWKWARD: [&str; 20] = [
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "\"\"",
    "\" \"",
    "0",
    "-0.0",
    "1e999",
    "123456789012345678901234567890",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "\"\\udc00\"",
    "\"'\"",
    "\"FA001\"",
    "\"24:00\"",
    "[[]]",
    "{\"Staff\":[]}",
    "{\"ServiceCode\":\"SRV0559\"}",
];
/// What a key may become.
const KEYS: [&str; 12] = [
    "Staff",
    "\\u0053taff",
    "staff",
    "ODSCode",
    "OpeningTimes",
    "Contacts",
    "ContactValue",
    "IsOpen",
    "new",
    "data",
    "cmsurl",
    "",
];
/// Parts that are looked at.
const PARTS_MAX: usize = 200;

/// Where a value stands in a text, and where its member with the key begins, if it is one.
#[derive(Clone, Copy)]
struct Part {
    member: Option<usize>,
    start: usize,
    end: usize,
}

/// One variation, chosen by `seed`; `None` when the text is no JSON.
pub fn mutated_json(text: &str, seed: u32) -> Option<String> {
    let document = json::parse(text)?;
    let mut parts = Vec::new();
    collect(text, document, None, &mut parts);
    let mut seed = u64::from(seed);
    let mut below = |most: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap_or_default() % most
    };
    let part = parts[below(parts.len())];
    let other = parts[below(parts.len())];
    let value = &text[part.start..part.end];
    let with = |start: usize, new: &str| Some([&text[..start], new, &text[part.end..]].concat());
    let member = part.member.map(|start| (start, &text[start..part.end]));
    match (below(6), member) {
        (0, _) => with(part.start, AWKWARD[below(AWKWARD.len())]),
        (1, _) => with(part.start, &text[other.start..other.end]),
        (2, Some((start, member))) => with(start, &format!("{member},{member}")),
        (3, Some((start, _))) => with(start, &format!("\"{}\":{value}", KEYS[below(KEYS.len())])),
        (4, Some((start, member))) => {
            with(start, &format!("\"{}\" : {} , {member}", KEYS[below(KEYS.len())], AWKWARD[below(AWKWARD.len())]))
        }
        (5, _) if value.starts_with('"') => with(part.start, &escaped(value, below(value.len()))),
        _ => with(part.start, &format!("[{value}, {value}]")),
    }
}

/// The same text with one of its characters as an escape.
fn escaped(value: &str, at: usize) -> String {
    let Some(character) = value.get(at..=at).filter(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    else {
        return value.to_owned();
    };
    let behind_escape = value[..at].ends_with('\\') || value[..at].contains("\\u");
    if behind_escape {
        return value.to_owned();
    }
    format!("{}\\u{:04x}{}", &value[..at], u32::from(character.as_bytes()[0]), &value[at + 1..])
}

fn collect(text: &str, value: &RawValue, member: Option<usize>, parts: &mut Vec<Part>) {
    if parts.len() >= PARTS_MAX {
        return;
    }
    let start = value.get().as_ptr().addr() - text.as_ptr().addr();
    parts.push(Part { member, start, end: start + value.get().len() });
    let mut behind = start + 1;
    for (_, inner) in json::members(value).unwrap_or_default().iter() {
        let end = inner.get().as_ptr().addr() + inner.get().len() - text.as_ptr().addr();
        let key = text[behind..end].find('"').map(|quote| behind + quote);
        collect(text, inner, key, parts);
        behind = end;
    }
    for inner in json::elements(value).unwrap_or_default() {
        collect(text, inner, None, parts);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::mutated_json;

    #[test]
    fn variations_are_many_and_still_json() {
        let text = r#" {"a": ["x\"y", {"b" : 1.50}], "Staff":null} "#;
        let variations: BTreeSet<String> = (0..2_000).map(|seed| mutated_json(text, seed).unwrap()).collect();
        assert!(variations.len() > 100, "{}", variations.len());
        for variation in &variations {
            assert!(dosi::domain::json::parse(variation).is_some(), "{variation}");
        }
        assert_eq!(mutated_json("{", 1), None);
    }
}
