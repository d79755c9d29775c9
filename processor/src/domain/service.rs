//! A DoS service as the rules see it: one row of `services` with what hangs on it, as locked and read in the transaction.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::opening_times::{DayId, Period};

/// Ids of `servicetypes` that the rules name.
pub mod service_type {
    pub const PHARMACY: i32 = 13;
    pub const URGENT_MEDICINES_SUPPLY: i32 = 131;
    pub const ENHANCED: i32 = 132;
    pub const DISTANCE_SELLING: i32 = 134;
    pub const CLINICAL_ASSESSMENT: i32 = 137;
    pub const BLOOD_PRESSURE: i32 = 148;
    pub const CONTRACEPTION: i32 = 149;
}

/// Ids of `servicestatuses` that the rules name.
pub mod status {
    pub const ACTIVE: i32 = 1;
    pub const CLOSED: i32 = 2;
    pub const COMMISSIONING: i32 = 3;
}

/// What DoS holds of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub id: i32,
    pub uid: String,
    pub name: String,
    pub ods_code: String,
    pub type_id: i32,
    /// Name of the type in `servicetypes`.
    pub type_name: String,
    pub status_id: i32,
    /// Name of the status in `servicestatuses`.
    pub status_name: String,
    /// Section 8, "Region".
    pub region: String,
    pub address: Option<String>,
    pub town: Option<String>,
    pub postcode: Option<String>,
    pub easting: Option<i32>,
    pub northing: Option<i32>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
    /// `services.publicphone`.
    pub phone: Option<String>,
    /// `services.web`.
    pub web: Option<String>,
    /// Every day that has a row or rows, with all their periods; a day row without periods is an empty set (5.5, section 13).
    pub opening: BTreeMap<DayId, BTreeSet<Period>>,
    /// Every date that has a row or rows.
    pub specified: BTreeMap<NaiveDate, SpecifiedDate>,
    /// The pair of `servicesgsds` that rules 5.7 and 6.5 ask of a service of its type, if it is there.
    pub z_codes: BTreeSet<ZCode>,
}

impl Service {
    /// Active, not closed or commissioning.
    pub fn is_active(&self) -> bool {
        self.status_id == status::ACTIVE
    }
}

/// One specified date in DoS, all its rows read as one (rule 6.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecifiedDate {
    /// Rows of `servicespecifiedopeningdates` for this date, and one more for each of its periods that repeats another.
    pub rows: u32,
    /// A period row with `isclosed` is there.
    pub closed: bool,
    /// Periods of the rows that are not `isclosed`.
    pub periods: BTreeSet<Period>,
}

impl SpecifiedDate {
    /// How many rows of periods say it, where each thing is said once; `None` where it is not, or both closed and open is said, or
    /// nothing.
    pub fn period_rows(&self) -> Option<usize> {
        let is_plain = self.rows == 1 && self.closed == self.periods.is_empty();
        is_plain.then_some(self.periods.len().max(1))
    }
}

/// A Z code: a pair of symptom group and symptom discriminator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZCode {
    pub sgid: i32,
    pub sdid: i32,
}

impl ZCode {
    pub const PALLIATIVE_CARE: Self = Self { sgid: 360, sdid: 14167 };
    pub const BLOOD_PRESSURE: Self = Self { sgid: 360, sdid: 14207 };
    pub const CONTRACEPTION: Self = Self { sgid: 360, sdid: 14210 };
    pub const ALL: [Self; 3] = [Self::PALLIATIVE_CARE, Self::BLOOD_PRESSURE, Self::CONTRACEPTION];
}

/// `360=14167`, as history and reports write it (rule 7.6).
impl std::fmt::Display for ZCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}={}", self.sgid, self.sdid)
    }
}

/// One complete or incomplete row of `locations`, in id order of the table (rule 5.4).
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    pub postcode: String,
    pub town: Option<String>,
    pub easting: Option<i32>,
    pub northing: Option<i32>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
}

/// A pending row of `changes` with its creator (rule 4.1). Personal data: never logged, never audited.
#[derive(Clone, PartialEq, Eq)]
pub struct PendingChange {
    pub id: String,
    pub service_id: i32,
    /// `changes.value`, JSON by intention only.
    pub value: String,
    pub creator: Creator,
}

/// The user who proposed a pending change. Personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct Creator {
    pub username: String,
    pub first_name: String,
    pub last_name: String,
    pub email: Option<String>,
}

/// Says nothing of the person.
impl std::fmt::Debug for Creator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Creator").finish_non_exhaustive()
    }
}

/// Says that there is one and whose service it concerns; what is personal stays out of logs (rule 4.3).
impl std::fmt::Debug for PendingChange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PendingChange")
            .field("id", &self.id)
            .field("service_id", &self.service_id)
            .finish_non_exhaustive()
    }
}
