//! What is too long for an audit record is cut, and says so (design, section 2).

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use serde_json::value::RawValue;

/// Longest text, in bytes, with the mark of the cut.
pub(super) const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Elements that an array keeps.
pub(super) const ELEMENTS_MAX: usize = 1_000;
/// What stands where something was cut.
pub(super) const CUT: &str = "…[cut]";
/// The same as the last element of a JSON array, with the bracket that closes it.
const CUT_ELEMENT: &str = "\"…[cut]\"]";

/// Nothing instead of an empty text; a long one is cut on a character boundary.
pub(super) fn text(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then(|| cut(text))
}

/// A text of bounded length.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let room = TEXT_BYTES_MAX - CUT.len();
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    Cow::Owned([&text[..end], CUT].concat())
}

/// A JSON array is cut between items, so that it stays one.
pub(super) fn json(text: &str) -> Option<Cow<'_, str>> {
    if text.len() <= TEXT_BYTES_MAX {
        return self::text(text);
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    let mut kept = String::from("[");
    for item in items {
        if kept.len() + item.get().len() + 1 + CUT_ELEMENT.len() > TEXT_BYTES_MAX {
            break;
        }
        kept.push_str(item.get());
        kept.push(',');
    }
    kept.push_str(CUT_ELEMENT);
    Some(Cow::Owned(kept))
}

/// A list of texts of which the first 1,000 are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a>(pub(super) &'a [String]);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = &self.0[..self.0.len().min(ELEMENTS_MAX)];
        let is_cut = kept.len() < self.0.len();
        let mut sequence = serializer.serialize_seq(Some(kept.len() + usize::from(is_cut)))?;
        for element in kept {
            sequence.serialize_element(cut(element).as_ref())?;
        }
        if is_cut {
            sequence.serialize_element(CUT)?;
        }
        sequence.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(text(""), None);
        let fits = "a".repeat(TEXT_BYTES_MAX);
        assert_eq!(cut(&fits), fits);
        for first in ["", "a", "ab"] {
            let long = format!("{first}{}", "€".repeat(TEXT_BYTES_MAX / 2));
            let short = cut(&long);
            assert!(short.len() <= TEXT_BYTES_MAX && short.len() > TEXT_BYTES_MAX - 4, "{}", short.len());
            assert!(short.ends_with(CUT) && long.starts_with(short.trim_end_matches(CUT)));
        }
    }

    #[test]
    fn json_is_cut_between_items() {
        let item = r#"{"Weekday": "Monday, [\"}"}"#;
        let fits = format!("[{item}]");
        assert_eq!(json(&fits).as_deref(), Some(fits.as_str()));
        let long = format!("[ {} ]", vec![item; 10_000].join(" , "));
        let short = json(&long).unwrap();
        assert!(short.len() <= TEXT_BYTES_MAX && short.len() > TEXT_BYTES_MAX - 2 * item.len());
        let items: Vec<serde_json::Value> = serde_json::from_str(&short).unwrap();
        assert_eq!(items.last().unwrap(), CUT);
        assert_eq!(items[0]["Weekday"], "Monday, [\"}");
    }

    #[test]
    fn json_without_items_that_fit_is_the_mark_alone() {
        for long in [format!("[\"{}\"]", "x".repeat(TEXT_BYTES_MAX)), format!("\"{}\"", "x".repeat(TEXT_BYTES_MAX))] {
            assert_eq!(json(&long).as_deref(), Some("[\"…[cut]\"]"));
        }
    }
}
