//! Addresses: the lines of an event in the form DoS keeps them (rule 5.3).

use super::text::is_blank;

/// What joins the lines in `services.address`.
const LINE_SEPARATOR: &str = "$";

/// The event's non-blank lines as DoS has them; `None` when nothing remains of any line.
pub fn for_dos(lines: &[String]) -> Option<String> {
    let lines: Vec<String> = lines.iter().map(|line| line_for_dos(line)).collect();
    let is_address = lines.iter().any(|line| !is_blank(line));
    is_address.then(|| lines.join(LINE_SEPARATOR))
}

/// Capitalises, then removes `'`, then writes `&` as `and`. Not trimmed.
fn line_for_dos(line: &str) -> String {
    capitalised(line).replace('\'', "").replace('&', "and")
}

/// First letter upper, the rest lower, for each run of ASCII letters with at most one inner `'letters`.
fn capitalised(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let run = run_length(rest);
        if run == 0 {
            text.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            text.push(first.to_ascii_uppercase());
            text.extend(rest[1..run].chars().map(|letter| letter.to_ascii_lowercase()));
            rest = &rest[run..];
        }
    }
    text
}

/// Length of `letters` or `letters'letters` at the start of the text.
fn run_length(text: &str) -> usize {
    let letters = |from: usize| text[from..].bytes().take_while(u8::is_ascii_alphabetic).count();
    let first = letters(0);
    if first == 0 || text.as_bytes().get(first) != Some(&b'\'') {
        return first;
    }
    match letters(first + 1) {
        0 => first,
        second => first + 1 + second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(lines: &[&str]) -> Option<String> {
        for_dos(&lines.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn words_are_capitalised_by_ascii_letters_only() {
        for (received, expected) in [
            ("49a test avenue", "49A Test Avenue"),
            ("O'Neill's", "OneillS"),
            ("château", "ChâTeau"),
            ("HIGH STREET", "High Street"),
            ("king's & QUEEN'S", "Kings and Queens"),
            ("St. John's-wood", "St. Johns-Wood"),
            ("'quoted'", "Quoted"),
            ("a''b", "AB"),
            ("R&D", "RandD"),
            ("a$b", "A$B"),
            (" two  spaces ", " Two  Spaces "),
        ] {
            assert_eq!(address(&[received]).as_deref(), Some(expected), "{received}");
        }
    }

    #[test]
    fn lines_are_joined_and_an_emptied_line_stays_as_an_empty_part() {
        assert_eq!(address(&["unit 3", "'", "bath"]).as_deref(), Some("Unit 3$$Bath"));
        assert_eq!(address(&["'", "''"]), None);
        assert_eq!(address(&[]), None);
    }
}
