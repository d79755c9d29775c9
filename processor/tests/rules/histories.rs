//! Section 7: what the text of a history is before and after.

use dosi::domain::{
    audit::Outcome,
    batch::EventDecision,
    history::{HistoryBase, HistoryHead, HistoryWrite, prepended},
};
use serde_json::json;

use crate::support::{
    dos::Dos,
    examples::{dos, errors, event, event_with, input, pharmacy, run, with_phone},
};

const ALIEN: &str = "Service history was not a JSON object";

/// A DoS whose service 1 has that history, and what a change does to it.
fn changed(history: Option<&str>) -> (Dos, EventDecision) {
    let mut dos = dos([pharmacy(1)]);
    dos.histories.extend(history.map(|text| (1, text.to_owned())));
    let decision = run(&mut dos, &with_phone("0"));
    (dos, decision)
}

/// Keys of a history that must be JSON, in order.
fn keys(text: &str) -> Vec<String> {
    let document = dosi::domain::json::parse(text).unwrap_or_else(|| panic!("not JSON: {text}"));
    dosi::domain::json::members(document).unwrap().iter().map(|(key, _)| key.to_owned()).collect()
}

#[test]
fn an_entry_says_what_who_and_when_in_london() {
    let (dos, _) = changed(None);
    let now = dos.now.timestamp();
    let who = r#"{"userid": "DOS_INTEGRATION", "timestamp": "2026-06-15 13:00:00"}"#;
    let expected = format!(
        concat!(
            r#"{{"{}": {{"new": {{"cmstelephoneno": {{"changetype": "modify", "data": "0", "area": "demographic", "#,
            r#""previous": "0113496000"}}}}, "initiator": {}, "approver": {}}}}}"#
        ),
        now, who, who
    );
    assert_eq!(dos.histories[&1], expected);
}

#[test]
fn blank_and_empty_histories_are_begun_anew_without_a_word() {
    for text in ["", "  \n", "\u{a0}", "{}", " { } ", "{\n}"] {
        let (dos, decision) = changed(Some(text));
        assert_eq!(keys(&dos.histories[&1]), [dos.now.timestamp().to_string()], "{text:?}");
        assert!(errors(&decision).is_empty() && dos.alien_histories.is_empty());
    }
}

#[test]
fn what_is_no_object_is_kept_elsewhere_and_reported_and_hours_change_all_the_same() {
    for text in
        ["null", "[]", "{", "}", "{]", "[}", "text", "\"{}\"", "{} {}", "x{}", &format!("{{{}}}", " ".repeat(300))]
    {
        let (dos, decision) = changed(Some(text));
        assert_eq!(errors(&decision), [ALIEN], "{text:?}");
        assert_eq!(decision.outcome, Outcome::Updated);
        assert_eq!(dos.alien_histories, [(1, text.to_owned())]);
        assert_eq!(keys(&dos.histories[&1]).len(), 1);
        assert_eq!(dos.services[&1].phone.as_deref(), Some("0"));
    }
}

#[test]
fn rule_7_1_fix_a_newest_key_that_is_not_smaller_is_exceeded_by_one() {
    let present = dos([]).now.timestamp();
    for (newest, expected) in [
        (present - 1, present.to_string()),
        (present, (present + 1).to_string()),
        (present + 1_000_000, (present + 1_000_001).to_string()),
        (i64::MAX, "9223372036854775808".to_owned()),
        (-5, present.to_string()),
    ] {
        let (dos, _) = changed(Some(&format!("{{\"{newest}\": {{}}}}")));
        assert_eq!(keys(&dos.histories[&1]), [expected, newest.to_string()]);
    }
}

#[test]
fn only_the_first_key_is_looked_at_and_one_that_is_no_number_counts_as_none() {
    let present = dos([]).now.timestamp().to_string();
    let far = "9999999999";
    let long_key = "9".repeat(150);
    for old in ["x", "", "1.5", "99x", &long_key] {
        let (dos, _) = changed(Some(&format!("{{\"{old}\": 1, \"{far}\": 2}}")));
        assert_eq!(keys(&dos.histories[&1]), [present.as_str(), old, far]);
    }
}

#[test]
fn older_entries_keep_their_bytes_and_their_order() {
    let old = " \n{ \"1600000000\": {\"n\": 1.50, \"e\": 1E5, \"u\": \"\\u00e9\"},\n  \"1700000000\" : {\"b\": 1, \"a\": 2}}\t";
    let (dos, _) = changed(Some(old));
    let new = &dos.histories[&1];
    assert!(new.ends_with(old.trim_start().strip_prefix('{').unwrap()));
    assert_eq!(keys(new)[1..], ["1600000000", "1700000000"]);
}

#[test]
fn several_entries_of_one_batch_get_rising_keys_newest_first() {
    let mut dos = dos([pharmacy(1)]);
    let present = dos.now.timestamp();
    dos.histories.insert(1, format!("{{\"{present}\": {{}}}}"));
    let phones = ["1", "2", "3"];
    let inputs: Vec<_> = (1..).zip(phones).map(|(number, phone)| input(&with_phone(phone), number)).collect();
    dos.batch(&inputs);
    let expected: Vec<String> = (0..4).rev().map(|later| (present + later).to_string()).collect();
    assert_eq!(keys(&dos.histories[&1]), expected);
    let newest = crate::support::examples::newest_entry(&dos, 1);
    assert_eq!(newest["cmstelephoneno"]["previous"], json!("2"));
}

#[test]
fn an_alien_history_is_told_by_the_first_event_that_changes_the_service() {
    let mut dos = dos([pharmacy(1)]);
    dos.histories.insert(1, "alien".to_owned());
    let inputs = [input(&event(), 1), input(&with_phone("1"), 2), input(&with_phone("2"), 3)];
    let decisions = dos.batch(&inputs);
    let told: Vec<_> = decisions.iter().map(errors).collect();
    assert_eq!(told, [vec![], vec![ALIEN], vec![]]);
    assert_eq!(dos.alien_histories.len(), 1);
    assert_eq!(keys(&dos.histories[&1]).len(), 2);
}

#[test]
fn rule_6_6_nothing_changed_nothing_written() {
    let mut dos = dos([pharmacy(1)]);
    dos.histories.insert(1, "alien".to_owned());
    let event = event_with(json!({"Postcode": "XX1 1XX"}));
    let (decisions, effects) = dos.decide(&[input(&event, 1)]);
    assert_eq!((decisions[0].outcome, errors(&decisions[0]).len()), (Outcome::Unchanged, 0));
    assert!(effects.services.is_empty() && effects.histories.is_empty() && effects.alien_histories.is_empty());
}

#[test]
fn values_are_escaped_as_json() {
    let mut dos = dos([pharmacy(1)]);
    run(&mut dos, &with_phone("\"\\\n\u{1}é"));
    let entry = crate::support::examples::newest_entry(&dos, 1);
    assert_eq!(entry["cmstelephoneno"]["data"], json!("\"\\\n\u{1}é"));
}

#[test]
fn a_head_is_the_first_characters_and_the_last_one() {
    let head = HistoryHead::of(&format!(" \n{}x ", "é".repeat(300)));
    assert_eq!((head.start.chars().count(), head.last), (200, Some('x')));
    assert_eq!(HistoryHead::of(" ").last, None);
    let write = HistoryWrite { service_id: 1, entries: "\"2\": {}".to_owned(), base: HistoryBase::Object };
    assert_eq!(prepended(" {\"1\": {}}", &write), "{\"2\": {},\"1\": {}}");
    let fresh = HistoryWrite { base: HistoryBase::Fresh, ..write };
    assert_eq!(prepended("alien", &fresh), "{\"2\": {}}");
}
