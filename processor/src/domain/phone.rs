//! Telephone numbers (rule 5.2).

use super::text::{is_blank, without_spaces};

/// The event's number as DoS has it: without spaces; `None` when nothing is left of it.
pub fn for_dos(phone: Option<&str>) -> Option<String> {
    phone.map(without_spaces).filter(|phone| !is_blank(phone))
}
