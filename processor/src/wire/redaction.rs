//! `Staff` is personal data: it is cut out before an event is kept or passed on (rules 1.2, 9.3).

use crate::domain::json::{self, Members};

/// The member that holds personal data.
const STAFF: &str = "Staff";

/// The text of an object without its members `Staff`, all of them, however their key is written. What stays keeps every byte.
/// `members` are those of the document.
pub fn without_staff(text: &str, members: &Members<'_>) -> String {
    let mut end_of_last = text.find('{').map_or(0, |brace| brace + 1);
    let mut kept = String::with_capacity(text.len());
    kept.push_str(&text[..end_of_last]);
    let mut leads = true;
    for (index, (key, value)) in members.iter().enumerate() {
        let end = end_within(text, value.get());
        let member = &text[end_of_last..end];
        end_of_last = end;
        if key == STAFF {
            continue;
        }
        // A member's text begins with the comma before it, which goes when everything before it went.
        let comma_goes = leads && index > 0;
        kept.push_str(if comma_goes { member.trim_start().trim_start_matches(',') } else { member });
        leads = false;
    }
    kept.push_str(&text[end_of_last..]);
    kept
}

/// Where a part of a text ends within it.
fn end_within(text: &str, part: &str) -> usize {
    part.as_ptr().addr() + part.len() - text.as_ptr().addr()
}

/// Whether bytes that cannot be read might hold personal data: `Staff` in any case, or an escape that may spell it.
pub fn may_hold_staff(value: &[u8]) -> bool {
    let bytes = without_nul(value);
    holds_staff(&bytes) || bytes.windows(2).any(|pair| pair == br"\u")
}

/// Whether JSON that is no object might hold personal data: `Staff` in any case, however it is written.
pub fn json_holds_staff(document: &str) -> bool {
    holds_staff(&without_nul(json::without_escapes(document).as_bytes()))
}

/// A text of two-byte characters is not to hide the word.
fn without_nul(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != 0).collect()
}

fn holds_staff(text: &[u8]) -> bool {
    let word = STAFF.as_bytes();
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json::object;

    fn redacted(text: &str) -> String {
        without_staff(text, &object(text).unwrap())
    }

    #[test]
    fn every_staff_member_goes_and_every_other_byte_stays() {
        for (text, expected) in [
            (r#"{"a":1.50,"Staff":[{"x":"}"}],"b":[ 2 ]}"#, r#"{"a":1.50,"b":[ 2 ]}"#),
            (r#"{"Staff":null,"a":1}"#, r#"{"a":1}"#),
            (r#"{ "Staff" : 1 , "a" : 2 }"#, r#"{ "a" : 2 }"#),
            (" { \"a\" : 1 }\n", " { \"a\" : 1 }\n"),
            ("\t{\"Staff\": {} , \"a\": 1} ", "\t{ \"a\": 1} "),
            (r#"{"a":1,"Staff":1}"#, r#"{"a":1}"#),
            (r#"{"Staff":1,"Staff":{"Staff":2},"a":{"Staff":3},"Staff":[]}"#, r#"{"a":{"Staff":3}}"#),
            (r#"{"\u0053taff":1,"St\u0061ff":2,"staff":3}"#, r#"{"staff":3}"#),
            (r#"{"Staff":1}"#, "{}"),
            ("{}", "{}"),
            (r#"{"é":"Staff","n":1e999}"#, r#"{"é":"Staff","n":1e999}"#),
        ] {
            assert_eq!(redacted(text), expected, "{text}");
        }
    }

    #[test]
    fn json_is_suspected_only_when_it_spells_staff() {
        for suspicious in [r#"["x Staffing"]"#, r#"[{"sTAFF":1}]"#, r#"["\u0053\u0074aff"]"#, r#""S\u0000taff""#] {
            assert!(json_holds_staff(suspicious), "{suspicious}");
        }
        for harmless in
            [r#"["caf\u00e9"]"#, r#"["\\u0053taff"]"#, r#"["Sta\nff", "Sta\\ff"]"#, r#""\ud83d\ude00""#, "1"]
        {
            assert!(!json_holds_staff(harmless), "{harmless}");
        }
    }

    #[test]
    fn unreadable_bytes_are_suspected_when_they_could_spell_staff() {
        for suspicious in [&b"{Staff"[..], b"sTAFF", br#"{"\u0053taff"#, br"x\u0", b"S\0t\0a\0f\0f\0"] {
            assert!(may_hold_staff(suspicious), "{suspicious:?}");
        }
        for harmless in [&b""[..], b"Staf f", br"C:\Users", b"{\"a\":", &[0xff, 0xfe, 0]] {
            assert!(!may_hold_staff(harmless), "{harmless:?}");
        }
    }
}
