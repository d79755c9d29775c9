//! What the columns of `services` can hold, checked before writing so that the dead letter names the column (rule 6.8).

use super::{batch::DeadLetter, changes::Change};

/// Reason when a text has more code points than its column holds.
pub const TOO_LONG: &str = "Value too long";
/// Reason when a text holds U+0000, which PostgreSQL's texts cannot.
pub const NUL: &str = "Value has a NUL character";

/// Why these changes cannot be written; the first column that is in the way.
pub fn refusal(changes: &[Change]) -> Option<DeadLetter> {
    changes.iter().find_map(|change| match change {
        Change::Address(address) => refused("services.address", 512, address),
        Change::Website(web) => refused("services.web", 512, web),
        Change::Phone(phone) => refused("services.publicphone", 255, phone),
        Change::Place(location) => refused("services.postcode", 255, &location.postcode)
            .or_else(|| refused("services.town", 255, location.town.as_deref().unwrap_or_default())),
        Change::Status(_)
        | Change::Weekday(..)
        | Change::SpecifiedDates(_)
        | Change::ZCodeAdded(_)
        | Change::ZCodeRemoved(_) => None,
    })
}

/// Widths count code points (section 13, 6.8).
fn refused(column: &str, width: usize, value: &str) -> Option<DeadLetter> {
    let reason = if value.contains('\0') {
        NUL
    } else if value.chars().nth(width).is_some() {
        TOO_LONG
    } else {
        return None;
    };
    Some(DeadLetter { reason: reason.to_owned(), detail: column.to_owned() })
}
