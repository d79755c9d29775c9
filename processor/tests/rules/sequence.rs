//! Rule 1.4: the sequence rule, and rule 1.3 as far as the batch goes.

use dosi::domain::{
    audit::{Outcome, Report},
    ods_code::OdsCode,
};
use serde_json::json;

use crate::support::examples::{counts, dos, event, event_with, input, keys, pharmacy, with_phone};

fn outcomes(numbers: &[i64]) -> Vec<Outcome> {
    let mut dos = dos([pharmacy(1)]);
    let inputs: Vec<_> = numbers.iter().map(|number| input(&event(), *number)).collect();
    dos.batch(&inputs).into_iter().map(|decision| decision.outcome).collect()
}

#[test]
fn smaller_is_stale_and_equal_is_processed_again() {
    use Outcome::{Stale, Unchanged};
    assert_eq!(outcomes(&[5, 4, 5, 6, 5]), [Unchanged, Stale, Unchanged, Unchanged, Stale]);
    assert_eq!(outcomes(&[-1, 0]), [Stale, Unchanged], "no earlier number counts as 0");
}

#[test]
fn a_stale_event_tells_both_numbers_and_is_no_dead_letter() {
    let mut dos = dos([pharmacy(1)]);
    let decision = dos.batch(&[input(&event(), -7)]).remove(0);
    let Report::ChangeEventRejected { reason, detail } = &decision.reports[0] else { panic!() };
    assert_eq!(*reason, "Sequence number is smaller than the last accepted");
    assert!(detail.contains("-7") && detail.ends_with(" 0"), "{detail}");
    assert_eq!(decision.reports.len(), 2);
    assert_eq!(counts(&decision), (0, 0, 0));
    assert!(decision.dead_letter.is_none() && dos.sequences.is_empty());
}

#[test]
fn the_largest_number_outlasts_the_batch_and_is_one_for_each_code() {
    let mut dos = dos([pharmacy(1)]);
    dos.batch(&[input(&event(), 9), input(&event_with(json!({"ODSCode": "FB002"})), 3)]);
    let number = |code| dos.sequences.get(&OdsCode::parse(code).unwrap()).copied();
    assert_eq!((number("FA001"), number("FB002")), (Some(9), Some(3)));
    assert_eq!(dos.clone().batch(&[input(&with_phone("1"), 8)])[0].outcome, Outcome::Stale);
}

#[test]
fn unmatched_and_hidden_events_raise_it_and_rejected_ones_do_not() {
    let mut empty = dos([]);
    assert_eq!(empty.batch(&[input(&event(), 4)])[0].outcome, Outcome::Unmatched);
    assert_eq!(empty.sequences.len(), 1);
    let mut hidden = dos([pharmacy(1)]);
    let event = event_with(json!({"OrganisationStatus": "hidden"}));
    assert_eq!(hidden.batch(&[input(&event, 4)])[0].outcome, Outcome::HiddenOrClosed);
    assert_eq!(hidden.sequences.len(), 1);
    let mut rejecting = dos([pharmacy(1)]);
    let rejected = rejecting.batch(&[input(&event_with(json!({"OrganisationTypeId": "DEN"})), 4)]).remove(0);
    assert_eq!(rejected.outcome, Outcome::Rejected);
    assert!(rejecting.sequences.is_empty());
}

#[test]
fn a_rejected_event_is_reported_once_and_dead_lettered() {
    let decision = dos([pharmacy(1)]).batch(&[input(&event_with(json!({"ODSCode": "F%_1"})), 1)]).remove(0);
    assert_eq!(keys(&decision), ["CHANGE_EVENT_REJECTED"]);
    let dead_letter = decision.dead_letter.as_ref().unwrap();
    assert_eq!(dead_letter.reason, "ODSCode wrong length");
    assert_eq!(dead_letter.detail, "ODSCode wrong length; ODSCode not letters and digits");
    assert_eq!(counts(&decision), (0, 0, 0));
}
