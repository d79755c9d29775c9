//! Codes whose events went to several partitions: dosi may apply them in any order that keeps each partition's.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use super::{Place, decide, place, produced};
use crate::audit::Record;
use crate::serial::{Decision, Organisation};

/// One order to its end.
#[derive(Debug)]
pub(super) struct Ending {
    pub organisation: Organisation,
    pub decisions: Vec<(Place, Decision)>,
}

/// Every order of a code's events.
pub(super) struct Orders<'a, F> {
    /// By partition.
    pub events: &'a BTreeMap<i32, Vec<&'a Record>>,
    /// Whether an event may have been reported like this at this point. Other orders are not followed.
    pub may_be: F,
}

impl<F: Fn(Place, &[Value]) -> bool> Orders<'_, F> {
    /// Gives each order's ending to `found` until that says that it is enough.
    pub(super) fn search(
        &self,
        organisation: Organisation,
        found: &mut impl FnMut(Ending) -> Result<bool>,
    ) -> Result<bool> {
        let start = Ending { organisation, decisions: Vec::new() };
        self.step(start, &BTreeMap::new(), found)
    }

    fn step(
        &self,
        so_far: Ending,
        taken: &BTreeMap<i32, usize>,
        found: &mut impl FnMut(Ending) -> Result<bool>,
    ) -> Result<bool> {
        let next = self.events.iter().filter_map(|(partition, events)| {
            let at = taken.get(partition).copied().unwrap_or(0);
            Some((*partition, at, *events.get(at)?))
        });
        let next: Vec<_> = next.collect();
        if next.is_empty() {
            return found(so_far);
        }
        for (partition, at, event) in next {
            let mut organisation = so_far.organisation.clone();
            let decision = decide(&mut organisation, &produced(event)?);
            if !(self.may_be)(place(event), &decision.reports) {
                continue;
            }
            let mut decisions = so_far.decisions.clone();
            decisions.push((place(event), decision));
            let mut taken = taken.clone();
            taken.insert(partition, at + 1);
            if self.step(Ending { organisation, decisions }, &taken, found)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What may have been reported about each event, over all orders.
pub(super) fn all_reports(endings: &[Ending]) -> BTreeMap<Place, Vec<Vec<Value>>> {
    let mut reports: BTreeMap<Place, Vec<Vec<Value>>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (place, decision) in endings.iter().flat_map(|ending| &ending.decisions) {
        if seen.insert((*place, serde_json::to_string(&decision.reports).unwrap_or_default())) {
            reports.entry(*place).or_default().push(decision.reports.clone());
        }
    }
    reports
}
