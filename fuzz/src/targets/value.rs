//! A record's value, plain or framed: what is read of it, what is archived, audited and dead-lettered.

use dosi::{
    domain::{audit::Outcome, batch::InputBody, json},
    wire::change_event::{Decoded, Undecodable, decode},
};
use serde_json::Value;

use super::{
    holds_planted,
    records::{audit, dead_letter, has_staff, json_of},
};
use crate::support::{
    dos::Dos,
    examples::{location, pharmacy, today},
    golden_form::record,
};

/// Most bytes of a dead letter: nothing is left out for its size.
const BYTES_MAX: usize = 1 << 20;

pub(crate) fn run(value: &[u8]) {
    let input = record(value, "1");
    let json = json_of(value);
    // What the registry does not know, or knows for another format, is the same whatever the value: tried now and then.
    let unread = [Err(Undecodable::Schema), Err(Undecodable::OtherFormat)]
        .into_iter()
        .filter(|_| value.len().is_multiple_of(16));
    for json in std::iter::once(json).chain(unread) {
        let decoded = decode(&input, json);
        let text = json.ok().and_then(|json| std::str::from_utf8(json).ok());
        agrees_with_another_reader(&decoded, text);
        let archive = decoded.archive();
        if let Some(archive) = archive {
            archive_is_the_event(archive, text.unwrap(), &decoded);
        }
        let mut dos = Dos::on(today()).with([pharmacy(1)]);
        dos.locations = vec![location("EX2 5SE", Some("EXETER"))];
        let decision = dos.batch(std::slice::from_ref(&decoded.input)).remove(0);
        let is_rejected = matches!(decoded.input.body, InputBody::Rejected { .. });
        assert_eq!(decision.outcome == Outcome::Rejected, is_rejected);

        let mut written: Vec<Vec<u8>> = archive.map(|text| text.as_bytes().to_vec()).into_iter().collect();
        written.extend(dead_letter(&input, &decoded, BYTES_MAX).value);
        written.extend(audit(&input, &decoded, &decision).into_iter().filter_map(|record| record.value));
        if only_staff_is_personal(text) {
            assert!(!written.iter().any(|bytes| holds_planted(bytes)), "personal data is written");
        }
    }
}

/// What serde reads into a tree is an event here too, and the other way round but for what a tree cannot hold.
fn agrees_with_another_reader(decoded: &Decoded, text: Option<&str>) {
    let tree = text.map(serde_json::from_str::<Value>);
    let undecodable =
        matches!(decoded.input.body, InputBody::Rejected { reason: "Value not decodable" | "Value missing", .. });
    match tree {
        Some(Ok(tree)) => {
            assert!(!undecodable, "readable JSON is not decoded");
            let is_no_object =
                matches!(decoded.input.body, InputBody::Rejected { reason: "Value is not an object", .. });
            assert_ne!(is_no_object, tree.is_object());
            assert_eq!(decoded.ods_code.as_deref(), tree.get("ODSCode").and_then(Value::as_str));
        }
        Some(Err(fault)) => {
            let fault = fault.to_string();
            let too_much = fault.contains("recursion limit") || fault.contains("number out of range");
            assert!(undecodable || too_much, "decoded: {fault}");
        }
        None => assert!(undecodable),
    }
}

/// The archive is the event but for `Staff`, byte by byte; to read it again changes nothing.
fn archive_is_the_event(archive: &str, text: &str, decoded: &Decoded) {
    assert!(!has_staff(archive));
    let members = |text| json::members(json::parse(text).unwrap()).unwrap();
    let (kept, all) = (members(archive), members(text));
    let wanted = all.iter().filter(|(key, _)| *key != "Staff").map(|(key, value)| (key, value.get()));
    assert!(kept.iter().map(|(key, value)| (key, value.get())).eq(wanted), "the archive is another event");
    let again = record(archive.as_bytes(), "1");
    let again = decode(&again, Ok(archive.as_bytes()));
    assert_eq!(again.archive(), Some(archive));
    assert_eq!(again.input.body.event(), decoded.input.body.event());
}

/// Whether what was planted stands nowhere but in `Staff`: neither in the other members' text, where a key that is repeated
/// counts every time, nor in what another reader makes of them, where nothing is escaped.
fn only_staff_is_personal(text: Option<&str>) -> bool {
    let Some(members) = text.and_then(json::parse).and_then(json::members) else { return false };
    members.iter().filter(|(key, _)| *key != "Staff").all(|(key, value)| {
        let read = serde_json::from_str::<Value>(value.get());
        let is_in_text = holds_planted(key.as_bytes()) || holds_planted(value.get().as_bytes());
        !is_in_text && read.is_ok_and(|read| !holds_planted(read.to_string().as_bytes()))
    })
}
