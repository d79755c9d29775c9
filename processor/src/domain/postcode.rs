//! Postcodes are compared, and looked up in `locations`, without regard to spaces and case (rule 5.4).

use std::collections::BTreeSet;

use super::{
    service::Location,
    text::{is_blank, without_spaces},
};

/// Width of `locations.postcode`: a longer postcode is in no table.
const CHARS_MAX: usize = 255;
/// Normal forms up to this length are probed in every spacing, which doubles with each character.
const EVERY_SPACING_CHARS_MAX: usize = 8;
/// Characters behind the usual space of a postcode.
const INWARD_CHARS: usize = 3;
/// Columns of fixed width come with more than one space.
const USUAL_SPACES_MAX: usize = 3;

/// Spaces removed, upper-cased; empty when there is nothing but white space (rule 5.4).
pub fn normal(postcode: Option<&str>) -> String {
    match postcode {
        Some(text) if !is_blank(text) => without_spaces(text).to_ascii_uppercase(),
        _ => String::new(),
    }
}

/// Whether a postcode in this normal form could stand in `locations` at all. One with a NUL could not (rule 6.8).
pub fn can_be_looked_up(normal: &str) -> bool {
    !normal.is_empty() && !normal.contains('\0') && normal.chars().count() <= CHARS_MAX
}

/// Spellings to probe `locations` with through its plain index, so that rows are found whatever their spacing and case, as far
/// as that is bounded: upper case with up to one space in each gap (of more than eight characters, in one gap), and the usual
/// forms (none to three spaces in the usual place) in upper and in lower case, also with one space before or behind. A row in
/// mixed case, in lower case with spaces elsewhere, or with more spaces is not found: it would take a scan of the table or an
/// index that DoS does not have.
///
/// Rows that come back are held against the normal form by [`complete`].
pub fn spellings(normal: &str) -> BTreeSet<String> {
    if !can_be_looked_up(normal) {
        return BTreeSet::new();
    }
    let chars: Vec<char> = normal.chars().collect();
    let gaps = chars.len() - 1;
    let mut spellings: BTreeSet<String> = if chars.len() <= EVERY_SPACING_CHARS_MAX {
        (0..1_u32 << gaps).map(|spaces| spaced(&chars, |gap| usize::from(spaces >> gap & 1 == 1))).collect()
    } else {
        (0..gaps).map(|at| spaced(&chars, |gap| usize::from(gap == at))).collect()
    };
    for upper in usual_forms(&chars) {
        let lower = upper.to_ascii_lowercase();
        for form in [upper, lower] {
            spellings.extend([format!(" {form}"), format!("{form} "), form]);
        }
    }
    spellings
}

/// None to three spaces before the last three characters.
fn usual_forms(chars: &[char]) -> Vec<String> {
    let Some(gap_before) = chars.len().checked_sub(INWARD_CHARS + 1) else { return vec![spaced(chars, |_| 0)] };
    (0..=USUAL_SPACES_MAX).map(|spaces| spaced(chars, |gap| if gap == gap_before { spaces } else { 0 })).collect()
}

/// The characters with so many spaces in each gap between them.
fn spaced(chars: &[char], spaces_in: impl Fn(usize) -> usize) -> String {
    let mut text = String::with_capacity(chars.len() * 2);
    for (index, character) in chars.iter().enumerate() {
        if index > 0 {
            text.extend(std::iter::repeat_n(' ', spaces_in(index - 1)));
        }
        text.push(*character);
    }
    text
}

/// The first row for that postcode that has easting, northing, latitude and longitude (rule 5.4, section 13).
pub fn complete<'a>(rows: &'a [Location], normal_form: &str) -> Option<&'a Location> {
    rows.iter().find(|row| {
        let coordinates = (row.easting, row.northing, row.latitude, row.longitude);
        matches!(coordinates, (Some(_), Some(_), Some(_), Some(_))) && normal(Some(&row.postcode)) == normal_form
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form_has_no_spaces_and_is_upper_case() {
        assert_eq!(normal(Some(" ex2  5se ")), "EX25SE");
        assert_eq!(normal(Some("EX2\t5SE")), "EX2\t5SE", "only U+0020 is a space");
        assert_eq!(normal(Some("\t \u{a0}")), "", "blank is empty");
        assert_eq!(normal(None), "");
    }

    #[test]
    fn spellings_cover_every_single_spacing_and_the_usual_forms_in_either_case() {
        let spellings = spellings("EX25SE");
        // Every single spacing; two and three spaces at the usual place; four forms in lower case; one space before or behind
        // each of these eight.
        assert_eq!(spellings.len(), 32 + 2 + 4 + 16);
        let every_gap = ["EX25SE", "EX2 5SE", "E X 2 5 S E", "EX2  5SE", "EX2   5SE", "EX 25SE"];
        let outside = ["EX2 5SE ", " EX25SE", "EX25SE ", " EX2 5SE", "EX2  5SE ", " EX2   5SE"];
        let lower = ["ex25se", "ex2 5se", "ex2  5se", "ex2   5se", " ex2 5se", "ex25se ", "ex2  5se "];
        for spelling in every_gap.into_iter().chain(outside).chain(lower) {
            assert!(spellings.contains(spelling), "{spelling}");
        }
        assert!(spellings.iter().all(|spelling| normal(Some(spelling)) == "EX25SE"));
    }

    #[test]
    fn their_number_is_bounded_and_none_goes_beyond_the_column() {
        assert_eq!(spellings("SW1A1AAA").len(), 128 + 2 + 4 + 16, "the most there are");
        assert_eq!(spellings("ABCDEFGHIJ").len(), 9 + 1 + 2 + 4 + 16);
        let none = BTreeSet::new();
        assert_eq!(spellings(&"A".repeat(256)), none);
        assert_eq!(spellings(""), none);
        assert_eq!(spellings("AB\0"), none);
        assert_eq!(spellings("A1").into_iter().collect::<Vec<_>>(), [" A1", " a1", "A 1", "A1", "A1 ", "a1", "a1 "]);
        assert_eq!(spellings("12").len(), 4, "no letters, one case");
    }

    #[test]
    fn the_first_complete_row_that_really_is_that_postcode_counts() {
        let row = |postcode: &str, easting| Location {
            postcode: postcode.to_owned(),
            town: None,
            easting,
            northing: Some(1),
            latitude: Some(1.0),
            longitude: Some(1.0),
        };
        let rows = [row("EX2 5SF", Some(1)), row("EX2 5SE", None), row("Ex2  5se", Some(3)), row("EX25SE", Some(4))];
        assert_eq!(complete(&rows, "EX25SE"), Some(&rows[2]));
        assert_eq!(complete(&rows[..2], "EX25SE"), None);
    }
}
