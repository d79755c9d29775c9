//! Judges what a run left: nothing lost, nothing twice, nothing out of order.
//!
//! What must be there is what the core's serial run makes of the same events; what is there is read past dosi. A judgement
//! is a list of findings, each one sentence; an empty one is a pass.
//!
//! - [`evidence`]: everything that a run left, as values
//! - [`published`]: the output topics, record by record
//! - [`applied`]: DoS and what dosi keeps beside it
//! - [`orders`]: codes whose events went to two partitions: every order that keeps each partition's is right
//! - [`histories`]: who wrote which entry

mod applied;
mod evidence;
mod histories;
mod orders;
mod published;
#[cfg(test)]
mod tests;

pub use evidence::{Archived, Before, Columns, Evidence};

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use dosi::domain::ods_code::OdsCode;
use serde_json::Value;

use super::workload::refusal;
use crate::audit::Record;
use crate::serial::{Decision, Organisation};
use crate::topics;

/// Partition and offset of an input record.
type Place = (i32, i64);

/// What must have been reported about an input record, for [`published`]; several where the order was open.
#[derive(Debug, Default)]
struct Expected {
    reports: BTreeMap<Place, Vec<Vec<Value>>>,
    dead_letters: BTreeMap<Place, String>,
}

/// Everything that is wrong.
pub fn check(evidence: &Evidence) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    cursors(evidence, &mut findings);
    inputs(evidence, &mut findings);
    let audit = published::by_place(evidence, &mut findings);
    let expected = applied::check(evidence, &audit, &mut findings)?;
    published::check(evidence, &audit, &expected, &mut findings);
    Ok(findings)
}

/// Position, the group's offset and the log's end are the same, and nothing lies between.
fn cursors(evidence: &Evidence, findings: &mut Vec<String>) {
    let Evidence { positions, committed, ends, outbox_rows, halted, .. } = evidence;
    if positions != ends {
        findings.push(format!("positions are {positions:?} and the logs end at {ends:?}"));
    }
    if committed != ends {
        findings.push(format!("the group's offsets are {committed:?} and the logs end at {ends:?}"));
    }
    if *outbox_rows != 0 {
        findings.push(format!("the outbox holds {outbox_rows} rows"));
    }
    findings.extend(halted.iter().map(|reason| format!("a partition is halted: {reason}")));
}

/// Whether it is the run that went wrong, not dosi.
pub fn is_of_harness(finding: &str) -> bool {
    finding.starts_with(INPUT)
}

/// Begins what is said of the run's own input.
const INPUT: &str = "the harness made";

/// The harness's own conscience: what it made is in the topic, once.
fn inputs(evidence: &Evidence, findings: &mut Vec<String>) {
    let ids: BTreeSet<_> = evidence.inputs.iter().map(|input| input.header("correlation-id")).collect();
    if evidence.inputs.len() != evidence.made || ids.len() != evidence.made {
        let (count, ids, made) = (evidence.inputs.len(), ids.len(), evidence.made);
        findings.push(format!("{INPUT} {made} events, and the input holds {count} with {ids} correlation ids"));
    }
}

/// The events of each code in the order of the input, partition by partition; and what is refused whatever DoS holds.
struct Sorted<'a> {
    of_codes: BTreeMap<String, BTreeMap<i32, Vec<&'a Record>>>,
    refused: Vec<(&'a Record, Decision)>,
}

fn sorted(evidence: &Evidence) -> Result<Sorted<'_>> {
    let mut nothing = Organisation::new(&[], &BTreeMap::new().into_iter().collect(), [], evidence.before.today);
    let mut sorted = Sorted { of_codes: BTreeMap::new(), refused: Vec::new() };
    for input in &evidence.inputs {
        let decision = decide(&mut nothing, &produced(input)?);
        match decision.decoded.input.body.event().map(|event| event.ods_code) {
            Some(code) => {
                let partitions = sorted.of_codes.entry(name(code)).or_default();
                partitions.entry(input.partition).or_default().push(input);
            }
            None => sorted.refused.push((input, decision)),
        }
    }
    Ok(sorted)
}

/// The core's word, unless the database refuses the event.
fn decide(organisation: &mut Organisation, record: &topics::Record) -> Decision {
    match refusal(record) {
        Some(letter) => Decision::refused(record, letter),
        None => organisation.apply(record),
    }
}

fn name(code: OdsCode) -> String {
    code.as_str().to_owned()
}

/// A record as it was produced, of one as it was read back.
fn produced(record: &Record) -> Result<topics::Record> {
    let text = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
    let headers =
        record.headers.iter().map(|(name, value)| Ok((name.clone(), text(value).context("a header is no text")?)));
    Ok(topics::Record {
        partition: Some(record.partition),
        key: text(&record.key),
        value: record.text.as_ref().map(|text| text.as_bytes().to_vec()),
        headers: headers.collect::<Result<_>>()?,
    })
}

fn place(input: &Record) -> Place {
    (input.partition, input.offset)
}

/// Enough of a value to see what is wrong with it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
