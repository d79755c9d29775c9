//! First step of a batch: each event is held against what DoS holds after the one before it (rules 1.4, 3 to 6).

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    audit::{Outcome, Report, ServiceFacts},
    batch::{DeadLetter, DosState, Input, InputBody, Moment},
    change_event::{ChangeEvent, Organisation},
    changes::{Change, KeyChange},
    diff::{Difference, Notice, Profile, compare},
    history, matching,
    ods_code::OdsCode,
    postcode,
    service::{Location, Service, ZCode},
    service_update, widths,
};

/// Reason of a stale event (rule 1.4).
const STALE: &str = "Sequence number is smaller than the last accepted";

/// What [`decide`] found, for [`super::finish::finish`] to complete.
#[derive(Debug)]
pub struct Decided {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) services: HashMap<OdsCode, Vec<Held>>,
    pub(super) sequences: BTreeMap<OdsCode, i64>,
    pub(super) moment: Moment,
    with_pending_changes: BTreeSet<i32>,
}

/// A service of DoS as the batch has it by now.
#[derive(Debug)]
pub(super) struct Held {
    pub now: Service,
    /// As it was loaded; `None` while nothing changed.
    pub before: Option<Box<Service>>,
}

/// What one event comes to, but for histories and pending changes.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// About the event as a whole; before everything else.
    pub reports: Vec<Report>,
    /// Services that rule 3.8 reached.
    pub services: Vec<ServiceVerdict>,
    pub end: Option<End>,
    pub services_matched: usize,
}

/// How an event ends when it does not reach rule 3.8.
#[derive(Debug)]
pub(super) struct End {
    pub outcome: Outcome,
    pub dead_letter: Option<DeadLetter>,
}

#[derive(Debug)]
pub(super) struct ServiceVerdict {
    pub service_id: i32,
    pub reports: Vec<Report>,
    /// History entry without its key; `None` when nothing changed.
    pub entry: Option<String>,
}

impl Decided {
    /// Services whose history gets entries, in id order: the shell reads their [`history::HistoryHead`]s.
    pub fn changed_services(&self) -> Vec<i32> {
        self.service_ids(|service| service.entry.is_some())
    }

    /// Services that rule 3.8 reached and that have pending changes, in id order: the shell reads these.
    pub fn services_to_clear(&self) -> Vec<i32> {
        self.service_ids(|service| self.with_pending_changes.contains(&service.service_id))
    }

    fn service_ids(&self, counts: impl Fn(&ServiceVerdict) -> bool) -> Vec<i32> {
        let services = self.verdicts.iter().flat_map(|verdict| &verdict.services);
        let ids: BTreeSet<i32> = services.filter(|service| counts(service)).map(|service| service.service_id).collect();
        ids.into_iter().collect()
    }
}

/// Normal forms of the postcodes to look up in `locations` before [`decide`] (rule 5.4): those that differ from a
/// service of their code, or all of a code with several events, as each may change what the next one is held against.
pub fn postcodes_to_look_up<I: Borrow<Input>>(inputs: &[I], state: &DosState) -> BTreeSet<String> {
    let events = || inputs.iter().filter_map(|input| input.borrow().body.event());
    let mut events_of: HashMap<OdsCode, usize> = HashMap::new();
    for event in events() {
        *events_of.entry(event.ods_code).or_default() += 1;
    }
    events()
        .filter_map(|event| {
            let wanted = postcode::normal(event.organisation.postcode.as_deref());
            let services = state.services.get(&event.ods_code)?;
            let differs = services.iter().any(|service| postcode::normal(service.postcode.as_deref()) != wanted);
            let is_needed = !services.is_empty() && (differs || events_of[&event.ods_code] > 1);
            (is_needed && postcode::can_be_looked_up(&wanted)).then_some(wanted)
        })
        .collect()
}

/// Decides the inputs in order, each seeing what the one before it did.
pub fn decide<I: Borrow<Input>>(inputs: &[I], mut state: DosState, moment: Moment) -> Decided {
    let with_pending_changes = std::mem::take(&mut state.with_pending_changes);
    let mut desk = Desk::new(state, moment);
    let verdicts = inputs.iter().map(|input| desk.input(input.borrow())).collect();
    Decided { verdicts, services: desk.services, sequences: desk.raised, moment, with_pending_changes }
}

/// What the decisions are made against, as it changes.
struct Desk {
    sequences: HashMap<OdsCode, i64>,
    raised: BTreeMap<OdsCode, i64>,
    services: HashMap<OdsCode, Vec<Held>>,
    locations: HashMap<String, Vec<Location>>,
    z_code_pairs: BTreeSet<ZCode>,
    moment: Moment,
}

impl Desk {
    fn new(state: DosState, moment: Moment) -> Self {
        let candidates = |(code, services): (OdsCode, Vec<Service>)| {
            let mut services: Vec<Held> = services
                .into_iter()
                .filter(|service| matching::is_candidate(code, service))
                .map(|now| Held { now, before: None })
                .collect();
            services.sort_by_key(|held| held.now.id);
            (code, services)
        };
        Self {
            sequences: state.sequences,
            raised: BTreeMap::new(),
            services: state.services.into_iter().map(candidates).collect(),
            locations: state.locations,
            z_code_pairs: state.z_code_pairs,
            moment,
        }
    }

    fn input(&mut self, input: &Input) -> Verdict {
        match &input.body {
            InputBody::Rejected { reason, detail } => Verdict::rejected(reason, detail),
            InputBody::Event { event, sequence_number } => self.sequenced(event, *sequence_number),
        }
    }

    /// Rule 1.4. An event that cannot be written changes nothing, the sequence number included (rule 6.8).
    fn sequenced(&mut self, event: &ChangeEvent, sequence_number: i64) -> Verdict {
        let accepted = self.sequences.get(&event.ods_code).copied().unwrap_or(0);
        if sequence_number < accepted {
            return Verdict::stale(sequence_number, accepted);
        }
        let verdict = self.event(event);
        let is_refused = verdict.end.as_ref().is_some_and(|end| end.dead_letter.is_some());
        if sequence_number > accepted && !is_refused {
            self.sequences.insert(event.ods_code, sequence_number);
            self.raised.insert(event.ods_code, sequence_number);
        }
        verdict
    }

    /// Section 3.
    fn event(&mut self, event: &ChangeEvent) -> Verdict {
        let Self { services, locations, z_code_pairs, moment, .. } = self;
        let candidates = services.get_mut(&event.ods_code).map_or(&mut [][..], Vec::as_mut_slice);
        if !candidates.iter().any(|held| held.now.is_active()) {
            return Verdict::unmatched(&event.organisation);
        }
        let mut remaining: Vec<&mut Held> =
            candidates.iter_mut().filter(|held| matching::remains(&held.now, event)).collect();
        let matched: Vec<&Service> = remaining.iter().map(|held| &held.now).collect();
        if matching::is_hidden_or_closed(&event.organisation) {
            return Verdict::hidden_or_closed(&matched, &event.organisation);
        }
        let profile = Profile::of(event, moment.today, locations);
        let reports = event_reports(event, &profile, &matched);
        let differences: Vec<Difference> =
            matched.iter().map(|service| compare(&profile, service, z_code_pairs)).collect();
        if let Some(refusal) = differences.iter().find_map(|difference| widths::refusal(&difference.changes)) {
            return Verdict::refused(refusal);
        }
        let services_matched = remaining.len();
        let services = remaining
            .iter_mut()
            .zip(differences)
            .map(|(held, difference)| held.synchronise(difference, &event.organisation, *moment))
            .collect();
        Verdict { reports, services, end: None, services_matched }
    }
}

/// Rules 3.5 to 3.7.
fn event_reports(event: &ChangeEvent, profile: &Profile<'_>, matched: &[&Service]) -> Vec<Report> {
    let organisation = &event.organisation;
    let invalid = profile.hours.is_none().then(|| Report::InvalidOpenTimes {
        organisation: Arc::clone(organisation),
        opening_times: event.opening_times_json.clone(),
        service_uids: matched.iter().map(|service| service.uid.clone()).collect(),
        service_types: matched.iter().map(|service| service.type_name.clone()).collect(),
    });
    let missing =
        matching::missing_service_types(event, matched).into_iter().map(|(what, service)| Report::MissingServiceType {
            service: Arc::new(ServiceFacts::of(service)),
            organisation: Arc::clone(organisation),
            missing: what.name(),
            reason: what.profile_missing(),
        });
    invalid.into_iter().chain(missing).collect()
}

impl Held {
    /// As it was before the batch.
    pub(super) fn as_loaded(&self) -> &Service {
        self.before.as_deref().unwrap_or(&self.now)
    }

    /// Rule 3.8: makes the changes and tells of them.
    fn synchronise(
        &mut self,
        difference: Difference,
        organisation: &Arc<Organisation>,
        moment: Moment,
    ) -> ServiceVerdict {
        let service_id = self.now.id;
        let Difference { changes, notices } = difference;
        if changes.is_empty() && notices.is_empty() {
            return ServiceVerdict { service_id, reports: Vec::new(), entry: None };
        }
        let facts = Arc::new(ServiceFacts::of(&self.now));
        let mut reports: Vec<Report> =
            notices.into_iter().map(|notice| notice_report(notice, &facts, organisation)).collect();
        let keys: Vec<KeyChange> = changes.iter().flat_map(|change| change.keys(&self.now)).collect();
        reports.extend(keys.iter().map(|key| service_update::report(&facts, key)));
        let entry = (!changes.is_empty()).then(|| history::entry(&keys, moment.now));
        self.apply(changes);
        ServiceVerdict { service_id, reports, entry }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() && self.before.is_none() {
            self.before = Some(Box::new(self.now.clone()));
        }
        for change in changes {
            change.apply(&mut self.now);
        }
    }
}

fn notice_report(notice: Notice, service: &Arc<ServiceFacts>, organisation: &Arc<Organisation>) -> Report {
    let (service, organisation) = (Arc::clone(service), Arc::clone(organisation));
    match notice {
        Notice::InvalidPostcode => Report::InvalidPostcode { service, organisation },
        Notice::BankHoliday(periods) => Report::GenericBankHoliday { service, organisation, periods },
        Notice::BlankStandardOpenings => Report::BlankStandardOpenings { service, organisation },
        Notice::Error { reason, info } => Report::GenericChangeEventError { service, reason, info },
    }
}

impl Verdict {
    fn ended(reports: Vec<Report>, outcome: Outcome, dead_letter: Option<DeadLetter>) -> Self {
        Self { reports, end: Some(End { outcome, dead_letter }), ..Self::default() }
    }

    /// Rule 1.3.
    fn rejected(reason: &'static str, detail: &str) -> Self {
        let report = Report::ChangeEventRejected { reason, detail: detail.to_owned() };
        let dead_letter = DeadLetter { reason: reason.to_owned(), detail: detail.to_owned() };
        Self::ended(vec![report], Outcome::Rejected, Some(dead_letter))
    }

    /// Rule 1.4.
    fn stale(sequence_number: i64, accepted: i64) -> Self {
        let detail = format!("Sequence number {sequence_number}, last accepted {accepted}");
        Self::ended(vec![Report::ChangeEventRejected { reason: STALE, detail }], Outcome::Stale, None)
    }

    /// Rule 3.2.
    fn unmatched(organisation: &Arc<Organisation>) -> Self {
        let report = Report::UnmatchedPharmacy { organisation: Arc::clone(organisation) };
        Self::ended(vec![report], Outcome::Unmatched, None)
    }

    /// Rule 3.4.
    fn hidden_or_closed(matched: &[&Service], organisation: &Arc<Organisation>) -> Self {
        let report = |service: &&Service| Report::HiddenOrClosed {
            service: Arc::new(ServiceFacts::of(service)),
            organisation: Arc::clone(organisation),
        };
        let verdict = Self::ended(matched.iter().map(report).collect(), Outcome::HiddenOrClosed, None);
        Self { services_matched: matched.len(), ..verdict }
    }

    /// Rule 6.8.
    fn refused(refusal: DeadLetter) -> Self {
        let report =
            Report::DeadLettered { reason: refusal.reason.clone(), detail: refusal.detail.clone(), attempts: 1 };
        Self::ended(vec![report], Outcome::DeadLettered, Some(refusal))
    }
}
