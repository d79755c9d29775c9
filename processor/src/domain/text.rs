//! Blank texts: null, empty or white space, white space being Unicode's (section 5, section 13).

/// Empty or white space only.
pub fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Null, empty or white space only.
pub fn is_blank_or_null(text: Option<&str>) -> bool {
    text.is_none_or(is_blank)
}

/// The text without spaces (U+0020 only; rules 5.2 and 5.4).
pub fn without_spaces(text: &str) -> String {
    text.replace(' ', "")
}
