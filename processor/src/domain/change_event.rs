//! The change event as the rules read it (sections 1 and 2): nothing the rules do not use is here.

use std::sync::Arc;

use super::{commissioned_services::Commissioned, ods_code::OdsCode, opening_times::EventOpeningTimes};

/// The organisation as received, for reports (interface: `organisation_name` … `postcode`). Absent, `null`, empty (rule 1.6) and
/// texts of another type are `None`; nothing is trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Organisation {
    pub name: Option<String>,
    pub type_id: Option<String>,
    pub type_name: Option<String>,
    pub sub_type: Option<String>,
    pub status: Option<String>,
    pub parent_name: Option<String>,
    pub address_1: Option<String>,
    pub address_2: Option<String>,
    pub address_3: Option<String>,
    pub city: Option<String>,
    pub county: Option<String>,
    pub postcode: Option<String>,
}

/// A change event that passed the checks of rule 1.3.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeEvent {
    pub ods_code: OdsCode,
    pub organisation: Arc<Organisation>,
    /// Non-blank lines in the order of rule 2.2, as received.
    pub address_lines: Vec<String>,
    /// Rule 2.1; `None` when no contact matches or its value is no text.
    pub website: Option<String>,
    /// Rule 2.1.
    pub phone: Option<String>,
    /// Rules 2.4 and 2.5: items read, not yet held against today.
    pub opening_times: EventOpeningTimes,
    /// `OpeningTimes` as received, JSON text; `None` when missing.
    pub opening_times_json: Option<Arc<str>>,
    /// Rule 2.3 with rule 5.7: `None` when `UecServices` is null or no list ("never maintained").
    pub palliative_care: Option<bool>,
    pub blood_pressure: bool,
    pub contraception: bool,
}

impl ChangeEvent {
    /// Rule 2.3: whether the event has that service.
    pub fn offers(&self, what: Commissioned) -> bool {
        match what {
            Commissioned::PalliativeCare => self.palliative_care == Some(true),
            Commissioned::BloodPressure => self.blood_pressure,
            Commissioned::Contraception => self.contraception,
        }
    }
}
