//! Postcodes are compared, and looked up in `locations`, without regard to spaces and case (rule 5.4).

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

/// Spellings to probe `locations` with through its plain index, so that rows are found whatever their spacing.
/// Rows that come back are held against the normal form by [`complete`].
pub fn spellings(normal: &str) -> Vec<String> {
    if !can_be_looked_up(normal) {
        return Vec::new();
    }
    let chars: Vec<char> = normal.chars().collect();
    let gaps = chars.len() - 1;
    let mut spellings: Vec<String> = if chars.len() <= EVERY_SPACING_CHARS_MAX {
        (0..1_u32 << gaps).map(|spaces| spaced(&chars, |gap| usize::from(spaces >> gap & 1 == 1))).collect()
    } else {
        let one_space = (0..gaps).map(|at| spaced(&chars, |gap| usize::from(gap == at)));
        std::iter::once(normal.to_owned()).chain(one_space).collect()
    };
    let mut usual_forms = vec![normal.to_owned()];
    if chars.len() > INWARD_CHARS {
        let usual = gaps - INWARD_CHARS;
        let with = |spaces| spaced(&chars, |gap| if gap == usual { spaces } else { 0 });
        usual_forms.push(with(1));
        spellings.extend([with(2), with(3)]);
    }
    spellings.extend(usual_forms.iter().flat_map(|form| [format!("{form} "), format!(" {form}")]));
    spellings
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn normal_form_has_no_spaces_and_is_upper_case() {
        assert_eq!(normal(Some(" ex2  5se ")), "EX25SE");
        assert_eq!(normal(Some("EX2\t5SE")), "EX2\t5SE", "only U+0020 is a space");
        assert_eq!(normal(Some("\t \u{a0}")), "", "blank is empty");
        assert_eq!(normal(None), "");
    }

    #[test]
    fn spellings_cover_every_single_spacing_and_the_usual_double_space() {
        let spellings: BTreeSet<String> = spellings("EX25SE").into_iter().collect();
        // Every single spacing; two and three spaces at the usual place; one before or behind the two usual forms.
        assert_eq!(spellings.len(), 32 + 2 + 4);
        for spelling in ["EX25SE", "EX2 5SE", "E X 2 5 S E", "EX2  5SE", "EX2   5SE", "EX 25SE", "EX2 5SE ", " EX25SE"]
        {
            assert!(spellings.contains(spelling), "{spelling}");
        }
        assert!(spellings.iter().all(|spelling| normal(Some(spelling)) == "EX25SE"));
    }

    #[test]
    fn long_postcodes_are_probed_with_one_space_at_most_and_never_beyond_the_column() {
        assert_eq!(spellings("ABCDEFGHIJ").len(), 1 + 9 + 2 + 4);
        assert_eq!(spellings(&"A".repeat(256)), Vec::<String>::new());
        assert_eq!(spellings(""), Vec::<String>::new());
        assert_eq!(spellings("AB\0"), Vec::<String>::new());
        assert_eq!(spellings("A"), ["A", "A ", " A"]);
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
