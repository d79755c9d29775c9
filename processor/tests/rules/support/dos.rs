//! A DoS in memory that reads and writes as the database does: rows are changed by what the effects say and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use dosi::domain::{
    batch::{
        DateWrites, DosState, Effects, EventDecision, Input, Mail, Moment, RewrittenDate, ServiceWrite, decide, finish,
        postcodes_to_look_up,
    },
    commissioned_services::{Commissioned, z_code_of},
    history::{HistoryHead, prepended},
    matching::offered,
    ods_code::OdsCode,
    postcode,
    service::{Location, PendingChange, Service, SpecifiedDate, ZCode},
};

/// A row of `changes`.
#[derive(Clone, Debug)]
pub(crate) struct ChangeRow {
    pub(crate) change: PendingChange,
    pub(crate) status: String,
    pub(crate) modifier: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Dos {
    pub(crate) services: BTreeMap<i32, Service>,
    pub(crate) histories: BTreeMap<i32, String>,
    /// Histories that were no objects, kept as they were.
    pub(crate) alien_histories: Vec<(i32, String)>,
    pub(crate) changes: Vec<ChangeRow>,
    pub(crate) locations: Vec<Location>,
    pub(crate) z_code_pairs: BTreeSet<ZCode>,
    pub(crate) sequences: HashMap<OdsCode, i64>,
    /// Services whose `modifiedby` is ours by now.
    pub(crate) modified: BTreeSet<i32>,
    pub(crate) mails: Vec<Mail>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) today: NaiveDate,
}

impl Dos {
    pub(crate) fn on(today: NaiveDate) -> Self {
        Self {
            services: BTreeMap::new(),
            histories: BTreeMap::new(),
            alien_histories: Vec::new(),
            changes: Vec::new(),
            locations: Vec::new(),
            z_code_pairs: ZCode::ALL.into(),
            sequences: HashMap::new(),
            modified: BTreeSet::new(),
            mails: Vec::new(),
            now: Utc.from_utc_datetime(&today.and_hms_opt(12, 0, 0).unwrap()),
            today,
        }
    }

    pub(crate) fn with(mut self, services: impl IntoIterator<Item = Service>) -> Self {
        self.services.extend(services.into_iter().map(|service| (service.id, service)));
        self
    }

    /// One batch, from loading to writing.
    pub(crate) fn batch(&mut self, inputs: &[Input]) -> Vec<EventDecision> {
        let (decisions, effects) = self.decide(inputs);
        self.apply(effects);
        decisions
    }

    pub(crate) fn decide(&self, inputs: &[Input]) -> (Vec<EventDecision>, Effects) {
        let state = self.load(inputs);
        self.decide_against(inputs, state)
    }

    pub(crate) fn decide_against(&self, inputs: &[Input], state: DosState) -> (Vec<EventDecision>, Effects) {
        let decided = decide(inputs, state, Moment { now: self.now, today: self.today });
        let heads = decided
            .changed_services()
            .into_iter()
            .filter_map(|id| Some((id, HistoryHead::of(self.histories.get(&id)?))))
            .collect();
        let to_clear = decided.services_to_clear();
        let pending = self
            .changes
            .iter()
            .filter(|row| row.status == "PENDING" && to_clear.contains(&row.change.service_id))
            .map(|row| row.change.clone())
            .collect();
        finish(decided, &heads, pending)
    }

    /// As the database is read: without what no event of these reaches.
    pub(crate) fn load(&self, inputs: &[Input]) -> DosState {
        let codes = offered(inputs.iter().filter_map(|input| input.body.event()));
        self.load_where(inputs, |service, code| {
            let offered = codes[&code];
            let reached = match Commissioned::of_type(service.type_id) {
                Some(Commissioned::BloodPressure) => offered.blood_pressure,
                Some(Commissioned::Contraception) => offered.contraception,
                _ => false,
            };
            (service.is_active() || reached).then(|| {
                let z_code = z_code_of(service).filter(|code| service.z_codes.contains(code));
                Service { z_codes: z_code.into_iter().collect(), ..service.clone() }
            })
        })
    }

    /// With every service of each code.
    pub(crate) fn load_all(&self, inputs: &[Input]) -> DosState {
        self.load_where(inputs, |service, _| Some(service.clone()))
    }

    fn load_where(&self, inputs: &[Input], read: impl Fn(&Service, OdsCode) -> Option<Service>) -> DosState {
        let codes: BTreeSet<OdsCode> = inputs.iter().filter_map(|input| Some(input.body.event()?.ods_code)).collect();
        let pending = self.changes.iter().filter(|row| row.status == "PENDING");
        let mut state = DosState {
            sequences: self.sequences.clone(),
            services: HashMap::new(),
            locations: HashMap::new(),
            z_code_pairs: self.z_code_pairs.clone(),
            with_pending_changes: pending.map(|row| row.change.service_id).collect(),
        };
        for code in codes {
            let services = self.services.values().filter(|service| service.ods_code.starts_with(code.as_str()));
            state.services.insert(code, services.filter_map(|service| read(service, code)).collect());
        }
        for wanted in postcodes_to_look_up(inputs, &state) {
            let probes = postcode::spellings(&wanted);
            let rows = self.locations.iter().filter(|row| probes.contains(&row.postcode)).cloned().collect();
            state.locations.insert(wanted, rows);
        }
        state
    }

    fn apply(&mut self, effects: Effects) {
        self.sequences.extend(effects.sequences);
        for write in effects.services {
            self.modified.insert(write.id);
            apply_write(self.services.get_mut(&write.id).unwrap(), write);
        }
        for id in effects.alien_histories {
            self.alien_histories.push((id, self.histories[&id].clone()));
        }
        for write in effects.histories {
            let history = self.histories.entry(write.service_id).or_default();
            *history = prepended(history, &write);
        }
        for id in effects.rejected_changes {
            let row = self.changes.iter_mut().find(|row| row.change.id == id).unwrap();
            "REJECTED".clone_into(&mut row.status);
            "DOS_INTEGRATION".clone_into(&mut row.modifier);
        }
        self.mails.extend(effects.mails);
    }
}

/// Columns by the flags, children by the lists: what is not named stays.
fn apply_write(service: &mut Service, write: ServiceWrite) {
    if write.columns.address {
        service.address = write.address;
    }
    if write.columns.place {
        service.postcode = write.postcode;
        service.town = write.town;
        (service.easting, service.northing) = (write.easting, write.northing);
        (service.latitude, service.longitude) = (write.latitude, write.longitude);
    }
    if write.columns.phone {
        service.phone = write.phone;
    }
    if write.columns.web {
        service.web = write.web;
    }
    if write.columns.status {
        service.status_id = write.status_id;
        status_name(write.status_id).clone_into(&mut service.status_name);
    }
    for (day, periods) in write.days {
        service.opening.remove(&day);
        if !periods.is_empty() {
            service.opening.insert(day, periods.into_iter().collect());
        }
    }
    write_dates(&mut service.specified, write.dates);
    for code in write.z_codes_added {
        assert!(service.z_codes.insert(code));
    }
    for code in write.z_codes_removed {
        assert!(service.z_codes.remove(&code));
    }
}

fn write_dates(rows: &mut BTreeMap<NaiveDate, SpecifiedDate>, dates: DateWrites) {
    for date in dates.removed {
        rows.remove(&date).expect("a date that is there");
    }
    // All of them by the dates they had: one may take another's.
    let moved: Vec<_> =
        dates.rewritten.into_iter().map(|rewritten| (rewritten.date, rewrite(rows, &rewritten))).collect();
    let added = dates.added.into_iter().map(|(date, periods)| {
        (date, SpecifiedDate { rows: 1, closed: periods.is_empty(), periods: periods.into_iter().collect() })
    });
    for (date, row) in moved.into_iter().chain(added) {
        assert_eq!(rows.insert(date, row), None, "the date's old rows go first");
    }
}

fn rewrite(rows: &mut BTreeMap<NaiveDate, SpecifiedDate>, rewritten: &RewrittenDate) -> SpecifiedDate {
    let mut row = rows.remove(&rewritten.held).expect("a date that is there");
    assert_eq!(row.rows, 1, "what several rows say is not rewritten as one");
    for (was, _) in &rewritten.periods {
        assert!(
            was.map_or_else(|| std::mem::take(&mut row.closed), |was| row.periods.remove(&was)),
            "a row that is there"
        );
    }
    for (_, is) in &rewritten.periods {
        match is {
            Some(is) => assert!(row.periods.insert(*is), "no period twice"),
            None => row.closed = true,
        }
    }
    row
}

pub(crate) fn status_name(id: i32) -> &'static str {
    ["", "active", "closed", "commissioning", "pending", "suspended", "retired", "template"]
        [usize::try_from(id).unwrap()]
}
