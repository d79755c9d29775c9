//! JSON read leniently: a document is split into the texts of its parts, and a part of the wrong type is no error.
//! Nothing here recurses, so depth is no danger; no number is kept converted, so their size is none either.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Members of an object in order, keys decoded. A key may repeat.
#[derive(Debug, Default)]
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The last member of that name: of repeated keys the last counts (section 13, 1.3).
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A JSON document as a whole, checked for form but not for lone surrogates in what nobody reads.
pub fn parse(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// The members of a document that is an object: in one walk what [`parse`] and [`members`] do in two.
pub fn object(text: &str) -> Option<Members<'_>> {
    serde_json::from_str(text).ok()
}

/// The members of an object; `None` when it is none.
pub fn members(value: &RawValue) -> Option<Members<'_>> {
    object(value.get())
}

/// The elements of a list; `None` when it is none.
pub fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    if value.get().starts_with('[') { serde_json::from_str(value.get()).ok() } else { None }
}

/// Values of some members of an object, in the order in which they were asked for.
pub type Picked<'a, const N: usize> = [Option<&'a RawValue>; N];

/// The members of these names, of an object; `None` when it is none. Of repeated keys the last counts.
pub fn pick<'a, const N: usize>(value: &'a RawValue, names: &[&str; N]) -> Option<Picked<'a, N>> {
    if !value.get().starts_with('{') {
        return None;
    }
    Pick(names).deserialize(&mut serde_json::Deserializer::from_str(value.get())).ok()
}

/// Has the [`pick`] of each element of a list read that is an object, and says whether all are; `None` when it is no list. An element
/// may be two bytes long, so nothing is kept of it here. Where not all are objects, some are read twice.
pub fn pick_each<'a, const N: usize>(
    list: &'a RawValue,
    names: &[&str; N],
    mut read: impl FnMut(Picked<'a, N>),
) -> Option<bool> {
    if !list.get().starts_with('[') {
        return None;
    }
    // As a rule all are objects, and one walk does.
    let each = PickEach { names, read: &mut read };
    if each.deserialize(&mut serde_json::Deserializer::from_str(list.get())).is_ok() {
        return Some(true);
    }
    elements(list)?.into_iter().filter_map(|element| pick(element, names)).for_each(read);
    Some(false)
}

/// A text, decoded; `None` when it is none.
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    // Checked already: without an escape, what stands between the quotes is the text.
    let quoted = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if !quoted.contains('\\') {
        return Some(Cow::Borrowed(quoted));
    }
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

pub fn boolean(value: &RawValue) -> Option<bool> {
    serde_json::from_str(value.get()).ok()
}

pub fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Whether every `\u` escape of a JSON document stands for a character or a pair that does (section 13, 1.3).
pub fn has_lone_surrogate(document: &str) -> bool {
    let mut rest = document;
    while let Some(at) = rest.find('\\') {
        rest = &rest[at..];
        match code_unit(rest) {
            Some(0xD800..=0xDBFF) if matches!(code_unit(&rest[ESCAPE_LENGTH..]), Some(0xDC00..=0xDFFF)) => {
                rest = &rest[2 * ESCAPE_LENGTH..];
            }
            Some(0xD800..=0xDFFF) => return true,
            Some(_) => rest = &rest[ESCAPE_LENGTH..],
            None => rest = rest.get(2..).unwrap_or_default(),
        }
    }
    false
}

/// A document with each `\u` escape as the character that it stands for, to be searched for words: it need not be JSON any more.
/// Halves of pairs, and what other escapes stand for, are blanks.
pub fn without_escapes(document: &str) -> String {
    let mut text = String::new();
    let mut rest = document;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (character, length) = match code_unit(rest) {
            Some(unit) => (char::from_u32(unit.into()).unwrap_or(' '), ESCAPE_LENGTH),
            None => (' ', 2),
        };
        text.push(character);
        rest = rest.get(length..).unwrap_or_default();
    }
    text + rest
}

/// Bytes of `\uXXXX`.
const ESCAPE_LENGTH: usize = 6;

/// The UTF-16 code unit that an escape at the start of the text stands for.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

/// A text that borrows when nothing in it is escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Reads [`Picked`] members and passes over the others.
struct Pick<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Pick<'_, N> {
    type Value = Picked<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = Picked<'de, N>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut picked = [None; N];
        while let Some(Text(key)) = map.next_key()? {
            match self.0.iter().position(|name| *name == key) {
                Some(index) => picked[index] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(picked)
    }
}

/// Reads a list of objects.
struct PickEach<'n, const N: usize, F> {
    names: &'n [&'n str; N],
    read: F,
}

impl<'de, const N: usize, F: FnMut(Picked<'de, N>)> DeserializeSeed<'de> for PickEach<'_, N, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, const N: usize, F: FnMut(Picked<'de, N>)> Visitor<'de> for PickEach<'_, N, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(picked) = list.next_element_seed(Pick(self.names))? {
            (self.read)(picked);
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((key.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_repeated_keys_counts_and_keys_are_decoded() {
        let document = parse(r#" {"a": 1, "\u0061": [1e999], "b": null} "#).unwrap();
        let members = members(document).unwrap();
        assert_eq!(members.get("a").unwrap().get(), "[1e999]");
        assert!(is_null(members.get("b").unwrap()));
        assert!(members.get("c").is_none());
    }

    #[test]
    fn what_is_asked_for_is_picked_and_the_last_of_repeated_keys_counts() {
        let each = |list| {
            let mut each = Vec::new();
            let all = pick_each(parse(list).unwrap(), &["a", "b"], |picked| {
                each.push(picked.map(|value| value.map(RawValue::get)));
            });
            (all, each)
        };
        let odd = [Some(r#"{"b": 3}"#), Some("1")];
        let objects = r#"[{"b": 1, "x": 1e999, "\u0061": [2], "a": {"b": 3}}, {}, {"a": null, "aa": 4}]"#;
        assert_eq!(each(objects), (Some(true), vec![odd, [None, None], [Some("null"), None]]));
        let mixed = r#"[1e999, {"b": 1, "\u0061": [2], "a": {"b": 3}}, null, "a", ["a"], {}]"#;
        assert_eq!(each(mixed), (Some(false), vec![odd, [None, None]]));
        for no_list in ["{}", "null", "1e999", r#""[]""#] {
            assert_eq!(each(no_list), (None, vec![]), "{no_list}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!(r#"{{"a": {}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let members = members(parse(&deep).unwrap()).unwrap();
        assert_eq!(elements(members.get("a").unwrap()).unwrap().len(), 1);
        let list = format!(r#"[{{"x": {0}{1}, "a": 1}}, {0}{1}]"#, "[".repeat(100_000), "]".repeat(100_000));
        let mut read = Vec::new();
        assert_eq!(pick_each(parse(&list).unwrap(), &["a"], |[a]| read.push(a.map(RawValue::get))), Some(false));
        assert_eq!(read, [Some("1"); 2]);
    }

    #[test]
    fn wrong_types_are_no_errors() {
        let number = parse("12").unwrap();
        assert!(members(number).is_none() && elements(number).is_none() && text(number).is_none());
        assert_eq!(boolean(number), None);
        assert_eq!(text(parse(r#""a\nb""#).unwrap()).unwrap(), "a\nb");
    }

    #[test]
    fn lone_surrogates_are_seen_and_pairs_are_not_mistaken() {
        for lone in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800\udc00""#, r#""\uD83Dx\uDE00""#, r#"["\\\udbff"]"#] {
            assert!(has_lone_surrogate(lone), "{lone}");
        }
        for fine in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u00e9""#, r#""a\\""#, "\"\u{1F600}\"", r#""\\é""#] {
            assert!(!has_lone_surrogate(fine), "{fine}");
        }
    }
}
