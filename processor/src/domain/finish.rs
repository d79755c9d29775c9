//! Second step of a batch: histories and pending changes join what was decided, and the batch's effects are drawn up
//! (sections 4, 6, 7).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    audit::{Outcome, Report, ServiceFacts},
    batch::{DeadLetter, Effects, EventDecision, Mail},
    decide::{Decided, Held, ServiceVerdict, Verdict},
    effects,
    history::{HistoryHead, NewHistory},
    pending_changes::{Rejection, rejections},
    service::{PendingChange, Service},
};

/// Reason when a history was kept elsewhere (rule 7.1).
const ALIEN_HISTORY: &str = "Service history was not a JSON object";

/// Completes the decisions. `heads`: of [`Decided::changed_services`], missing where there is no history;
/// `pending`: pending changes of [`Decided::services_to_clear`], in any order.
#[expect(clippy::implicit_hasher, reason = "the shell has no other hasher")]
pub fn finish(
    decided: Decided,
    heads: &HashMap<i32, HistoryHead>,
    pending: Vec<PendingChange>,
) -> (Vec<EventDecision>, Effects) {
    let Decided { verdicts, services, sequences, moment, .. } = decided;
    let mut closing = Closing {
        services: services.values().flatten().map(|held| (held.now.id, held)).collect(),
        heads,
        now: moment.now,
        rejections: rejections(pending),
        histories: BTreeMap::new(),
        effects: Effects { sequences, ..Effects::default() },
    };
    let decisions = verdicts.into_iter().enumerate().map(|(input, verdict)| closing.decision(input, verdict)).collect();
    (decisions, closing.into_effects())
}

/// A dead letter that the shell decided on: what the database refused (rule 9.2).
pub fn dead_lettered(dead_letter: DeadLetter, attempts: i32) -> EventDecision {
    let DeadLetter { reason, detail } = dead_letter.clone();
    let outcome = outcome_report(Outcome::DeadLettered, 0, 0, 0);
    let reports = vec![Report::DeadLettered { reason, detail, attempts }, outcome];
    EventDecision { reports, outcome: Outcome::DeadLettered, dead_letter: Some(dead_letter) }
}

struct Closing<'a> {
    services: BTreeMap<i32, &'a Held>,
    heads: &'a HashMap<i32, HistoryHead>,
    now: DateTime<Utc>,
    /// Those of services that no event has synchronised yet.
    rejections: BTreeMap<i32, Vec<Rejection>>,
    histories: BTreeMap<i32, NewHistory>,
    effects: Effects,
}

impl<'a> Closing<'a> {
    fn decision(&mut self, input: usize, verdict: Verdict) -> EventDecision {
        let Verdict { mut reports, services, end, services_matched } = verdict;
        let services_updated = services.iter().filter(|service| service.entry.is_some()).count();
        for service in services {
            self.service(input, service, &mut reports);
        }
        let fields_updated = reports.iter().filter(|report| matches!(report, Report::ServiceUpdate { .. })).count();
        let (outcome, dead_letter) = match end {
            Some(end) => (end.outcome, end.dead_letter),
            None if services_updated > 0 => (Outcome::Updated, None),
            None => (Outcome::Unchanged, None),
        };
        reports.push(outcome_report(outcome, services_matched, services_updated, fields_updated));
        EventDecision { reports, outcome, dead_letter }
    }

    /// Pending changes go to the first event that synchronised the service, before its other reports of it.
    fn service(&mut self, input: usize, verdict: ServiceVerdict, reports: &mut Vec<Report>) {
        let ServiceVerdict { service_id, reports: of_service, entry } = verdict;
        if let Some(rejections) = self.rejections.remove(&service_id) {
            self.reject(input, service_id, rejections, reports);
        }
        reports.extend(of_service);
        if let Some(entry) = entry {
            self.add_history(service_id, entry, reports);
        }
    }

    /// Rule 4.2.
    fn reject(&mut self, input: usize, service_id: i32, rejections: Vec<Rejection>, reports: &mut Vec<Report>) {
        let service = self.as_loaded(service_id);
        let facts = Arc::new(ServiceFacts::of(service));
        for Rejection { change_id, creator, changes } in rejections {
            reports.push(Report::PendingChangeRejected { service: Arc::clone(&facts), change_id: change_id.clone() });
            self.effects.rejected_changes.push(change_id.clone());
            self.effects.mails.push(Mail {
                input,
                change_id,
                creator,
                service_uid: service.uid.clone(),
                service_name: service.name.clone(),
                changes,
            });
        }
    }

    /// Rule 7.1. That a history was no object is told by the first event that adds to it.
    fn add_history(&mut self, service_id: i32, entry: String, reports: &mut Vec<Report>) {
        let is_first = !self.histories.contains_key(&service_id);
        let head = self.heads.get(&service_id);
        let history = self.histories.entry(service_id).or_insert_with(|| NewHistory::begin(service_id, head));
        history.push(entry, self.now);
        if is_first && history.is_alien() {
            self.effects.alien_histories.push(service_id);
            let service = Arc::new(ServiceFacts::of(self.as_loaded(service_id)));
            reports.push(Report::GenericChangeEventError { service, reason: ALIEN_HISTORY, info: None });
        }
    }

    fn as_loaded(&self, service_id: i32) -> &'a Service {
        self.services.get(&service_id).expect("a synchronised service was loaded").as_loaded()
    }

    fn into_effects(self) -> Effects {
        let mut effects = self.effects;
        effects.rejected_changes.sort();
        effects.alien_histories.sort_unstable();
        effects.histories = self.histories.into_values().map(NewHistory::into_write).collect();
        effects.services = self.services.values().filter_map(|held| effects::service_write(held)).collect();
        effects
    }
}

/// The last report of every event.
fn outcome_report(outcome: Outcome, matched: usize, updated: usize, fields: usize) -> Report {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Report::Outcome {
        outcome,
        services_matched: count(matched),
        services_updated: count(updated),
        fields_updated: count(fields),
    }
}
