//! Section 3: which services belong to an event, and what is reported of them as a group.

use dosi::domain::{
    audit::{Outcome, Report},
    service::Service,
};
use serde_json::{Value, json};

use crate::support::examples::{
    counts, dos, event, event_with, keys, open, pharmacy, run, service_of_type, services, updates,
};

fn matched(candidates: Vec<Service>, event: &Value) -> i32 {
    counts(&run(&mut dos(candidates), event)).0
}

fn coded(id: i32, ods_code: &str) -> Service {
    Service { ods_code: ods_code.to_owned(), ..pharmacy(id) }
}

/// Service id, word and reason of each `MISSING_SERVICE_TYPE`.
fn missing(candidates: Vec<Service>, event: &Value) -> Vec<(i32, &'static str, &'static str)> {
    let decision = run(&mut dos(candidates), event);
    let word = |report: &Report| match report {
        Report::MissingServiceType { service, missing, reason, .. } => Some((service.id, *missing, *reason)),
        _ => None,
    };
    decision.reports.iter().filter_map(word).collect()
}

const BLOOD_PRESSURE: (&str, &str) = ("Blood Pressure", "No 'Blood Pressure' type service profile");
const CONTRACEPTION: (&str, &str) = ("Contraception", "No 'Contraception' type service profile");
const PALLIATIVE_CARE: (&str, &str) = ("Palliative Care", "No Active Pharmacy with 5 Character ODSCode");

#[test]
fn rule_3_1_types_and_statuses() {
    for (type_id, statuses) in [
        (13, vec![1]),
        (131, vec![1]),
        (132, vec![1]),
        (134, vec![1]),
        (137, vec![1]),
        (148, vec![1, 2, 3]),
        (149, vec![1, 2, 3]),
        (12, vec![]),
        (100, vec![]),
    ] {
        for status in 1..=7 {
            let event = event_with(json!({"Services": [{"ServiceCode": "SRV0560"}, {"ServiceCode": "SRV2000"}]}));
            let found = matched(vec![pharmacy(1), service_of_type(2, type_id, status)], &event) == 2;
            assert_eq!(found, statuses.contains(&status), "type {type_id} status {status}");
        }
    }
}

#[test]
fn rule_3_1_codes_begin_with_the_events_with_regard_to_case() {
    let candidates = ["FA001", "FA001M06", "FA0011", "fa001", "FA002", "XFA001", "FA00", "", "FA00_", "FA00\u{0661}"];
    let services = candidates.iter().zip(1..).map(|(code, id)| coded(id, code)).collect();
    assert_eq!(matched(services, &event()), 3);
}

#[test]
fn rule_3_1_fix_services_are_in_id_order() {
    let event = event_with(json!({"OpeningTimes": [open("Monday", "17:00", "09:00")]}));
    let order = |ids: &[i32]| {
        let dos = dos([]);
        let input = crate::support::examples::input(&event, 1);
        let mut state = dos.load(std::slice::from_ref(&input));
        let code = dosi::domain::ods_code::OdsCode::parse("FA001").unwrap();
        state.services.insert(code, ids.iter().map(|id| pharmacy(*id)).collect());
        let (decisions, _) = dos.decide_against(&[input], state);
        let Report::InvalidOpenTimes { service_uids, .. } = &decisions[0].reports[0] else { panic!() };
        service_uids.clone()
    };
    assert_eq!(order(&[30, 4, 100]), ["uid-4", "uid-30", "uid-100"]);
}

#[test]
fn rule_3_2_without_an_active_candidate_the_event_is_unmatched() {
    for candidates in [vec![], vec![service_of_type(1, 148, 2)], vec![Service { status_id: 2, ..pharmacy(1) }]] {
        let decision = run(&mut dos(candidates), &services("Services", &["SRV0560"]));
        assert_eq!(decision.outcome, Outcome::Unmatched);
        assert_eq!(keys(&decision), ["UNMATCHED_PHARMACY"]);
        assert_eq!(counts(&decision), (0, 0, 0));
    }
    // An active 148 alone is enough.
    assert_eq!(run(&mut dos([service_of_type(1, 148, 1)]), &event()).outcome, Outcome::Updated);
}

#[test]
fn rule_3_3_drops_what_is_not_active_and_not_offered() {
    let candidates = || vec![pharmacy(1), service_of_type(2, 148, 2), service_of_type(3, 149, 3)];
    assert_eq!(matched(candidates(), &event()), 1);
    assert_eq!(matched(candidates(), &services("Services", &["SRV0560"])), 2);
    assert_eq!(matched(candidates(), &services("Services", &["SRV0560", "SRV2000"])), 3);
    assert_eq!(matched(vec![pharmacy(1), service_of_type(2, 148, 1)], &event()), 2);
}

#[test]
fn rule_3_4_hidden_or_closed_stops_there() {
    for status in ["HIDDEN", "closed", "Hidden"] {
        let mut dos = dos([pharmacy(1), service_of_type(2, 148, 1), service_of_type(3, 149, 2)]);
        let event = event_with(json!({"OrganisationStatus": status, "Postcode": "XX1 1XX", "OpeningTimes": "x"}));
        let decision = run(&mut dos, &event);
        assert_eq!(keys(&decision), ["HIDDEN_OR_CLOSED"; 2]);
        assert_eq!(decision.outcome, Outcome::HiddenOrClosed);
        assert_eq!(counts(&decision), (2, 0, 0));
        assert!(dos.modified.is_empty());
    }
    for status in [json!("Visible"), json!(null), json!(""), json!(7), json!("HIDDEN ")] {
        let decision = run(&mut dos([pharmacy(1)]), &event_with(json!({"OrganisationStatus": status})));
        assert_eq!(decision.outcome, Outcome::Unchanged, "{status}");
    }
}

#[test]
fn rule_3_5_invalid_opening_times_leave_opening_times_alone_and_nothing_else() {
    let enhanced = Service { type_name: "Enhanced".to_owned(), ..service_of_type(2, 132, 1) };
    let distance = Service { type_name: "Distance".to_owned(), ..service_of_type(3, 134, 1) };
    let mut dos = dos([distance, pharmacy(1), enhanced]);
    let event = event_with(json!({"OpeningTimes": [open("Monday", "08:00", "08:00")], "Address1": "2 High Street"}));
    let decision = run(&mut dos, &event);
    assert_eq!(keys(&decision), ["INVALID_OPEN_TIMES", "SERVICE_UPDATE", "SERVICE_UPDATE", "SERVICE_UPDATE"]);
    let Report::InvalidOpenTimes { opening_times, service_uids, service_types, .. } = &decision.reports[0] else {
        panic!()
    };
    assert_eq!(opening_times.as_deref().unwrap(), event["OpeningTimes"].to_string());
    assert_eq!(service_uids, &["uid-1", "uid-2", "uid-3"]);
    assert_eq!(service_types, &["Pharmacy", "Enhanced", "Distance"]);
    assert_eq!(dos.services[&1].opening, pharmacy(1).opening);
}

#[test]
fn rule_3_6_a_missing_type_names_the_last_active_pharmacy_even_with_a_long_code() {
    let event = services("Services", &["SRV0560", "SRV2000"]);
    let candidates = || vec![pharmacy(1), coded(5, "FA001X"), service_of_type(9, 134, 1)];
    let both = [(5, BLOOD_PRESSURE.0, BLOOD_PRESSURE.1), (5, CONTRACEPTION.0, CONTRACEPTION.1)];
    assert_eq!(missing(candidates(), &event), both);
    let without_pharmacy = vec![service_of_type(9, 134, 1)];
    assert_eq!(missing(without_pharmacy, &event), []);
}

#[test]
fn rule_3_6_a_service_that_is_left_counts_as_present_though_not_active() {
    let event = services("Services", &["SRV0560", "SRV2000"]);
    for status in [1, 2, 3] {
        let candidates = vec![pharmacy(1), service_of_type(2, 148, status), service_of_type(3, 149, status)];
        assert_eq!(missing(candidates, &event), [], "status {status}");
    }
    let retired = vec![pharmacy(1), service_of_type(2, 148, 6), service_of_type(3, 149, 1)];
    assert_eq!(missing(retired, &event), [(1, BLOOD_PRESSURE.0, BLOOD_PRESSURE.1)]);
}

#[test]
fn rule_3_7_palliative_care_names_the_first_service_that_is_left() {
    let event = services("UecServices", &["SRV0559"]);
    let named = |id| vec![(id, PALLIATIVE_CARE.0, PALLIATIVE_CARE.1)];
    assert_eq!(missing(vec![coded(4, "FA001X"), service_of_type(7, 132, 1)], &event), named(4));
    assert_eq!(missing(vec![service_of_type(2, 148, 3), service_of_type(7, 132, 1)], &event), named(7));
    assert_eq!(missing(vec![service_of_type(2, 134, 1)], &event), named(2), "type 13 only");
    assert_eq!(missing(vec![coded(4, "FA001X"), pharmacy(9)], &event), []);
}

#[test]
fn service_codes_that_only_look_like_the_events_are_others() {
    let event = event_with(json!({
        "Services": [{"ServiceCode": "srv0560"}, {"ServiceCode": "SRV05600"}, {"ServiceCode": " SRV0560"}, {"ServiceCode": 560}, "SRV0560", null],
        "UecServices": [{"ServiceCode": "SRV0560"}, {"ServiceCode": "SRV0559 "}, {"Code": "SRV0559"}],
    }));
    let decision = run(&mut dos([pharmacy(1), service_of_type(2, 148, 3)]), &event);
    assert_eq!(decision.outcome, Outcome::Unchanged);
    assert_eq!(updates(&decision), []);
    assert_eq!(counts(&decision).0, 1);
}
