//! Which services of DoS belong to an event, and what is missing among them (section 3).

use std::collections::BTreeMap;

use super::{
    change_event::{ChangeEvent, Organisation},
    commissioned_services::{Commissioned, holds_palliative_care},
    ods_code::OdsCode,
    service::{Service, service_type, status},
};

/// Rule 3.1. Codes are compared with regard to case (section 13).
pub fn is_candidate(code: OdsCode, service: &Service) -> bool {
    let fits = match service.type_id {
        service_type::PHARMACY
        | service_type::URGENT_MEDICINES_SUPPLY
        | service_type::ENHANCED
        | service_type::DISTANCE_SELLING
        | service_type::CLINICAL_ASSESSMENT => service.is_active(),
        service_type::BLOOD_PRESSURE | service_type::CONTRACEPTION => {
            matches!(service.status_id, status::ACTIVE | status::CLOSED | status::COMMISSIONING)
        }
        _ => false,
    };
    fits && service.ods_code.starts_with(code.as_str())
}

/// Rule 3.3: a type 148 or 149 service that is not active counts only when the event has what it stands for.
pub fn remains(service: &Service, event: &ChangeEvent) -> bool {
    let offered = Commissioned::of_type(service.type_id).is_none_or(|what| event.offers(what));
    service.is_active() || offered
}

/// What the events of one code have between them of the two that services of a type of their own stand for (rule 3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    pub blood_pressure: bool,
    pub contraception: bool,
}

/// The codes of a batch, each with what its events have: a service that [`remains`] for none of them is not needed, for
/// nothing but an event that has what it stands for can open it.
pub fn offered<'a>(events: impl Iterator<Item = &'a ChangeEvent>) -> BTreeMap<OdsCode, Offered> {
    let mut codes = BTreeMap::<OdsCode, Offered>::new();
    for event in events {
        let offered = codes.entry(event.ods_code).or_default();
        offered.blood_pressure |= event.offers(Commissioned::BloodPressure);
        offered.contraception |= event.offers(Commissioned::Contraception);
    }
    codes
}

/// Rule 3.4.
pub fn is_hidden_or_closed(organisation: &Organisation) -> bool {
    let status = organisation.status.as_deref().unwrap_or_default();
    status.eq_ignore_ascii_case("HIDDEN") || status.eq_ignore_ascii_case("CLOSED")
}

/// Rules 3.6 and 3.7: what the event has and no service stands for, with the service to name.
/// `remaining` are the services left after rule 3.3, in id order.
pub fn missing_service_types<'a>(event: &ChangeEvent, remaining: &[&'a Service]) -> Vec<(Commissioned, &'a Service)> {
    [
        missing_type(event, remaining, Commissioned::BloodPressure),
        missing_type(event, remaining, Commissioned::Contraception),
        missing_palliative_care(event, remaining),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Rule 3.6. Services that are left count as present whether active or not; the pharmacy named may have a long code.
fn missing_type<'a>(
    event: &ChangeEvent,
    remaining: &[&'a Service],
    what: Commissioned,
) -> Option<(Commissioned, &'a Service)> {
    let is_there = remaining.iter().any(|service| Commissioned::of_type(service.type_id) == Some(what));
    if is_there || !event.offers(what) {
        return None;
    }
    let pharmacy = remaining.iter().rev().find(|service| service.type_id == service_type::PHARMACY)?;
    Some((what, pharmacy))
}

/// Rule 3.7.
fn missing_palliative_care<'a>(event: &ChangeEvent, remaining: &[&'a Service]) -> Option<(Commissioned, &'a Service)> {
    let what = Commissioned::PalliativeCare;
    let is_there = remaining.iter().any(|service| holds_palliative_care(service));
    if is_there || !event.offers(what) { None } else { Some((what, remaining.first()?)) }
}
