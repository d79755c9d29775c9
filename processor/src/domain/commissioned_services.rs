//! Palliative care, blood pressure checks and contraception: what an event says of them (rule 2.3), which DoS services
//! show it, and how (rules 5.7, 5.8, 6.4, 6.5).

use super::{
    ods_code::OdsCode,
    service::{Service, ZCode, service_type, status},
};

/// `ServiceCode` in `UecServices` (rule 2.3).
pub const PALLIATIVE_CARE_CODE: &str = "SRV0559";
/// `ServiceCode` in `Services` (rule 2.3).
pub const BLOOD_PRESSURE_CODE: &str = "SRV0560";
/// `ServiceCode` in `Services` (rule 2.3).
pub const CONTRACEPTION_CODE: &str = "SRV2000";

/// What an event can say an organisation offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commissioned {
    PalliativeCare,
    BloodPressure,
    Contraception,
}

impl Commissioned {
    /// The word in `missing_service_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PalliativeCare => "Palliative Care",
            Self::BloodPressure => "Blood Pressure",
            Self::Contraception => "Contraception",
        }
    }

    pub fn z_code(self) -> ZCode {
        match self {
            Self::PalliativeCare => ZCode::PALLIATIVE_CARE,
            Self::BloodPressure => ZCode::BLOOD_PRESSURE,
            Self::Contraception => ZCode::CONTRACEPTION,
        }
    }

    /// Reason when the pair is not in `symptomgroupsymptomdiscriminators` (rules 6.4, 6.5).
    pub fn z_code_missing(self) -> &'static str {
        match self {
            Self::PalliativeCare => "Palliative Care Z code does not exist",
            Self::BloodPressure => "Blood Pressure Z code does not exist",
            Self::Contraception => "Contraception Z code does not exist",
        }
    }

    /// Reason when no service of the type is there (rules 3.6, 3.7).
    pub fn profile_missing(self) -> &'static str {
        match self {
            Self::PalliativeCare => "No Active Pharmacy with 5 Character ODSCode",
            Self::BloodPressure => "No 'Blood Pressure' type service profile",
            Self::Contraception => "No 'Contraception' type service profile",
        }
    }

    /// What the type of service stands for, when it stands for one of the two with a type of their own.
    pub fn of_type(type_id: i32) -> Option<Self> {
        match type_id {
            service_type::BLOOD_PRESSURE => Some(Self::BloodPressure),
            service_type::CONTRACEPTION => Some(Self::Contraception),
            _ => None,
        }
    }
}

/// Whether palliative care is kept on this service: type 13 with an ODS code of exactly five characters (rules 3.7, 5.7).
pub fn holds_palliative_care(service: &Service) -> bool {
    service.type_id == service_type::PHARMACY && service.ods_code.chars().count() == OdsCode::LEN
}

/// The only Z code that rules 5.7 and 6.5 ask of this service.
pub fn z_code_of(service: &Service) -> Option<ZCode> {
    if holds_palliative_care(service) {
        return Some(ZCode::PALLIATIVE_CARE);
    }
    Commissioned::of_type(service.type_id).map(Commissioned::z_code)
}

/// Rule 5.7: whether the service must have the Z code; `None` when nothing need change.
pub fn palliative_care_change(offered: Option<bool>, service: &Service) -> Option<bool> {
    let held = service.z_codes.contains(&ZCode::PALLIATIVE_CARE);
    offered.filter(|offered| holds_palliative_care(service) && *offered != held)
}

/// Rule 5.8 for a service of type 148 or 149: the status it must take; `None` when it need not change.
pub fn status_change(offered: bool, service: &Service) -> Option<i32> {
    match (offered, service.status_id == status::ACTIVE) {
        (true, false) => Some(status::ACTIVE),
        (false, true) => Some(status::CLOSED),
        _ => None,
    }
}
