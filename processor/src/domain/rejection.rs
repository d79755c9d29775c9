//! Why an event is turned away at the door (rule 1.3).

use super::batch::InputBody;

/// What can be wrong with a record, in the order of rule 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    ValueMissing,
    ValueNotDecodable,
    ValueNotAnObject,
    OdsCodeMissing,
    OrganisationTypeIdMissing,
    OrganisationSubTypeMissing,
    OdsCodeWrongLength,
    OdsCodeNotLettersAndDigits,
    OrganisationTypeIdNotSupported,
    OrganisationSubTypeNotSupported,
    KeyNotTheOdsCode,
    SequenceNumberMissing,
    SequenceNumberNotAnInteger,
}

impl Fault {
    /// The exact reason of rule 1.3.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ValueMissing => "Value missing",
            Self::ValueNotDecodable => "Value not decodable",
            Self::ValueNotAnObject => "Value is not an object",
            Self::OdsCodeMissing => "ODSCode missing",
            Self::OrganisationTypeIdMissing => "OrganisationTypeId missing",
            Self::OrganisationSubTypeMissing => "OrganisationSubType missing",
            Self::OdsCodeWrongLength => "ODSCode wrong length",
            Self::OdsCodeNotLettersAndDigits => "ODSCode not letters and digits",
            Self::OrganisationTypeIdNotSupported => "OrganisationTypeId not supported",
            Self::OrganisationSubTypeNotSupported => "OrganisationSubType not supported",
            Self::KeyNotTheOdsCode => "Key is not the ODSCode",
            Self::SequenceNumberMissing => "Sequence number missing",
            Self::SequenceNumberNotAnInteger => "Sequence number not an integer",
        }
    }
}

/// Rule 1.3: the first fault that applies is the reason, `detail` lists all; `None` without faults.
pub fn rejection(mut faults: Vec<Fault>) -> Option<InputBody> {
    faults.sort_unstable();
    let reason = faults.first()?.reason();
    let detail = faults.iter().map(|fault| fault.reason()).collect::<Vec<_>>().join("; ");
    Some(InputBody::Rejected { reason, detail })
}

/// Rule 1.3: the one organisation type.
pub fn is_supported_type_id(type_id: &str) -> bool {
    type_id == "PHA"
}

/// Rule 1.3, with regard to case.
pub fn is_supported_sub_type(sub_type: &str) -> bool {
    matches!(sub_type, "Community" | "DistanceSelling")
}
