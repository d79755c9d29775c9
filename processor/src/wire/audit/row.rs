//! The flat record, and what each report puts into it.

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeTupleStruct as _};
use uuid::Uuid;

use super::{
    Envelope,
    bounds::{List, cut, json, text},
};
use crate::domain::{
    audit::{Report, ServiceFacts},
    change_event::Organisation,
};

type Text<'a> = Option<Cow<'a, str>>;

/// Reason of `INVALID_POSTCODE` (section 8).
const POSTCODE_NOT_FOUND: &str = "Postcode not valid/found on DoS";

/// A struct that is serialised by position: fields by name cost three times as much, and some ten records are made for each
/// event. `FIELDS` is held against the schema when an encoder is made.
macro_rules! positional {
    ($(#[$about:meta])* $visibility:vis struct $name:ident<'a> { $($(#[$note:meta])* $scope:vis $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        $visibility struct $name<'a> { $($(#[$note])* $scope $field: $type,)* }

        impl $name<'_> {
            /// Names in order.
            pub(super) const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];
        }

        impl Serialize for $name<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut tuple = serializer.serialize_tuple_struct(stringify!($name), Self::FIELDS.len())?;
                $(tuple.serialize_field(&self.$field)?;)*
                tuple.end()
            }
        }
    };
}

positional! {
/// One audit record, fields in the schema's order; the name is the schema's too.
#[derive(Clone, Debug, Default)]
pub(super) struct AuditRecord<'a> {
    event_id: String,
    report_key: &'static str,
    /// Microseconds since the epoch.
    occurred_at: i64,
    /// Microseconds since the epoch.
    pub(super) received_at: Option<i64>,
    environment: &'a str,
    correlation_id: Cow<'a, str>,
    pub(super) ods_code: Text<'a>,
    sequence_number: Option<i64>,
    source_topic: Option<&'a str>,
    source_partition: Option<i32>,
    source_offset: Option<i64>,
    service_id: Option<i32>,
    service_uid: Text<'a>,
    service_name: Text<'a>,
    service_status: Text<'a>,
    service_type_id: Option<i32>,
    service_type: Text<'a>,
    service_region: Text<'a>,
    service_address: Text<'a>,
    service_postcode: Text<'a>,
    action: Option<&'static str>,
    data_field_modified: Option<&'static str>,
    previous_value: Text<'a>,
    new_value: Text<'a>,
    organisation_name: Text<'a>,
    organisation_type_id: Text<'a>,
    organisation_type: Text<'a>,
    organisation_sub_type: Text<'a>,
    organisation_status: Text<'a>,
    parent_organisation_name: Text<'a>,
    address_1: Text<'a>,
    address_2: Text<'a>,
    address_3: Text<'a>,
    city: Text<'a>,
    county: Text<'a>,
    postcode: Text<'a>,
    matched_service_uids: Option<List<'a>>,
    matched_service_types: Option<List<'a>>,
    opening_times: Text<'a>,
    bank_holiday_opening_times: Text<'a>,
    missing_service_type: Option<&'static str>,
    reason: Text<'a>,
    detail: Text<'a>,
    change_id: Text<'a>,
    attempts: Option<i32>,
    dead_letter_topic: Option<&'a str>,
    z_code: Text<'a>,
    outcome: Option<&'static str>,
    services_matched: Option<i32>,
    services_updated: Option<i32>,
    fields_updated: Option<i32>,
}
}

impl<'a> AuditRecord<'a> {
    /// What every record carries; the rest is null.
    pub(super) fn from_envelope(event_id: Uuid, envelope: &Envelope<'a>, environment: &'a str) -> Self {
        const MICROSECONDS: i64 = 1_000;
        Self {
            event_id: event_id.hyphenated().to_string(),
            occurred_at: envelope.occurred_at.timestamp_micros(),
            received_at: Some(envelope.timestamp_ms.saturating_mul(MICROSECONDS)),
            environment,
            correlation_id: cut(envelope.correlation_id),
            ods_code: envelope.ods_code.and_then(text),
            sequence_number: envelope.sequence_number,
            source_topic: Some(envelope.topic),
            source_partition: Some(envelope.partition),
            source_offset: Some(envelope.offset),
            ..Self::default()
        }
    }

    /// What one report adds (section 8).
    pub(super) fn fill(&mut self, report: &'a Report, dead_letter_topic: &'a str) {
        self.report_key = report.key();
        match report {
            Report::ServiceUpdate { service, action, field, previous, new } => {
                self.service(service);
                self.action = Some(action.as_str());
                self.data_field_modified = Some(field);
                self.previous_value = optional(previous.as_deref());
                self.new_value = optional(new.as_deref());
            }
            Report::UnmatchedPharmacy { organisation } => self.organisation(organisation),
            Report::HiddenOrClosed { service, organisation }
            | Report::BlankStandardOpenings { service, organisation } => self.both(service, organisation),
            Report::InvalidPostcode { service, organisation } => {
                self.both(service, organisation);
                self.reason = text(POSTCODE_NOT_FOUND);
            }
            Report::GenericBankHoliday { service, organisation, periods } => {
                self.both(service, organisation);
                self.bank_holiday_opening_times = text(periods);
            }
            Report::MissingServiceType { service, organisation, missing, reason } => {
                self.both(service, organisation);
                self.missing_service_type = Some(missing);
                self.reason = text(reason);
            }
            Report::InvalidOpenTimes { organisation, opening_times, service_uids, service_types } => {
                self.organisation(organisation);
                self.matched_service_uids = Some(List(service_uids));
                self.matched_service_types = Some(List(service_types));
                self.opening_times = opening_times.as_deref().and_then(json);
            }
            Report::GenericChangeEventError { service, reason, info } => {
                self.service(service);
                self.why(reason, info.as_deref().unwrap_or_default());
            }
            Report::PendingChangeRejected { service, change_id } => {
                self.service(service);
                self.change_id = text(change_id);
            }
            Report::ChangeEventRejected { reason, detail } => self.why(reason, detail),
            Report::PositionSet { reason, detail } => self.why(reason, detail),
            Report::DeadLettered { reason, detail, attempts } => {
                self.why(reason, detail);
                self.attempts = Some(*attempts);
                self.dead_letter_topic = Some(dead_letter_topic);
            }
            Report::Outcome { outcome, services_matched, services_updated, fields_updated } => {
                self.outcome = Some(outcome.as_str());
                self.services_matched = Some(*services_matched);
                self.services_updated = Some(*services_updated);
                self.fields_updated = Some(*fields_updated);
            }
        }
    }

    fn both(&mut self, service: &'a ServiceFacts, organisation: &'a Organisation) {
        self.service(service);
        self.organisation(organisation);
    }

    fn why(&mut self, reason: &'a str, detail: &'a str) {
        self.reason = text(reason);
        self.detail = text(detail);
    }

    fn service(&mut self, service: &'a ServiceFacts) {
        self.service_id = Some(service.id);
        self.service_uid = text(&service.uid);
        self.service_name = text(&service.name);
        self.service_status = text(&service.status);
        self.service_type_id = Some(service.type_id);
        self.service_type = text(&service.type_name);
        self.service_region = text(&service.region);
        self.service_address = optional(service.address.as_deref());
        self.service_postcode = optional(service.postcode.as_deref());
    }

    fn organisation(&mut self, organisation: &'a Organisation) {
        self.organisation_name = optional(organisation.name.as_deref());
        self.organisation_type_id = optional(organisation.type_id.as_deref());
        self.organisation_type = optional(organisation.type_name.as_deref());
        self.organisation_sub_type = optional(organisation.sub_type.as_deref());
        self.organisation_status = optional(organisation.status.as_deref());
        self.parent_organisation_name = optional(organisation.parent_name.as_deref());
        self.address_1 = optional(organisation.address_1.as_deref());
        self.address_2 = optional(organisation.address_2.as_deref());
        self.address_3 = optional(organisation.address_3.as_deref());
        self.city = optional(organisation.city.as_deref());
        self.county = optional(organisation.county.as_deref());
        self.postcode = optional(organisation.postcode.as_deref());
    }
}

fn optional(value: Option<&str>) -> Text<'_> {
    value.and_then(text)
}
