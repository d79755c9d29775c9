//! What became of all events, counted from the audit topic as a second client read it.

use std::collections::{BTreeMap, BTreeSet};

use dosi_tests::audit::Record;

/// Counts over the records of the audit topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditTotals {
    /// Records that end an input record.
    pub by_outcome: BTreeMap<String, u64>,
    /// All others.
    pub by_report_key: BTreeMap<String, u64>,
    pub services_updated: u64,
    pub fields_updated: u64,
    /// Input records with more than one outcome, and event ids that came up twice: both must be 0.
    pub outcomes_twice: u64,
    pub event_ids_twice: u64,
    /// Microseconds since 1970, by the outcome records: the first arrival and the last decision.
    pub first_received: Option<i64>,
    pub last_occurred: Option<i64>,
}

const OUTCOME: &str = "CHANGE_EVENT_OUTCOME";

impl AuditTotals {
    pub fn of(records: &[Record]) -> Self {
        let mut totals = Self::default();
        let mut event_ids = BTreeSet::new();
        let mut sources = BTreeSet::new();
        for record in records {
            let text = |name| record.field(name).as_str().unwrap_or_default().to_owned();
            totals.event_ids_twice += u64::from(!event_ids.insert(text("event_id")));
            if text("report_key") != OUTCOME {
                *totals.by_report_key.entry(text("report_key")).or_default() += 1;
                continue;
            }
            let source = (record.field("source_partition").as_i64(), record.field("source_offset").as_i64());
            totals.outcomes_twice += u64::from(!sources.insert(source));
            *totals.by_outcome.entry(text("outcome")).or_default() += 1;
            totals.services_updated += record.field("services_updated").as_u64().unwrap_or_default();
            totals.fields_updated += record.field("fields_updated").as_u64().unwrap_or_default();
            let received = record.field("received_at").as_i64();
            totals.first_received = totals.first_received.into_iter().chain(received).min();
            totals.last_occurred = totals.last_occurred.max(record.field("occurred_at").as_i64());
        }
        totals
    }

    pub fn outcomes(&self) -> u64 {
        self.by_outcome.values().sum()
    }

    /// From the first arrival to the last decision.
    pub fn seconds(&self) -> Option<f64> {
        let micros = self.last_occurred?.checked_sub(self.first_received?)?;
        Some(f64::from(u32::try_from(micros / 1000).ok()?) / 1000.0)
    }
}
