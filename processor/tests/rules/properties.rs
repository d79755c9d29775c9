//! Properties that hold for any input: nothing panics, what was written is not written again, the order of rows does
//! not matter, older history stays, a batch is as good as its events one by one.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Days, NaiveDate};
use dosi::{
    domain::{
        audit::{Outcome, Report},
        batch::{EventDecision, Input},
        history::HistoryHead,
        opening_times::{DayId, Period},
        service::{Creator, PendingChange, Service, SpecifiedDate, ZCode},
    },
    wire::change_event::{ValueForm, decode, value_form},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::support::{
    dos::{ChangeRow, Dos, status_name},
    examples::{closed, closed_on, contact, event_with, input, location, open, open_on, pharmacy, today},
    golden_form::record,
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
    fn event()(
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
    fn dos()(
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

fn inputs(events: &[Value]) -> Vec<Input> {
    events.iter().zip(1..).map(|(event, number)| input(event, number)).collect()
}

/// What a DoS holds but for the keys of history entries, which hang on the moment.
#[derive(Debug, PartialEq)]
struct Held {
    services: BTreeMap<i32, Service>,
    entries: Vec<Vec<String>>,
    /// Id and status.
    changes: Vec<(String, String)>,
}

fn without_history_keys(dos: &Dos) -> Held {
    let entries = |text: &String| {
        let members = dosi::domain::json::parse(text).and_then(dosi::domain::json::members);
        members.map(|members| members.iter().map(|(_, entry)| entry.get().to_owned()).collect()).unwrap_or_default()
    };
    let changes = dos.changes.iter().map(|row| (row.change.id.clone(), row.status.clone())).collect();
    Held { services: dos.services.clone(), entries: dos.histories.values().map(entries).collect(), changes }
}

fn reports(decisions: &[EventDecision]) -> Vec<Vec<Report>> {
    decisions.iter().map(|decision| decision.reports.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deciding_again_on_what_was_just_written_gives_no_change(mut dos in dos(), event in event()) {
        let first = dos.batch(&[input(&event, 1)]).remove(0);
        let before = dos.clone();
        let again = dos.batch(&[input(&event, 1)]).remove(0);
        match first.outcome {
            // Unmatched when the only active service was one that the event switched off.
            Outcome::Updated => prop_assert!(matches!(again.outcome, Outcome::Unchanged | Outcome::Unmatched)),
            outcome => prop_assert_eq!(again.outcome, outcome),
        }
        prop_assert_eq!(without_history_keys(&dos), without_history_keys(&before));
    }

    #[test]
    fn decisions_do_not_depend_on_the_order_of_rows(mut dos in dos(), events in vec(event(), 1..3)) {
        let inputs = inputs(&events);
        let (decisions, effects) = dos.decide(&inputs);
        let mut state = dos.load(&inputs);
        state.services.values_mut().for_each(|services| services.reverse());
        dos.changes.reverse();
        let (turned, turned_effects) = dos.decide_against(&inputs, state);
        prop_assert_eq!(reports(&turned), reports(&decisions));
        prop_assert_eq!(turned_effects, effects);
    }

    #[test]
    fn several_events_in_one_batch_are_as_good_as_one_batch_each(dos in dos(), events in vec(event(), 1..5)) {
        let inputs = inputs(&events);
        let (mut together, mut apart) = (dos.clone(), dos);
        let in_one = together.batch(&inputs);
        let one_by_one: Vec<EventDecision> =
            inputs.iter().flat_map(|input| apart.batch(std::slice::from_ref(input))).collect();
        prop_assert_eq!(reports(&in_one), reports(&one_by_one));
        prop_assert_eq!(without_history_keys(&together), without_history_keys(&apart));
        prop_assert_eq!(&together.sequences, &apart.sequences);
        prop_assert_eq!(&together.modified, &apart.modified);
        prop_assert_eq!(&together.alien_histories, &apart.alien_histories);
        prop_assert_eq!(together.mails.len(), apart.mails.len());
    }

    #[test]
    fn prepending_keeps_every_older_byte(
        keys in vec("[0-9]{1,12}|[a-z]{0,3}", 1..4), value in "[ -~]{0,20}", space in "[ \n\t]{0,3}", phone in "[0-9]{1,5}",
    ) {
        let entries: Vec<String> = keys.iter().map(|key| format!("{space}\"{key}\":{space}{}", json!(value))).collect();
        let old = format!("{space}{{{}{space}}}{space}", entries.join(","));
        let mut dos = Dos::on(today()).with([pharmacy(1)]);
        dos.histories.insert(1, old.clone());
        dos.batch(&[input(&event_with(json!({"Contacts": [contact("Telephone", phone)]})), 1)]);
        let new = &dos.histories[&1];
        let keeps = new.ends_with(old.trim_start().strip_prefix('{').unwrap());
        prop_assert!(keeps);
        prop_assert!(dosi::domain::json::parse(new).is_some());
        prop_assert!(dos.alien_histories.is_empty());
    }

    #[test]
    fn no_history_is_lost(old in any::<String>()) {
        let mut dos = Dos::on(today()).with([pharmacy(1)]);
        dos.histories.insert(1, old.clone());
        dos.batch(&[input(&event_with(json!({"Contacts": []})), 1)]);
        let kept = dos.histories[&1].ends_with(old.trim_start().strip_prefix('{').unwrap_or("no"));
        let is_empty = matches!(HistoryHead::of(&old).start.replace(char::is_whitespace, "").as_str(), "" | "{}");
        prop_assert!(kept || is_empty || dos.alien_histories == [(1, old)]);
    }

    #[test]
    fn no_bytes_panic(value in vec(any::<u8>(), 0..64), number in "[-0-9]{0,3}") {
        let record = record(&value, &number);
        let json = match value_form(&value) {
            Some(ValueForm::Plain) => &value[..],
            Some(ValueForm::Framed { .. }) => &value[5..],
            None => &[],
        };
        Dos::on(today()).with([pharmacy(1)]).batch(&[decode(&record, Ok(json)).input]);
    }

    #[test]
    fn nothing_json_like_panics(cuts in vec((0..2000_usize, "[\\]\\[{},:\"0-9a-zA-Z\\\\ éu]{0,6}"), 0..4), event in event(), mut dos in dos()) {
        let mut text = event.to_string();
        for (at, piece) in cuts {
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.insert_str(at, &piece);
        }
        let record = record(text.as_bytes(), "1");
        dos.batch(&[decode(&record, Ok(text.as_bytes())).input]);
    }

    #[test]
    fn any_json_in_any_field_is_read(field in select(FIELDS), member in any_json(), mut dos in dos()) {
        let decision = dos.batch(&[input(&event_with(json!({field: member})), 1)]).remove(0);
        prop_assert_ne!(decision.outcome, Outcome::Rejected);
    }
}

/// Fields that nothing is rejected for.
const FIELDS: &[&str] = &[
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

fn any_json() -> impl Strategy<Value = Value> {
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
