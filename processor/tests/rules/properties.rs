//! Properties that hold for any input: nothing panics, what was written is not written again, the order of rows does
//! not matter, older history stays, a batch is as good as its events one by one.

use dosi::{
    domain::{audit::Outcome, batch::Input},
    wire::change_event::{ValueForm, decode, value_form},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    generators::{FIELDS, any_json, dos, event},
    laws,
    support::{
        dos::Dos,
        examples::{contact, event_with, input, pharmacy, today},
        golden_form::record,
    },
};

fn inputs(events: &[Value]) -> Vec<Input> {
    events.iter().zip(1..).map(|(event, number)| input(event, number)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deciding_again_on_what_was_just_written_gives_no_change(dos in dos(), event in event()) {
        laws::deciding_again_changes_nothing(dos, &input(&event, 1));
    }

    #[test]
    fn decisions_do_not_depend_on_the_order_of_rows(dos in dos(), events in vec(event(), 1..3)) {
        laws::rows_come_in_any_order(dos, &inputs(&events));
    }

    #[test]
    fn what_no_event_reaches_changes_nothing(dos in dos(), events in vec(event(), 1..4)) {
        laws::what_no_event_reaches_changes_nothing(&dos, &inputs(&events));
    }

    #[test]
    fn several_events_in_one_batch_are_as_good_as_one_batch_each(dos in dos(), events in vec(event(), 1..5)) {
        laws::a_batch_is_its_events(dos, &inputs(&events));
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
        laws::no_history_is_lost(&old);
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
