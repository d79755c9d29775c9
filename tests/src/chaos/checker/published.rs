//! The output topics, as a `read_committed` reader sees them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Evidence, Expected, Place, place, short};
use crate::audit::Record;
use crate::chaos::workload::POISON;
use crate::serial::record_words;

const OUTCOME: &str = "CHANGE_EVENT_OUTCOME";

/// Audit records by the input record that caused them, in the order of the topic.
pub(super) type Audit<'a> = BTreeMap<Place, Vec<&'a Record>>;

pub(super) fn by_place<'a>(evidence: &'a Evidence, findings: &mut Vec<String>) -> Audit<'a> {
    let mut audit = Audit::new();
    for record in &evidence.audit {
        let number = |name| record.field(name).as_i64();
        let partition = number("source_partition").and_then(|partition| i32::try_from(partition).ok());
        match (partition, number("source_offset")) {
            (Some(partition), Some(offset)) => audit.entry((partition, offset)).or_default().push(record),
            _ => findings.push(format!("an audit record has no source: {}", short(record.field("report_key")))),
        }
    }
    audit
}

pub(super) fn check(evidence: &Evidence, audit: &Audit<'_>, expected: &Expected, findings: &mut Vec<String>) {
    ids(evidence, findings);
    for input in &evidence.inputs {
        reports(evidence, input, audit, expected, findings);
    }
    let inputs: BTreeSet<Place> = evidence.inputs.iter().map(place).collect();
    let strange = audit.keys().filter(|place| !inputs.contains(place));
    findings.extend(strange.map(|place| format!("the audit topic tells of {place:?}, which the input does not hold")));
    order(evidence, findings);
    dead_letters(evidence, expected, findings);
}

fn ids(evidence: &Evidence, findings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for record in &evidence.audit {
        let id = record.field("event_id");
        if !seen.insert(id.to_string()) {
            findings.push(format!("event id {id} is on the audit topic twice"));
        }
    }
}

/// One outcome, the last; each record as the core reports it, under the id that the interface gives it.
fn reports(evidence: &Evidence, input: &Record, audit: &Audit<'_>, expected: &Expected, findings: &mut Vec<String>) {
    let place = place(input);
    let mut records = audit.get(&place).cloned().unwrap_or_default();
    let ids = ids_of(evidence, input, records.len());
    // Records without a key lie on partitions of chance: between those there is no order to be judged.
    if records.iter().all(|record| record.key.is_null()) {
        records.sort_by_key(|record| ids.iter().position(|id| record.field("event_id") == id.as_str()));
    }
    let outcomes = records.iter().filter(|record| record.field("report_key") == OUTCOME).count();
    if outcomes != 1 || records.last().is_none_or(|last| last.field("report_key") != OUTCOME) {
        findings.push(format!("{place:?} has {outcomes} outcomes among {} audit records", records.len()));
    }
    let words: Vec<Value> = records.iter().map(|record| record_words(record)).collect();
    let may_be = expected.reports.get(&place).map(Vec::as_slice).unwrap_or_default();
    if !may_be.contains(&words) {
        let should = may_be.first().map(|reports| json!(reports)).unwrap_or_default();
        findings.push(format!("{place:?} was reported as {} and should be {}", short(&json!(words)), short(&should)));
    }
    for (ordinal, record) in records.iter().enumerate() {
        if record.field("event_id").as_str() != ids.get(ordinal).map(String::as_str) {
            findings.push(format!("record {ordinal} of {place:?} has event id {}", record.field("event_id")));
        }
        if record.field("correlation_id").as_str() != input.header("correlation-id") {
            findings
                .push(format!("record {ordinal} of {place:?} has correlation id {}", record.field("correlation_id")));
        }
    }
}

/// The ids that the interface gives to the records of an input record.
fn ids_of(evidence: &Evidence, input: &Record, count: usize) -> Vec<String> {
    let (partition, offset) = place(input);
    let name = |ordinal| format!("dosi:{}/{partition}/{offset}/{}/{ordinal}", evidence.topic, input.timestamp);
    (0..count).map(|ordinal| Uuid::new_v5(&Uuid::NAMESPACE_URL, name(ordinal).as_bytes()).to_string()).collect()
}

/// What one code's events caused stands on one partition, in the order of those events.
fn order(evidence: &Evidence, findings: &mut Vec<String>) {
    let mut last: BTreeMap<(String, i64), (i64, i32)> = BTreeMap::new();
    for record in &evidence.audit {
        let (Some(partition), Some(offset)) =
            (record.field("source_partition").as_i64(), record.field("source_offset").as_i64())
        else {
            continue;
        };
        // Records without a key may lie anywhere.
        if record.key.is_null() {
            continue;
        }
        let now = (offset, record.partition);
        let before = last.insert((record.key.to_string(), partition), now);
        if before.is_some_and(|(earlier, on)| earlier > offset || on != record.partition) {
            findings.push(format!("audit of {}: {:?} stands before {now:?}", record.key, before.unwrap_or_default()));
        }
    }
}

/// Exactly the poison is on the dead-letter topic, each once.
fn dead_letters(evidence: &Evidence, expected: &Expected, findings: &mut Vec<String>) {
    let mut letters: BTreeMap<Place, usize> = BTreeMap::new();
    for letter in &evidence.dead_letters {
        let number = |name| letter.header(name).and_then(|text| text.parse::<i64>().ok());
        let partition = number("__connect.errors.partition").and_then(|partition| i32::try_from(partition).ok());
        match (partition, number("__connect.errors.offset")) {
            (Some(partition), Some(offset)) => *letters.entry((partition, offset)).or_default() += 1,
            _ => findings.push("a dead letter does not say whence it comes".to_owned()),
        }
    }
    for input in &evidence.inputs {
        let place = place(input);
        let count = letters.remove(&place).unwrap_or(0);
        let is_poison = input.header("correlation-id").is_some_and(|id| id.starts_with(POISON));
        if count != usize::from(is_poison) {
            findings.push(format!("{place:?} has {count} dead letters, poison: {is_poison}"));
        }
        if expected.dead_letters.contains_key(&place) != is_poison {
            let reason = expected.dead_letters.get(&place);
            findings.push(format!("{place:?} is refused by the core for {reason:?}, poison: {is_poison}"));
        }
    }
    findings
        .extend(letters.keys().map(|place| format!("a dead letter tells of {place:?}, which the input does not hold")));
}
