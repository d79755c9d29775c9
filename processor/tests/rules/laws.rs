//! What holds for any input. A law that is broken panics; properties and fuzz targets try the same ones.

use std::collections::BTreeMap;

use dosi::domain::{
    audit::{Outcome, Report},
    batch::{EventDecision, Input},
    history::HistoryHead,
    json,
    service::Service,
};
use serde_json::json;

use crate::support::{
    dos::Dos,
    examples::{event_with, input, pharmacy, today},
};

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
        let members = json::parse(text).and_then(json::members);
        members.map(|members| members.iter().map(|(_, entry)| entry.get().to_owned()).collect()).unwrap_or_default()
    };
    let changes = dos.changes.iter().map(|row| (row.change.id.clone(), row.status.clone())).collect();
    Held { services: dos.services.clone(), entries: dos.histories.values().map(entries).collect(), changes }
}

fn reports(decisions: &[EventDecision]) -> Vec<Vec<Report>> {
    decisions.iter().map(|decision| decision.reports.clone()).collect()
}

/// Deciding again on what was just written gives no change.
pub(crate) fn deciding_again_changes_nothing(mut dos: Dos, input: &Input) {
    let first = dos.batch(std::slice::from_ref(input)).remove(0);
    let before = dos.clone();
    let again = dos.batch(std::slice::from_ref(input)).remove(0);
    match first.outcome {
        // Unmatched when the only active service was one that the event switched off.
        Outcome::Updated => assert!(matches!(again.outcome, Outcome::Unchanged | Outcome::Unmatched)),
        outcome => assert_eq!(again.outcome, outcome),
    }
    assert_eq!(without_history_keys(&dos), without_history_keys(&before));
}

/// Decisions do not depend on the order of rows.
pub(crate) fn rows_come_in_any_order(mut dos: Dos, inputs: &[Input]) {
    let (decisions, effects) = dos.decide(inputs);
    let mut state = dos.load(inputs);
    state.services.values_mut().for_each(|services| services.reverse());
    dos.changes.reverse();
    let (turned, turned_effects) = dos.decide_against(inputs, state);
    assert_eq!(reports(&turned), reports(&decisions));
    assert_eq!(turned_effects, effects);
}

/// Services that rule 3.3 drops for every event, and Z codes that no rule asks for, need not be read.
pub(crate) fn what_no_event_reaches_changes_nothing(dos: &Dos, inputs: &[Input]) {
    let (all, all_effects) = dos.decide_against(inputs, dos.load_all(inputs));
    let (needed, needed_effects) = dos.decide(inputs);
    assert_eq!(reports(&needed), reports(&all));
    assert_eq!(needed_effects, all_effects);
}

/// Several events in one batch are as good as one batch each.
pub(crate) fn a_batch_is_its_events(dos: Dos, inputs: &[Input]) {
    let (mut together, mut apart) = (dos.clone(), dos);
    let in_one = together.batch(inputs);
    let one_by_one: Vec<EventDecision> =
        inputs.iter().flat_map(|input| apart.batch(std::slice::from_ref(input))).collect();
    assert_eq!(reports(&in_one), reports(&one_by_one));
    assert_eq!(without_history_keys(&together), without_history_keys(&apart));
    assert_eq!(together.sequences, apart.sequences);
    assert_eq!(together.modified, apart.modified);
    // Within a batch they come in order of services, and then in order of events.
    together.alien_histories.sort();
    apart.alien_histories.sort();
    assert_eq!(together.alien_histories, apart.alien_histories);
    assert_eq!(together.mails.len(), apart.mails.len());
}

/// An entry goes in front of every older byte, or what was stored is kept elsewhere; an object stays one.
pub(crate) fn no_history_is_lost(old: &str) {
    let mut dos = Dos::on(today()).with([pharmacy(1)]);
    dos.histories.insert(1, old.to_owned());
    dos.batch(&[input(&event_with(json!({"Contacts": []})), 1)]);
    let new = &dos.histories[&1];
    let kept = new.ends_with(old.trim_start().strip_prefix('{').unwrap_or("no"));
    let is_empty = matches!(HistoryHead::of(old).start.replace(char::is_whitespace, "").as_str(), "" | "{}");
    let alien = [(1, old.to_owned())];
    assert!(kept || is_empty || dos.alien_histories == alien, "lost");
    if let Some(entries) = keys(old).filter(|_| !is_hidden(old) && !old.contains("\\u")) {
        let new = keys(new).expect("an object stays one");
        assert_eq!(new[1..], entries, "no longer the same entries behind a new one");
        assert!(dos.alien_histories.is_empty(), "an object taken for none");
        // The first key counts as it is written, up to 30 digits; one more can have 31.
        let is_number = |key: &&String| key.len() <= 30 && key.bytes().all(|byte| byte.is_ascii_digit());
        let newest = entries.first().filter(is_number).and_then(|key| key.parse::<u128>().ok());
        assert!(new[0].parse().ok() > newest, "the new key is not the largest");
    }
}

/// The keys of a history; `None` when it is no object.
fn keys(text: &str) -> Option<Vec<String>> {
    let members = json::parse(text).and_then(json::members)?;
    Some(members.iter().map(|(key, _)| key.to_owned()).collect())
}

/// The head that is read does not reach beyond the first key: what such a text holds is kept, but not looked at.
fn is_hidden(text: &str) -> bool {
    HistoryHead::of(text).start.matches('"').count() < 2 && text.contains('"')
}
