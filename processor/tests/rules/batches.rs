//! Several events in one batch: each sees what the one before it did, and the rows are written once.

use dosi::domain::{
    audit::{Outcome, Report},
    batch::{ChangedColumns, DateWrites, DeadLetter, dead_lettered, postcodes_to_look_up},
    opening_times::DayId,
    service::{Service, ZCode},
};
use serde_json::{Value, json};

use crate::support::examples::{
    counts, dos, event, event_with, event_without, input, keys, location, periods, pharmacy, service_of_type, services,
    updates, with_phone,
};

#[test]
fn each_event_sees_what_the_one_before_it_did() {
    let mut dos = dos([pharmacy(1), service_of_type(2, 148, 1)]);
    let on = services("Services", &["SRV0560"]);
    let inputs: Vec<_> =
        [&event(), &event(), &on].iter().zip(1..).map(|(event, number)| input(event, number)).collect();
    let decisions = dos.batch(&inputs);
    assert_eq!(updates(&decisions[0])[0].3, Some("closed"));
    // Closed by now, and not offered: dropped by rule 3.3.
    assert_eq!(counts(&decisions[1]), (1, 0, 0));
    assert_eq!(updates(&decisions[2]).len(), 2);
    assert_eq!(dos.services[&2].z_codes, [ZCode::BLOOD_PRESSURE].into());
}

#[test]
fn changed_and_changed_back_leaves_two_entries_and_a_write_of_who_and_when() {
    let dos = dos([pharmacy(1)]);
    let other = event_with(
        json!({"OpeningTimes": [crate::support::examples::open("Monday", "10:00", "11:00")], "Address1": "2"}),
    );
    let (decisions, effects) = dos.decide(&[input(&other, 1), input(&event(), 2)]);
    assert!(decisions.iter().all(|decision| decision.outcome == Outcome::Updated));
    assert_eq!(effects.histories[0].entries.matches("\"approver\"").count(), 2);
    let write = &effects.services[0];
    assert_eq!(write.columns, ChangedColumns::default());
    assert!(write.days.is_empty() && write.dates == DateWrites::default());
}

#[test]
fn a_write_names_what_changed_and_nothing_else() {
    let dos = dos([pharmacy(1), pharmacy(2)]);
    let (_, effects) = dos.decide(&[input(&with_phone("1"), 1)]);
    assert_eq!(effects.services.iter().map(|write| write.id).collect::<Vec<_>>(), [1, 2]);
    let only_phone = ChangedColumns { phone: true, ..ChangedColumns::default() };
    assert_eq!(effects.services[0].columns, only_phone);
    assert_eq!(effects.services[0].web.as_deref(), Some("www.pharmacy.co.uk"), "other columns hold what they held");
    let closed_monday =
        event_with(json!({"OpeningTimes": [crate::support::examples::open("Tuesday", "09:00", "17:00")]}));
    let (_, effects) = dos.decide(&[input(&closed_monday, 1)]);
    let days: Vec<_> = effects.services[0].days.iter().map(|(day, periods)| (day.0, periods.len())).collect();
    assert_eq!(days, [(1, 0), (3, 0), (4, 0), (5, 0), (6, 0)]);
    assert_eq!(effects.services[0].columns, ChangedColumns::default());
}

#[test]
fn a_refused_event_is_passed_over_by_the_next_one() {
    let mut dos = dos([pharmacy(1)]);
    let too_long = event_with(json!({"Address1": "x".repeat(600)}));
    let decisions = dos.batch(&[input(&too_long, 9), input(&with_phone("1"), 5)]);
    assert_eq!(
        decisions.iter().map(|decision| decision.outcome).collect::<Vec<_>>(),
        [Outcome::DeadLettered, Outcome::Updated]
    );
    assert_eq!(dos.sequences.values().copied().collect::<Vec<_>>(), [5]);
}

#[test]
fn a_coordinate_that_is_no_number_does_not_look_changed() {
    let held = Service { latitude: Some(f64::NAN), ..pharmacy(1) };
    let (_, effects) = dos([held]).decide(&[input(&with_phone("1"), 1)]);
    assert!(!effects.services[0].columns.place);
}

#[test]
fn a_day_row_that_was_replaced_and_closed_again_goes() {
    let mut held = pharmacy(1);
    held.opening.insert(DayId(7), periods(&[]));
    let sunday =
        crate::support::examples::event_with_times([crate::support::examples::open("Sunday", "10:00", "11:00")]);
    let mut sunday: Value = sunday;
    sunday["OpeningTimes"].as_array_mut().unwrap().retain(|item| item["Weekday"] != "Sunday" || item["IsOpen"] == true);
    let (_, effects) = dos([held]).decide(&[input(&sunday, 1), input(&event(), 2)]);
    assert_eq!(effects.services[0].days, [(DayId(7), vec![])]);
}

#[test]
fn postcodes_are_looked_up_where_they_differ_or_may_come_to() {
    let dos = dos([pharmacy(1), Service { ods_code: "FB002".to_owned(), ..pharmacy(2) }]);
    let wanted = |events: &[Value]| {
        let inputs: Vec<_> = events.iter().map(|event| input(event, 1)).collect();
        postcodes_to_look_up(&inputs, &dos.load(&inputs)).into_iter().collect::<Vec<_>>()
    };
    let moved = |postcode: &str| event_with(json!({"Postcode": postcode}));
    assert_eq!(wanted(&[event()]), Vec::<String>::new(), "equal but for spelling");
    assert_eq!(wanted(&[moved("ex2 5se")]), ["EX25SE"]);
    assert_eq!(wanted(&[moved("EX2 5SE"), event()]), ["EX25SE", "LS14AP"], "all of a code with several events");
    assert_eq!(wanted(&[event_with(json!({"ODSCode": "FB002"})), event()]), Vec::<String>::new());
    assert_eq!(wanted(&[event_with(json!({"ODSCode": "FZZZZ", "Postcode": "EX2 5SE"}))]), Vec::<String>::new());
    let hopeless = [moved(""), moved(" "), moved("X\u{0}"), moved(&"X".repeat(1_000_000)), event_without("Postcode")];
    assert_eq!(wanted(&hopeless), Vec::<String>::new());
}

#[test]
fn a_postcode_may_come_back_within_a_batch() {
    let mut dos = dos([pharmacy(1)]);
    dos.locations = vec![location("EX2 5SE", None), location("LS1 4AP", Some("LEEDS"))];
    let moved = event_with(json!({"Postcode": "EX2 5SE"}));
    let decisions = dos.batch(&[input(&moved, 1), input(&event(), 2)]);
    assert!(decisions.iter().all(|decision| keys(decision).iter().all(|key| *key == "SERVICE_UPDATE")));
    assert_eq!(dos.services[&1].postcode.as_deref(), Some("LS1 4AP"));
}

#[test]
fn what_the_shell_gives_up_on_is_reported_like_any_dead_letter() {
    let dead_letter = DeadLetter { reason: "22001".to_owned(), detail: "services.name".to_owned() };
    let decision = dead_lettered(dead_letter.clone(), 5);
    assert_eq!(decision.dead_letter, Some(dead_letter));
    assert_eq!((decision.outcome, counts(&decision)), (Outcome::DeadLettered, (0, 0, 0)));
    assert!(matches!(&decision.reports[0], Report::DeadLettered { attempts: 5, .. }));
    assert_eq!(decision.reports.len(), 2);
}
