//! The clock on the wall in Europe/London, where the day begins (rule 2.7) and histories are dated (rule 7.1).

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Europe::London;

/// The date in Europe/London at that moment.
pub fn today_in_london(now: DateTime<Utc>) -> NaiveDate {
    now.with_timezone(&London).date_naive()
}

/// `YYYY-MM-DD HH:MM:SS` in Europe/London, as histories have it (rule 7.1).
pub fn timestamp(now: DateTime<Utc>) -> String {
    now.with_timezone(&London).format("%Y-%m-%d %H:%M:%S").to_string()
}
