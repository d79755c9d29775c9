//! A pharmacy and its event that agree in everything; tests change what they are about.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use dosi::domain::{
    audit::Report,
    batch::{EventDecision, Input},
    opening_times::{DayId, Period},
    service::{Location, Service},
};
use serde_json::{Value, json};

use super::{dos::Dos, golden_form::decoded};

pub(crate) const TODAY: &str = "2026-06-15";

pub(crate) fn today() -> NaiveDate {
    TODAY.parse().unwrap()
}

pub(crate) fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub(crate) fn hours(start: u32, end: u32) -> Period {
    Period { start: start * 3600, end: end * 3600 }
}

pub(crate) fn periods(hours_of: &[(u32, u32)]) -> BTreeSet<Period> {
    hours_of.iter().map(|(start, end)| hours(*start, *end)).collect()
}

/// Type 13, active, open Monday to Saturday.
pub(crate) fn pharmacy(id: i32) -> Service {
    Service {
        id,
        uid: format!("uid-{id}"),
        name: format!("Pharmacy {id}"),
        ods_code: "FA001".to_owned(),
        type_id: 13,
        type_name: "Pharmacy".to_owned(),
        status_id: 1,
        status_name: "active".to_owned(),
        region: "Region".to_owned(),
        address: Some("1 High Street$Leeds".to_owned()),
        town: Some("LEEDS".to_owned()),
        postcode: Some("LS1 4AP".to_owned()),
        easting: Some(429_253),
        northing: Some(433_386),
        latitude: Some(53.79),
        longitude: Some(-1.55),
        phone: Some("0113496000".to_owned()),
        web: Some("www.pharmacy.co.uk".to_owned()),
        opening: (1..=6).map(|day| (DayId(day), periods(&[(9, 17)]))).collect(),
        specified: std::collections::BTreeMap::new(),
        z_codes: BTreeSet::new(),
    }
}

/// The same of another type, with its usual code.
pub(crate) fn service_of_type(id: i32, type_id: i32, status_id: i32) -> Service {
    let ending = match type_id {
        148 => "BPS",
        149 => "CON",
        132 => "M06",
        _ => "",
    };
    let status_name = super::dos::status_name(status_id).to_owned();
    Service { type_id, status_id, status_name, ods_code: format!("FA001{ending}"), ..pharmacy(id) }
}

/// Says of [`pharmacy`] what DoS has.
pub(crate) fn event() -> Value {
    let weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let mut times: Vec<Value> = weekdays.iter().map(|day| open(day, "09:00", "17:00")).collect();
    times.push(closed("Sunday"));
    json!({
        "ODSCode": "FA001",
        "OrganisationName": "The Pharmacy",
        "OrganisationTypeId": "PHA",
        "OrganisationType": "Pharmacy",
        "OrganisationSubType": "Community",
        "OrganisationStatus": "Visible",
        "Address1": "1 High Street",
        "City": "Leeds",
        "Postcode": "LS1 4AP",
        "ParentOrganisation": {"ODSCode": "Q1", "OrganisationName": "Parent"},
        "Contacts": [contact("Website", "www.pharmacy.co.uk"), contact("Telephone", "0113496000")],
        "OpeningTimes": times,
        "UecServices": [],
        "Services": [],
    })
}

pub(crate) fn contact(method: &str, value: impl Into<Value>) -> Value {
    json!({
        "ContactType": "Primary",
        "ContactAvailabilityType": "Office hours",
        "ContactMethodType": method,
        "ContactValue": value.into(),
    })
}

pub(crate) fn open(day: &str, from: &str, to: &str) -> Value {
    json!({"Weekday": day, "OpeningTime": from, "ClosingTime": to, "OpeningTimeType": "General", "AdditionalOpeningDate": "", "IsOpen": true})
}

pub(crate) fn closed(day: &str) -> Value {
    json!({"Weekday": day, "OpeningTime": null, "ClosingTime": "", "OpeningTimeType": "General", "AdditionalOpeningDate": null, "IsOpen": false})
}

pub(crate) fn open_on(date: &str, from: &str, to: &str) -> Value {
    json!({"Weekday": "", "OpeningTime": from, "ClosingTime": to, "OpeningTimeType": "Additional", "AdditionalOpeningDate": date, "IsOpen": true})
}

pub(crate) fn closed_on(date: &str) -> Value {
    json!({"Weekday": "", "OpeningTime": "", "ClosingTime": "", "OpeningTimeType": "Additional", "AdditionalOpeningDate": date, "IsOpen": false})
}

/// The event with these members instead of its own.
pub(crate) fn event_with(members: Value) -> Value {
    let mut event = event();
    let Value::Object(members) = members else { panic!("members are an object") };
    event.as_object_mut().unwrap().extend(members);
    event
}

pub(crate) fn event_without(member: &str) -> Value {
    let mut event = event();
    event.as_object_mut().unwrap().remove(member).unwrap();
    event
}

/// The event with these opening times besides its own.
pub(crate) fn event_with_times(more: impl IntoIterator<Item = Value>) -> Value {
    let mut event = event();
    event["OpeningTimes"].as_array_mut().unwrap().extend(more);
    event
}

pub(crate) fn with_website(website: impl Into<Value>) -> Value {
    event_with(json!({"Contacts": [contact("Website", website), contact("Telephone", "0113496000")]}))
}

pub(crate) fn with_phone(phone: impl Into<Value>) -> Value {
    event_with(json!({"Contacts": [contact("Website", "www.pharmacy.co.uk"), contact("Telephone", phone)]}))
}

pub(crate) fn services(field: &str, codes: &[&str]) -> Value {
    event_with(json!({field: codes.iter().map(|code| json!({"ServiceCode": code})).collect::<Vec<_>>()}))
}

pub(crate) fn location(postcode: &str, town: Option<&str>) -> Location {
    Location {
        postcode: postcode.to_owned(),
        town: town.map(str::to_owned),
        easting: Some(1),
        northing: Some(2),
        latitude: Some(3.0),
        longitude: Some(4.0),
    }
}

pub(crate) fn input(event: &Value, sequence_number: i64) -> Input {
    decoded(event, &sequence_number.to_string()).input
}

pub(crate) fn dos(services: impl IntoIterator<Item = Service>) -> Dos {
    Dos::on(today()).with(services)
}

/// One event in a batch of its own.
pub(crate) fn run(dos: &mut Dos, event: &Value) -> EventDecision {
    dos.batch(&[input(event, 1)]).remove(0)
}

/// Keys of the reports but the outcome.
pub(crate) fn keys(decision: &EventDecision) -> Vec<&'static str> {
    let reports = decision.reports.iter().filter(|report| !matches!(report, Report::Outcome { .. }));
    reports.map(Report::key).collect()
}

/// Field, action, previous and new value of each `SERVICE_UPDATE`.
pub(crate) fn updates(decision: &EventDecision) -> Vec<(&str, &str, Option<&str>, Option<&str>)> {
    let update = |report| match report {
        &Report::ServiceUpdate { ref action, field, ref previous, ref new, .. } => {
            Some((field, action.as_str(), previous.as_deref(), new.as_deref()))
        }
        _ => None,
    };
    decision.reports.iter().filter_map(update).collect()
}

/// Reasons of `GENERIC_CHANGE_EVENT_ERROR`.
pub(crate) fn errors(decision: &EventDecision) -> Vec<&'static str> {
    let reason = |report: &Report| match report {
        Report::GenericChangeEventError { reason, .. } => Some(*reason),
        _ => None,
    };
    decision.reports.iter().filter_map(reason).collect()
}

/// The counts of the outcome: services matched, services updated, fields updated.
pub(crate) fn counts(decision: &EventDecision) -> (i32, i32, i32) {
    match decision.reports.last() {
        Some(Report::Outcome { services_matched, services_updated, fields_updated, .. }) => {
            (*services_matched, *services_updated, *fields_updated)
        }
        other => panic!("{other:?} is no outcome"),
    }
}

/// The newest history entry of a service, its part `new`.
pub(crate) fn newest_entry(dos: &Dos, id: i32) -> Value {
    let text = &dos.histories[&id];
    let entries = dosi::domain::json::members(dosi::domain::json::parse(text).unwrap()).unwrap();
    let (_, newest) = entries.iter().next().unwrap();
    serde_json::from_str::<Value>(newest.get()).unwrap()["new"].clone()
}
