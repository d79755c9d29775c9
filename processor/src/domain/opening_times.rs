//! Periods, days and dates (rules 2.4 to 2.7, 5.5, 5.6).

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use chrono::NaiveDate;

const SECONDS_OF_MINUTE: u32 = 60;
const SECONDS_OF_HOUR: u32 = 3600;
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Seconds since midnight, start and end. DoS may hold periods that an event may not (end before start, 24:00).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    /// 0 to 86,400
    pub start: u32,
    /// 0 to 86,400
    pub end: u32,
}

/// How periods are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// `08:00-18:00`; seconds are cut, not rounded (section 13, 7.4).
    Clock,
    /// `28800-64800` (rule 7.4).
    Seconds,
}

/// A value to be written in one of the notations: histories and reports are made of thousands, none of which needs a text of
/// its own.
#[derive(Clone, Copy, Debug)]
pub struct Written<T>(pub T, pub Notation);

impl fmt::Display for Written<Period> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Period { start, end }, notation) = *self;
        match notation {
            Notation::Clock => {
                write!(formatter, "{:02}:{:02}-{:02}:{:02}", hour(start), minute(start), hour(end), minute(end))
            }
            Notation::Seconds => write!(formatter, "{start}-{end}"),
        }
    }
}

fn hour(seconds: u32) -> u32 {
    seconds / SECONDS_OF_HOUR
}

fn minute(seconds: u32) -> u32 {
    seconds % SECONDS_OF_HOUR / SECONDS_OF_MINUTE
}

/// A row of `openingtimedays`: 1 to 7 = Monday to Sunday, 8 = bank holiday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DayId(pub i32);

impl DayId {
    pub const BANK_HOLIDAY: Self = Self(8);

    /// Monday to Sunday.
    pub fn week() -> impl Iterator<Item = Self> {
        (1..=7).map(Self)
    }

    /// A weekday by its English name in any case (rule 2.4).
    pub fn from_weekday_name(name: &str) -> Option<Self> {
        (1..).zip(WEEKDAYS).find(|(_, weekday)| weekday.eq_ignore_ascii_case(name)).map(|(id, _)| Self(id))
    }
}

/// `OpeningTimes` of an event as read by rules 2.4 and 2.5.
#[derive(Clone, Debug, PartialEq)]
pub enum EventOpeningTimes {
    /// An item is neither standard nor specified, or the field is no list.
    Invalid,
    Items(Vec<OpeningItem>),
}

/// One valid item of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpeningItem {
    pub on: OpeningDay,
    /// `None`: closed.
    pub period: Option<Period>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpeningDay {
    Weekday(DayId),
    Date(NaiveDate),
}

/// A field of an item where a text is expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ItemText<'a> {
    /// Missing, null or empty; a blank text is not empty (section 13, 2.4).
    #[default]
    Empty,
    Text(Cow<'a, str>),
    /// A value of another type, which is neither empty nor a text that could parse.
    Other,
}

/// The fields of an item that rule 2.4 looks at, as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemFields<'a> {
    pub opening_time_type: ItemText<'a>,
    pub weekday: ItemText<'a>,
    pub additional_opening_date: ItemText<'a>,
    /// `None` when it is no boolean.
    pub is_open: Option<bool>,
    pub opening_time: ItemText<'a>,
    pub closing_time: ItemText<'a>,
}

/// Rule 2.4: a standard or a specified item; `None` when it is neither.
pub fn read_item(fields: &ItemFields<'_>) -> Option<OpeningItem> {
    let ItemText::Text(kind) = &fields.opening_time_type else { return None };
    let on = if kind.eq_ignore_ascii_case("General") {
        OpeningDay::Weekday(standard_day(fields)?)
    } else if kind.eq_ignore_ascii_case("Additional") {
        OpeningDay::Date(specified_date(fields)?)
    } else {
        return None;
    };
    let period = match (fields.is_open?, &fields.opening_time, &fields.closing_time) {
        (true, ItemText::Text(start), ItemText::Text(end)) => {
            Some(Period { start: parse_time(start)?, end: parse_time(end)? })
        }
        (false, ItemText::Empty, ItemText::Empty) => None,
        _ => return None,
    };
    Some(OpeningItem { on, period })
}

fn standard_day(fields: &ItemFields<'_>) -> Option<DayId> {
    match (&fields.weekday, &fields.additional_opening_date) {
        (ItemText::Text(weekday), ItemText::Empty) => DayId::from_weekday_name(weekday),
        _ => None,
    }
}

fn specified_date(fields: &ItemFields<'_>) -> Option<NaiveDate> {
    match &fields.additional_opening_date {
        ItemText::Text(date) => parse_date(date),
        _ => None,
    }
}

/// `H:MM`, `HH:MM` or `HH:MM:SS`, 0:00 to 23:59:59, in seconds since midnight (rule 2.4, section 13).
pub fn parse_time(text: &str) -> Option<u32> {
    let mut parts = text.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next());
    let fits = match second {
        None => matches!(hour.len(), 1 | 2),
        Some(second) => hour.len() == 2 && second.len() == 2,
    };
    if !fits || minute.len() != 2 || parts.next().is_some() {
        return None;
    }
    let hour = digits(hour).filter(|hour| *hour < 24)?;
    let minute = digits(minute).filter(|minute| *minute < 60)?;
    let second = digits(second.unwrap_or("00")).filter(|second| *second < 60)?;
    Some(hour * SECONDS_OF_HOUR + minute * SECONDS_OF_MINUTE + second)
}

/// `Mmm`, spaces, one or two digits, spaces, four digits (rule 2.4, section 13). There is no year 0.
pub fn parse_date(text: &str) -> Option<NaiveDate> {
    let (month, rest) = text.split_at_checked(3)?;
    let rest = rest.strip_prefix(' ')?.trim_start_matches(' ');
    let (day, year) = rest.split_once(' ')?;
    let year = year.trim_start_matches(' ');
    if !matches!(day.len(), 1 | 2) || year.len() != 4 {
        return None;
    }
    let month = (1..).zip(MONTHS).find(|(_, name)| name.eq_ignore_ascii_case(month))?.0;
    let year = digits(year).filter(|year| *year > 0)?;
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, digits(day)?)
}

/// A number of ASCII digits alone.
fn digits(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Valid opening times of an event, past dates left out (rules 2.6, 2.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpeningHours {
    /// Open weekdays; a weekday that is not here is closed.
    pub week: BTreeMap<DayId, BTreeSet<Period>>,
    /// Today and later; a date without periods is closed.
    pub dates: BTreeMap<NaiveDate, BTreeSet<Period>>,
}

/// What items say of one day or date.
#[derive(Debug, Default)]
struct DayItems {
    closed: bool,
    periods: Vec<Period>,
}

/// Rules 2.5 to 2.7; `None` when the opening times as a whole are invalid.
pub fn hours(opening_times: &EventOpeningTimes, today: NaiveDate) -> Option<OpeningHours> {
    let EventOpeningTimes::Items(items) = opening_times else { return None };
    let mut days: BTreeMap<OpeningDay, DayItems> = BTreeMap::new();
    // Grouped by the parsed date, not by its text (rule 2.7).
    for item in items.iter().filter(|item| !matches!(item.on, OpeningDay::Date(date) if date < today)) {
        let day = days.entry(item.on).or_default();
        match item.period {
            Some(period) => day.periods.push(period),
            None => day.closed = true,
        }
    }
    let mut hours = OpeningHours::default();
    for (on, items) in days {
        let periods = valid_periods(items)?;
        match on {
            OpeningDay::Weekday(_) if periods.is_empty() => {}
            OpeningDay::Weekday(day) => drop(hours.week.insert(day, periods)),
            OpeningDay::Date(date) => drop(hours.dates.insert(date, periods)),
        }
    }
    Some(hours)
}

/// Rule 2.6 for one day or date: start before end, nothing overlaps or touches, never both closed and open.
fn valid_periods(mut items: DayItems) -> Option<BTreeSet<Period>> {
    items.periods.sort_unstable();
    let in_order = items.periods.iter().all(|period| period.start < period.end);
    let apart = items.periods.windows(2).all(|pair| pair[0].end < pair[1].start);
    let never_both = !items.closed || items.periods.is_empty();
    (in_order && apart && never_both).then(|| items.periods.into_iter().collect())
}

#[cfg(test)]
mod tests;
