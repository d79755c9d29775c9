//! What is reported (section 8): one value for each audit record, before the envelope that every record shares.

use std::sync::Arc;

use super::{change_event::Organisation, service::Service};

/// The facts about a service that every report about one service carries; those before the event's changes (section 13, 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    pub id: i32,
    pub uid: String,
    pub name: String,
    pub status: String,
    pub type_id: i32,
    pub type_name: String,
    pub region: String,
    pub address: Option<String>,
    pub postcode: Option<String>,
}

impl ServiceFacts {
    /// The facts of a service as it is now.
    pub fn of(service: &Service) -> Self {
        Self {
            id: service.id,
            uid: service.uid.clone(),
            name: service.name.clone(),
            status: service.status_name.clone(),
            type_id: service.type_id,
            type_name: service.type_name.clone(),
            region: service.region.clone(),
            address: service.address.clone(),
            postcode: service.postcode.clone(),
        }
    }
}

/// What became of one input record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Updated,
    Unchanged,
    Unmatched,
    HiddenOrClosed,
    Stale,
    Rejected,
    DeadLettered,
}

/// One report. [`Report::key`] names it as analysts know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// `previous` and `new`: the forms of section 8; `None` where the value was or becomes null or `''`.
    ServiceUpdate {
        service: Arc<ServiceFacts>,
        action: ChangeType,
        field: &'static str,
        previous: Option<String>,
        new: Option<String>,
    },
    HiddenOrClosed {
        service: Arc<ServiceFacts>,
        organisation: Arc<Organisation>,
    },
    UnmatchedPharmacy {
        organisation: Arc<Organisation>,
    },
    InvalidOpenTimes {
        organisation: Arc<Organisation>,
        opening_times: Option<Arc<str>>,
        service_uids: Vec<String>,
        service_types: Vec<String>,
    },
    /// `missing`: `Blood Pressure`, `Contraception`, `Palliative Care`.
    MissingServiceType {
        service: Arc<ServiceFacts>,
        organisation: Arc<Organisation>,
        missing: &'static str,
        reason: &'static str,
    },
    InvalidPostcode {
        service: Arc<ServiceFacts>,
        organisation: Arc<Organisation>,
    },
    /// `periods`: `10:00-14:00,15:00-17:00`.
    GenericBankHoliday {
        service: Arc<ServiceFacts>,
        organisation: Arc<Organisation>,
        periods: String,
    },
    BlankStandardOpenings {
        service: Arc<ServiceFacts>,
        organisation: Arc<Organisation>,
    },
    /// `info` is what the old service called error info: the refused value or nothing.
    GenericChangeEventError {
        service: Arc<ServiceFacts>,
        reason: &'static str,
        info: Option<String>,
    },
    ChangeEventRejected {
        reason: &'static str,
        detail: String,
    },
    PendingChangeRejected {
        service: Arc<ServiceFacts>,
        change_id: String,
    },
    /// `reason`: `Value too long` …, a SQLSTATE or an error kind; `detail` without values.
    DeadLettered {
        reason: String,
        detail: String,
        attempts: i32,
    },
    PositionSet {
        reason: String,
        detail: String,
    },
    Outcome {
        outcome: Outcome,
        services_matched: i32,
        services_updated: i32,
        fields_updated: i32,
    },
}

/// Rule 7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeType {
    Add,
    Modify,
    Delete,
}

impl Report {
    /// The report key of section 8.
    pub fn key(&self) -> &'static str {
        match self {
            Self::ServiceUpdate { .. } => "SERVICE_UPDATE",
            Self::HiddenOrClosed { .. } => "HIDDEN_OR_CLOSED",
            Self::UnmatchedPharmacy { .. } => "UNMATCHED_PHARMACY",
            Self::InvalidOpenTimes { .. } => "INVALID_OPEN_TIMES",
            Self::MissingServiceType { .. } => "MISSING_SERVICE_TYPE",
            Self::InvalidPostcode { .. } => "INVALID_POSTCODE",
            Self::GenericBankHoliday { .. } => "GENERIC_BANK_HOLIDAY",
            Self::BlankStandardOpenings { .. } => "BLANK_STANDARD_OPENINGS",
            Self::GenericChangeEventError { .. } => "GENERIC_CHANGE_EVENT_ERROR",
            Self::ChangeEventRejected { .. } => "CHANGE_EVENT_REJECTED",
            Self::PendingChangeRejected { .. } => "PENDING_CHANGE_REJECTED",
            Self::DeadLettered { .. } => "DEAD_LETTERED",
            Self::PositionSet { .. } => "POSITION_SET",
            Self::Outcome { .. } => "CHANGE_EVENT_OUTCOME",
        }
    }
}

impl Outcome {
    /// The word in the audit record and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Updated => "UPDATED",
            Self::Unchanged => "UNCHANGED",
            Self::Unmatched => "UNMATCHED",
            Self::HiddenOrClosed => "HIDDEN_OR_CLOSED",
            Self::Stale => "STALE",
            Self::Rejected => "REJECTED",
            Self::DeadLettered => "DEAD_LETTERED",
        }
    }
}

impl ChangeType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Modify => "modify",
            Self::Delete => "delete",
        }
    }
}
