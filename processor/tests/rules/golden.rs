//! What the service that this project replaces did, case by case: rows, histories, pending changes, mails and reports.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use dosi::domain::{
    audit::{Outcome, Report},
    batch::{EventDecision, Input},
};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::{
    dos::Dos,
    golden_form::{dos, input, list, service_row},
    golden_reports::{dates_in_order, expected_report, in_order, sorted},
};

fn cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden.jsonl.gz");
    let lines = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

fn inputs(case: &Value) -> Vec<Input> {
    list(&case["events"]).iter().map(input).collect()
}

/// Runs every case and collects what differs, so that one run shows all of it.
fn assert_all(run: impl Fn(&mut Dos, &[Input]) -> Vec<EventDecision>) {
    let cases = cases();
    assert_eq!(cases.len(), 398);
    let mut differences = Vec::new();
    for case in &cases {
        let mut dos = dos(case);
        let decisions = run(&mut dos, &inputs(case));
        differences.extend(differences_of(case, &dos, &decisions));
    }
    let shown = differences.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
}

#[test]
fn each_event_in_a_batch_of_its_own() {
    assert_all(|dos, inputs| {
        inputs
            .iter()
            .flat_map(|input| {
                dos.now += chrono::TimeDelta::seconds(1);
                dos.batch(std::slice::from_ref(input))
            })
            .collect()
    });
}

#[test]
fn all_events_of_a_case_in_one_batch() {
    assert_all(Dos::batch);
}

fn differences_of(case: &Value, dos: &Dos, decisions: &[EventDecision]) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: String, ours: &Value, expected: &Value| {
        if ours != expected {
            found.push(format!("{} {what}\n  ours     {ours}\n  expected {expected}", case["id"]));
        }
    };
    let expect = &case["expect"];
    for expected in list(&expect["services"]) {
        let id = i32::try_from(expected["id"].as_i64().unwrap()).unwrap();
        let ours = service_row(&dos.services[&id]);
        for (column, value) in ours.as_object().unwrap() {
            compare(format!("service {id} {column}"), value, &expected[column]);
        }
        let modified_by = if dos.modified.contains(&id) { "DOS_INTEGRATION" } else { "someone" };
        compare(format!("service {id} modifiedby"), &json!(modified_by), &expected["modifiedby"]);
        let (new, old_keys) = history(dos, id, list(&expected["history_new"]).len());
        compare(format!("service {id} history"), &new, &dates_in_order(expected["history_new"].clone()));
        let expected_keys = expected.get("history_old_keys").cloned().unwrap_or_else(|| json!([]));
        compare(format!("service {id} older keys"), &old_keys, &expected_keys);
        compare(format!("service {id} changes"), &changes(dos, id), &expected["changes"]);
    }
    let mut mails: Vec<&str> = dos.mails.iter().map(|mail| mail.change_id.as_str()).collect();
    mails.sort_unstable();
    compare("emails".to_owned(), &json!(mails), &expect["emails"]);
    for (index, (decision, expected)) in decisions.iter().zip(list(&expect["reports"])).enumerate() {
        let ours = sorted(decision.reports.iter().filter_map(report).collect());
        let expected = sorted(list(expected).iter().filter_map(expected_report).collect());
        compare(format!("event {index} reports"), &ours, &expected);
        assert_outcome(decision);
    }
    found
}

/// The `new` parts of the newest entries, and the keys of the others; keys must fall.
fn history(dos: &Dos, id: i32, new_entries: usize) -> (Value, Value) {
    let Some(text) = dos.histories.get(&id) else { return (json!([]), json!([])) };
    let entries = dosi::domain::json::members(dosi::domain::json::parse(text).unwrap()).unwrap();
    let keys: Vec<&str> = entries.iter().map(|(key, _)| key).collect();
    assert!(keys.windows(2).all(|pair| pair[0] > pair[1]), "newest first: {keys:?}");
    let entry = |key: &&str| -> Value { serde_json::from_str(entries.get(key).unwrap().get()).unwrap() };
    let new: Vec<Value> = keys.iter().take(new_entries).map(entry).map(|entry| entry["new"].clone()).collect();
    (json!(new), json!(keys[new_entries.min(keys.len())..]))
}

fn changes(dos: &Dos, id: i32) -> Value {
    let rows = dos.changes.iter().filter(|row| row.change.service_id == id);
    rows.map(|row| json!([row.change.id, row.status, row.modifier])).collect()
}

/// A report in words that both sides know; `None` for what the old service did not log.
fn report(report: &Report) -> Option<Value> {
    let key = report.key();
    let words = match report {
        Report::ServiceUpdate { service, action, field, previous, new } => {
            json!([
                service.uid,
                service.region,
                action.as_str(),
                field,
                in_order(previous.as_deref()),
                in_order(new.as_deref())
            ])
        }
        Report::HiddenOrClosed { service, .. } | Report::BlankStandardOpenings { service, .. } => {
            json!([service.uid, service.region])
        }
        Report::UnmatchedPharmacy { .. } => json!([]),
        Report::ChangeEventRejected { reason, .. } => json!([reason]),
        Report::InvalidOpenTimes { service_uids, .. } => json!([service_uids.join(", ")]),
        Report::MissingServiceType { service, missing, reason, .. } => json!([service.region, missing, reason]),
        Report::InvalidPostcode { service, .. } => {
            json!([service.uid, service.region, "Postcode not valid/found on DoS"])
        }
        Report::GenericBankHoliday { service, periods, .. } => json!([service.uid, service.region, periods]),
        Report::GenericChangeEventError { service, reason, .. } => json!([service.uid, service.region, reason]),
        Report::PendingChangeRejected { .. } | Report::Outcome { .. } => return None,
        Report::DeadLettered { .. } | Report::PositionSet { .. } => json!(["unexpected"]),
    };
    Some(json!([key, words]))
}

/// Every event leaves one outcome, the last of its reports, that agrees with the others.
fn assert_outcome(decision: &EventDecision) {
    let outcomes = decision.reports.iter().filter(|report| matches!(report, Report::Outcome { .. })).count();
    assert_eq!(outcomes, 1);
    let Some(Report::Outcome { outcome, services_updated, fields_updated, .. }) = decision.reports.last() else {
        panic!("the outcome is the last report");
    };
    assert_eq!(*outcome, decision.outcome);
    let updates = decision.reports.iter().filter(|report| matches!(report, Report::ServiceUpdate { .. })).count();
    assert_eq!(usize::try_from(*fields_updated).unwrap(), updates);
    assert_eq!(*services_updated > 0, *outcome == Outcome::Updated);
    assert_eq!(decision.dead_letter.is_some(), *outcome == Outcome::Rejected);
}
