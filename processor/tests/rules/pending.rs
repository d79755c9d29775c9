//! Section 4: pending changes that an event overrules.

use dosi::domain::{
    audit::{Outcome, Report},
    batch::{Moment, decide},
    service::{Creator, PendingChange},
};
use serde_json::json;

use crate::support::{
    dos::{ChangeRow, Dos},
    examples::{counts, dos, event, event_with, input, keys, pharmacy, run, service_of_type, with_phone},
};

const OURS: &str = r#"{"new": {"cmsurl": {"changetype": "modify", "data": "x<y", "previous": "old"}}}"#;
const NOT_OURS: &str = r#"{"new": {"cmsurl": {}, "cmssgsdid": {}}}"#;

fn row(id: &str, service_id: i32, value: &str) -> ChangeRow {
    let creator = Creator {
        username: "creator".to_owned(),
        first_name: "First".to_owned(),
        last_name: "Last".to_owned(),
        email: None,
    };
    let change = PendingChange { id: id.to_owned(), service_id, value: value.to_owned(), creator };
    ChangeRow { change, status: "PENDING".to_owned(), modifier: "creator".to_owned() }
}

fn with_rows(rows: impl IntoIterator<Item = ChangeRow>) -> Dos {
    let mut dos = dos([pharmacy(1), service_of_type(2, 132, 1)]);
    dos.changes.extend(rows);
    dos
}

fn rejected(dos: &Dos) -> Vec<&str> {
    let rows = dos.changes.iter().filter(|row| row.status == "REJECTED");
    rows.map(|row| row.change.id.as_str()).collect()
}

#[test]
fn rejectable_ones_are_rejected_with_a_report_and_a_mail_each() {
    let mut dos = with_rows([row("b", 1, OURS), row("c", 2, NOT_OURS), row("a", 1, OURS), row("d", 1, "not json")]);
    let decision = run(&mut dos, &event());
    assert_eq!(rejected(&dos), ["b", "a"]);
    assert_eq!(keys(&decision), ["PENDING_CHANGE_REJECTED"; 2]);
    assert_eq!((decision.outcome, counts(&decision)), (Outcome::Unchanged, (2, 0, 0)), "section 13, 4.2");
    assert!(dos.modified.is_empty());
    let mails: Vec<_> =
        dos.mails.iter().map(|mail| (mail.input, mail.change_id.as_str(), mail.service_uid.as_str())).collect();
    assert_eq!(mails, [(0, "a", "uid-1"), (0, "b", "uid-1")]);
    assert_eq!(dos.mails[0].changes, r#"[{"key":"cmsurl","previous":"old","proposed":"x<y"}]"#);
}

#[test]
fn they_are_read_of_services_in_step_that_have_any() {
    let mut closed = pharmacy(3);
    closed.status_id = 3;
    let dos = with_rows([row("a", 2, OURS), row("b", 3, OURS)]).with([closed]);
    let inputs = [input(&event(), 1)];
    let moment = Moment { now: dos.now, today: dos.today };
    assert_eq!(decide(&inputs, dos.load_all(&inputs), moment).services_to_clear(), [2]);
}

#[test]
fn rule_4_1_each_key_of_the_list_and_no_other() {
    let columns =
        ["postaladdress", "cmseastings", "cmsnorthings", "cmsorgtown", "postalcode", "cmstelephoneno", "cmsurl"];
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let keys: Vec<String> =
        columns.map(str::to_owned).into_iter().chain(days.map(|day| format!("cmsopentime{day}"))).collect();
    assert_eq!(keys.len(), 14);
    let value = |key: &str| json!({"new": {key: {"changetype": "modify", "data": "a", "previous": "b"}}}).to_string();
    for key in keys {
        let misspelt = format!("{}x", &key[..key.len() - 1]);
        let mut dos = with_rows([row("a", 1, &value(&key)), row("b", 1, &value(&misspelt))]);
        run(&mut dos, &event());
        assert_eq!(rejected(&dos), ["a"], "{key}");
    }
}

#[test]
fn they_are_told_before_the_services_other_reports() {
    let mut dos = with_rows([row("a", 2, OURS)]);
    let decision = run(&mut dos, &with_phone("1"));
    assert_eq!(keys(&decision), ["SERVICE_UPDATE", "PENDING_CHANGE_REJECTED", "SERVICE_UPDATE"]);
    let Report::PendingChangeRejected { service, change_id } = &decision.reports[1] else { panic!() };
    assert_eq!((service.id, change_id.as_str()), (2, "a"));
}

#[test]
fn the_first_event_of_a_batch_that_synchronises_the_service_tells_it() {
    let mut dos = with_rows([row("a", 1, OURS)]);
    let hidden = event_with(json!({"OrganisationStatus": "Hidden"}));
    let decisions = dos.batch(&[input(&hidden, 1), input(&event(), 2), input(&with_phone("1"), 3)]);
    let told: Vec<bool> =
        decisions.iter().map(|decision| keys(decision).contains(&"PENDING_CHANGE_REJECTED")).collect();
    assert_eq!(told, [false, true, false]);
    assert_eq!(dos.mails[0].input, 1);
}

#[test]
fn events_that_do_not_synchronise_leave_them_alone() {
    let too_long = event_with(json!({"Address1": "x".repeat(600)}));
    for event in
        [event_with(json!({"OrganisationStatus": "Closed"})), too_long, event_with(json!({"ODSCode": "FZZZZ"}))]
    {
        let mut dos = with_rows([row("a", 1, OURS)]);
        run(&mut dos, &event);
        assert_eq!(rejected(&dos).len(), 0);
        assert!(dos.mails.is_empty());
    }
}

#[test]
fn people_do_not_appear_in_debug_output() {
    let mut dos = with_rows([row("a", 1, OURS)]);
    let shown = format!("{:?}", dos.changes);
    let (decisions, effects) = dos.decide(&[input(&event(), 1)]);
    let shown = format!("{shown} {decisions:?} {effects:?}");
    assert!(!shown.contains("First") && !shown.contains("Last"), "{shown}");
    dos.changes.clear();
}
