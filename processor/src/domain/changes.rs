//! What can change on a service, and the keys under which histories and reports tell of it (sections 6 and 7).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use chrono::NaiveDate;

use super::{
    audit::ChangeType,
    opening_times::{DayId, Period, Written},
    service::{Location, Service, SpecifiedDate, ZCode, status},
};

/// One change to a service, as it is to be afterwards.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Address(String),
    /// Postcode, town, easting, northing, latitude and longitude move together (rule 5.4).
    Place(Location),
    /// `''` when removed (rule 5.2).
    Phone(String),
    /// `''` when removed (rule 5.1).
    Website(String),
    /// Active or closed (rule 5.8).
    Status(i32),
    /// No periods: closed (rule 6.2).
    Weekday(DayId, BTreeSet<Period>),
    /// All dates that there are to be; no periods: closed (rule 6.3).
    SpecifiedDates(BTreeMap<NaiveDate, BTreeSet<Period>>),
    ZCodeAdded(ZCode),
    ZCodeRemoved(ZCode),
}

/// One key of a history entry, which is also one `SERVICE_UPDATE` (sections 7 and 8).
#[derive(Clone, Debug, PartialEq)]
pub struct KeyChange {
    pub key: &'static str,
    pub change_type: ChangeType,
    pub value: KeyValue,
}

/// What a key held and holds.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyValue {
    /// A column of `services`; `None` is null.
    Column {
        previous: Option<Scalar>,
        new: Option<Scalar>,
    },
    /// All old and all new periods, no difference of sets (rules 7.4, 7.5).
    Openings {
        removed: Vec<Opening>,
        added: Vec<Opening>,
    },
    ZCode(ZCode),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    Text(String),
    Number(i32),
}

/// A period of a weekday, or of a date, or a closed date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    pub date: Option<NaiveDate>,
    pub period: Option<Period>,
}

/// `08:00-18:00`, `2029-07-24-09:00-13:00` or `2029-07-24-closed` (section 8); in seconds `28800-64800`,
/// `2026-12-25-36000-57600` or `2026-12-25-closed` (rules 7.4, 7.5).
impl fmt::Display for Written<Opening> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Opening { date, period }, notation) = *self;
        if let Some(date) = date {
            write!(formatter, "{date}-")?;
        }
        match period {
            Some(period) => Written(period, notation).fmt(formatter),
            None => formatter.write_str("closed"),
        }
    }
}

// Keys of single columns, and of what comes with a postcode (rule 7.3).
const ADDRESS_KEY: &str = "postaladdress";
const EASTING_KEY: &str = "cmseastings";
const NORTHING_KEY: &str = "cmsnorthings";
const TOWN_KEY: &str = "cmsorgtown";
const POSTCODE_KEY: &str = "postalcode";
const PHONE_KEY: &str = "cmstelephoneno";
const WEBSITE_KEY: &str = "cmsurl";
/// Those among them that a person may propose to change (rule 4.1).
pub const COLUMN_KEYS: [&str; 7] =
    [ADDRESS_KEY, EASTING_KEY, NORTHING_KEY, TOWN_KEY, POSTCODE_KEY, PHONE_KEY, WEBSITE_KEY];
/// Keys of the weekdays, Monday first.
pub const WEEKDAY_KEYS: [&str; 7] = [
    "cmsopentimemonday",
    "cmsopentimetuesday",
    "cmsopentimewednesday",
    "cmsopentimethursday",
    "cmsopentimefriday",
    "cmsopentimesaturday",
    "cmsopentimesunday",
];

impl Change {
    /// The keys that tell of this change, held against the service before it (rules 7.3 to 7.6).
    pub fn keys(&self, before: &Service) -> Vec<KeyChange> {
        match self {
            Self::Address(new) => column(ADDRESS_KEY, text(before.address.as_ref()), text(Some(new))),
            Self::Place(location) => place_keys(before, location),
            Self::Phone(new) => column(PHONE_KEY, text(before.phone.as_ref()), unless_removed(new)),
            Self::Website(new) => column(WEBSITE_KEY, text(before.web.as_ref()), unless_removed(new)),
            Self::Status(new) => {
                column("cmsorgstatus", text(Some(&before.status_name)), text(Some(&status_name(*new).to_owned())))
            }
            Self::Weekday(day, periods) => {
                let removed = before.opening.get(day).map(weekday_openings).unwrap_or_default();
                openings(weekday_key(*day), removed, weekday_openings(periods))
            }
            Self::SpecifiedDates(dates) => {
                let removed = before.specified.iter().flat_map(|(date, held)| held_openings(*date, held)).collect();
                let added = dates.iter().flat_map(|(date, periods)| date_openings(*date, periods)).collect();
                openings("cmsopentimespecified", removed, added)
            }
            Self::ZCodeAdded(code) => z_code(ChangeType::Add, *code),
            Self::ZCodeRemoved(code) => z_code(ChangeType::Delete, *code),
        }
    }

    /// Makes the change, so that the next event of the batch sees it.
    pub fn apply(self, service: &mut Service) {
        match self {
            Self::Address(address) => service.address = Some(address),
            Self::Place(location) => {
                service.postcode = Some(location.postcode);
                service.town = location.town;
                service.easting = location.easting;
                service.northing = location.northing;
                service.latitude = location.latitude;
                service.longitude = location.longitude;
            }
            Self::Phone(phone) => service.phone = Some(phone),
            Self::Website(web) => service.web = Some(web),
            Self::Status(id) => {
                service.status_id = id;
                status_name(id).clone_into(&mut service.status_name);
            }
            Self::Weekday(day, periods) if periods.is_empty() => drop(service.opening.remove(&day)),
            Self::Weekday(day, periods) => drop(service.opening.insert(day, periods)),
            Self::SpecifiedDates(dates) => {
                let row = |periods: BTreeSet<Period>| SpecifiedDate { rows: 1, closed: periods.is_empty(), periods };
                service.specified = dates.into_iter().map(|(date, periods)| (date, row(periods))).collect();
            }
            Self::ZCodeAdded(code) => {
                service.z_codes.insert(code);
            }
            Self::ZCodeRemoved(code) => {
                service.z_codes.remove(&code);
            }
        }
    }
}

/// Names of the only statuses that are ever written (rule 7.3).
fn status_name(id: i32) -> &'static str {
    if id == status::ACTIVE { "active" } else { "closed" }
}

fn weekday_key(day: DayId) -> &'static str {
    DayId::week().zip(WEEKDAY_KEYS).find(|(weekday, _)| *weekday == day).expect("only weekdays change (rule 5.5)").1
}

fn text(value: Option<&String>) -> Option<Scalar> {
    value.cloned().map(Scalar::Text)
}

/// What is removed is stored as `''` and null in history (rules 5.1, 5.2).
fn unless_removed(new: &String) -> Option<Scalar> {
    text(Some(new).filter(|new| !new.is_empty()))
}

/// Rule 5.4: all four keys, those that stayed equal too.
fn place_keys(before: &Service, location: &Location) -> Vec<KeyChange> {
    let number = |value: Option<i32>| value.map(Scalar::Number);
    [
        column(POSTCODE_KEY, text(before.postcode.as_ref()), text(Some(&location.postcode))),
        column(TOWN_KEY, text(before.town.as_ref()), text(location.town.as_ref())),
        column(EASTING_KEY, number(before.easting), number(location.easting)),
        column(NORTHING_KEY, number(before.northing), number(location.northing)),
    ]
    .concat()
}

/// Rule 7.3. Nothing to tell when it was null and stays null (section 13, 5.4).
fn column(key: &'static str, previous: Option<Scalar>, new: Option<Scalar>) -> Vec<KeyChange> {
    let change_type = match (&previous, &new) {
        (None, None) => return Vec::new(),
        (None, Some(_)) => ChangeType::Add,
        (Some(_), None) => ChangeType::Delete,
        (Some(_), Some(_)) => ChangeType::Modify,
    };
    vec![KeyChange { key, change_type, value: KeyValue::Column { previous, new } }]
}

/// Rule 7.4: modify, delete or add follows which sides are there.
fn openings(key: &'static str, removed: Vec<Opening>, added: Vec<Opening>) -> Vec<KeyChange> {
    let change_type = match (removed.is_empty(), added.is_empty()) {
        (true, _) => ChangeType::Add,
        (false, true) => ChangeType::Delete,
        (false, false) => ChangeType::Modify,
    };
    vec![KeyChange { key, change_type, value: KeyValue::Openings { removed, added } }]
}

fn z_code(change_type: ChangeType, code: ZCode) -> Vec<KeyChange> {
    vec![KeyChange { key: "cmssgsdid", change_type, value: KeyValue::ZCode(code) }]
}

fn weekday_openings(periods: &BTreeSet<Period>) -> Vec<Opening> {
    periods.iter().map(|period| Opening { date: None, period: Some(*period) }).collect()
}

/// A date of an event: closed when it has no periods.
fn date_openings(date: NaiveDate, periods: &BTreeSet<Period>) -> Vec<Opening> {
    let opening = |period| Opening { date: Some(date), period };
    if periods.is_empty() { vec![opening(None)] } else { periods.iter().map(|period| opening(Some(*period))).collect() }
}

/// A date of DoS. One without any period row is told as closed, one both closed and open as both.
fn held_openings(date: NaiveDate, held: &SpecifiedDate) -> Vec<Opening> {
    let closed = Opening { date: Some(date), period: None };
    let mut openings = date_openings(date, &held.periods);
    if held.closed && !held.periods.is_empty() {
        openings.insert(0, closed);
    }
    openings
}
