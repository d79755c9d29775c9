//! Service histories: which entries are new, and who wrote them.

use dosi::domain::history;
use serde_json::Value;

use crate::chaos::other_writer::{self, Certainty, Write};
use crate::golden_form::members;

/// The new entries of one history, newest first.
#[derive(Debug, Default)]
pub(super) struct NewEntries {
    /// Parts `new` of dosi's.
    pub dosi: Vec<Value>,
    /// Names that the other writer gave.
    pub other: Vec<String>,
}

/// Tells the new entries of a history apart. What was there must stand behind them byte for byte, and keys must fall.
pub(super) fn new_entries(
    service: i32,
    before: Option<&str>,
    after: Option<&str>,
    findings: &mut Vec<String>,
) -> NewEntries {
    let mut found = NewEntries::default();
    let Some(after) = after else {
        if before.is_some() {
            findings.push(format!("service {service} has lost its history"));
        }
        return found;
    };
    let old = before.filter(|before| *before != "{}");
    if old.is_some_and(|old| !after.ends_with(&old[1..])) {
        findings.push(format!("service {service}: older history is not as it was"));
        return found;
    }
    let (Ok(entries), Ok(old_entries)) = (members(after), members(old.unwrap_or("{}"))) else {
        findings.push(format!("service {service}: its history is no JSON object"));
        return found;
    };
    let keys: Vec<i64> = entries.iter().filter_map(|(key, _)| key.parse().ok()).collect();
    if keys.len() != entries.len() || keys.windows(2).any(|pair| pair[0] <= pair[1]) {
        findings.push(format!("service {service}: keys of history do not fall: {keys:?}"));
    }
    let count = entries.len().saturating_sub(old_entries.len());
    for (key, entry) in &entries[..count] {
        let entry: Value = serde_json::from_str(entry.get()).unwrap_or_default();
        match entry["initiator"]["userid"].as_str() {
            Some(history::USER_ID) => found.dosi.push(entry["new"].clone()),
            Some(other_writer::USER_ID) => {
                let name = entry["new"][other_writer::HISTORY_KEY]["data"].as_str();
                found.other.push(name.unwrap_or_default().to_owned());
            }
            other => findings.push(format!("service {service}: entry {key} of history is by {other:?}")),
        }
    }
    found
}

/// Every write of the other writer to this service is there once, in order, but those that a backup took away; one whose
/// answer was lost may be there. Gives the newest that is there.
pub(super) fn check_other_writer<'a>(
    service: i32,
    entries: &[String],
    writes: &[&'a Write],
    findings: &mut Vec<String>,
) -> Option<&'a Write> {
    let mut there = entries.iter().rev().peekable();
    let mut newest = None;
    for write in writes {
        let is_there = there.next_if(|name| **name == write.public_name()).is_some();
        newest = if is_there { Some(*write) } else { newest };
        match write.certainty {
            Certainty::Committed if !is_there => {
                findings.push(format!(
                    "service {service}: write {} of the other writer is lost from history",
                    write.number
                ));
            }
            Certainty::Removed if is_there => {
                findings.push(format!("service {service}: write {} is there, which a backup took away", write.number));
            }
            _ => {}
        }
    }
    findings.extend(there.map(|name| format!("service {service}: entry {name:?} of history is out of order or twice")));
    newest
}
