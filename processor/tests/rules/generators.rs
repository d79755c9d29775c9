//! What the properties of the core are tried on: any DoS, any event, any JSON.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use dosi::domain::{
    opening_times::{DayId, Period},
    service::{Creator, PendingChange, Service, SpecifiedDate, ZCode},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::support::{
    dos::{ChangeRow, Dos, status_name},
    examples::{closed, closed_on, contact, event_with, location, open, open_on, pharmacy, today},
};

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    select(choices).prop_map(|text| Some(text.to_owned()).filter(|text| text != "null"))
}

fn period() -> impl Strategy<Value = Period> {
    (0..48_u32, 1..48_u32).prop_map(|(start, length)| Period { start: start * 1800, end: (start + length) * 1800 })
}

fn specified() -> impl Strategy<Value = (NaiveDate, SpecifiedDate)> {
    let held = (1..3_u32, any::<bool>(), vec(period(), 0..3));
    (0..6_u64, held).prop_map(|(days, (rows, closed, periods))| {
        let date = today().checked_sub_days(Days::new(2)).unwrap() + Days::new(days);
        (date, SpecifiedDate { rows, closed, periods: periods.into_iter().collect() })
    })
}

prop_compose! {
    fn service()(
        kind in select(vec![(13, "FA001"), (13, "FA001X"), (132, "FA001M06"), (148, "FA001BPS"), (149, "FA001CON"), (100, "FA001")]),
        status_id in 1..5_i32,
        address in text(&["null", "", "1 High Street$Leeds", "Other"]),
        postcode in text(&["null", " ", "LS1 4AP", "LS14AP", "EX2 5SE"]),
        town in text(&["null", "LEEDS", ""]),
        phone in text(&["null", "", "0113496000", "9"]),
        web in text(&["null", "", "www.pharmacy.co.uk"]),
        opening in vec((1..9_i32, vec(period(), 0..3)), 0..9),
        dates in vec(specified(), 0..4),
        codes in vec(select(&ZCode::ALL[..]), 0..3),
    ) -> Service {
        Service {
            type_id: kind.0,
            ods_code: kind.1.to_owned(),
            status_id,
            status_name: status_name(status_id).to_owned(),
            address, postcode, town, phone, web,
            opening: opening.into_iter().map(|(day, periods)| (DayId(day), periods.into_iter().collect())).collect(),
            specified: dates.into_iter().collect(),
            z_codes: codes.into_iter().collect(),
            ..pharmacy(1)
        }
    }
}

fn opening_item() -> impl Strategy<Value = Value> {
    let time = || select(vec!["8:00", "09:00", "12:30:15", "13:00", "17:00", "23:59"]);
    let day = || select(vec!["Monday", "tuesday", "Wednesday", "SUNDAY"]);
    let date = || select(vec!["Jun 14 2026", "Jun 15 2026", "jun  16 2026", "Jun 17  2026"]);
    prop_oneof![
        6 => (day(), time(), time()).prop_map(|(day, from, to)| open(day, from, to)),
        1 => day().prop_map(closed),
        3 => (date(), time(), time()).prop_map(|(date, from, to)| open_on(date, from, to)),
        2 => date().prop_map(closed_on),
    ]
}

fn website() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!(" "),
        json!("www.pharmacy.co.uk"),
        json!("HTTP://New.co.uk/A?#x"),
        json!("not valid"),
    ])
}

fn phone() -> impl Strategy<Value = Value> {
    select(vec![json!(null), json!("0113 496000"), json!("9"), json!("9".repeat(300))])
}

fn codes(of: &'static [&'static str]) -> impl Strategy<Value = Value> {
    vec(select(of), 0..2).prop_map(|codes| codes.into_iter().map(|code| json!({"ServiceCode": code})).collect())
}

prop_compose! {
    pub(crate) fn event()(
        address in text(&["null", " ", "'", "1 HIGH street", "o'neill & co", "\0"]),
        postcode in text(&["null", "ls14ap", "EX2 5SE", "EX25SE", "XX1 1XX"]),
        status in text(&["null", "Visible", "Visible", "Visible", "hidden"]),
        website in website(),
        phone in phone(),
        times in vec(opening_item(), 0..4),
        uec in prop_oneof![Just(Value::Null), codes(&["SRV0559", "SRV0001"])],
        offered in codes(&["SRV0560", "SRV2000"]),
    ) -> Value {
        event_with(json!({
            "Address1": address,
            "Postcode": postcode,
            "OrganisationStatus": status,
            "Contacts": [contact("Website", website), contact("Telephone", phone)],
            "OpeningTimes": times,
            "UecServices": uec,
            "Services": offered,
        }))
    }
}

fn pending_change(id: i32) -> ChangeRow {
    let value = if id % 2 == 0 { r#"{"new": {"cmsurl": {"data": 1}}}"# } else { r#"{"new": {"other": 1}}"# };
    let creator = Creator { username: String::new(), first_name: String::new(), last_name: String::new(), email: None };
    let change = PendingChange { id: format!("c{id}"), service_id: id, value: value.to_owned(), creator };
    ChangeRow { change, status: "PENDING".to_owned(), modifier: String::new() }
}

prop_compose! {
    pub(crate) fn dos()(
        services in vec(service(), 1..4),
        histories in vec(select(vec!["", "{}", "{\"1\": {}}", "{\"9999999999\": 1.0}", "alien"]), 3),
        pairs in vec(select(&ZCode::ALL[..]), 0..4),
    ) -> Dos {
        let services = (1..).zip(services).map(|(id, service)| Service { id, uid: format!("uid-{id}"), ..service });
        let mut dos = Dos::on(today()).with(services);
        dos.histories = (1..).zip(histories.into_iter().map(str::to_owned)).collect();
        dos.changes = (1..=3).map(pending_change).collect();
        dos.z_code_pairs = pairs.into_iter().collect::<BTreeSet<_>>();
        dos.locations = vec![location("EX2 5SE", Some("EXETER")), location("LS14AP", None)];
        dos
    }
}

/// Fields that nothing is rejected for.
pub(crate) const FIELDS: &[&str] = &[
    "OrganisationName",
    "OrganisationStatus",
    "Address1",
    "Address2",
    "City",
    "Postcode",
    "ParentOrganisation",
    "Contacts",
    "OpeningTimes",
    "Services",
    "UecServices",
    "Staff",
    "Anything",
];

pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        opening_item(),
        any::<String>().prop_map(|text| contact("Website", text)),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[A-Za-z]{0,8}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
