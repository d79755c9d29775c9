//! The core's serial run: what DoS must hold and what must have been reported after some events, decided one after the
//! other in memory, without a database, a broker or a batch.

use std::collections::HashMap;

use anyhow::{Context, Result};
use chrono::NaiveDate;
use dosi::domain::audit::Report;
use dosi::domain::batch::{DeadLetter, DosState, Effects, EventDecision, Mail, dead_lettered};
use dosi::wire::change_event::{Decoded, decode};
use dosi::wire::record::InputRecord;
use serde_json::{Value, json};

use self::core_support::dos::Dos;
use self::core_support::golden_form::{dos, service_row};
use crate::audit::Record;
use crate::golden_form::{Location, Service, members};
use crate::topics;

/// The core's own tests have DoS in memory; they may panic on what they were given, which is made here.
#[allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "written for the core's tests, which use the rest")]
#[path = "../../processor/tests/rules/support/mod.rs"]
mod core_support;

/// What the golden form and the core's DoS in memory both say of a service.
pub const COMPARED: [&str; 17] = [
    "id",
    "address",
    "town",
    "postcode",
    "publicphone",
    "web",
    "statusid",
    "easting",
    "northing",
    "latitude",
    "longitude",
    "opening",
    "specified",
    "zcodes",
    "modifiedby",
    "history_new",
    "changes",
];

/// Locations by postcode without spaces.
pub type Locations<'a> = HashMap<String, &'a Location>;

/// One location a postcode, or their order would matter.
pub fn by_postcode(locations: &[Location]) -> Locations<'_> {
    locations.iter().map(|location| (without_spaces(&location.postcode), location)).collect()
}

fn without_spaces(postcode: &str) -> String {
    postcode.replace(' ', "").to_uppercase()
}

/// What the core decided about one record.
#[derive(Clone, Debug)]
pub struct Decision {
    /// In the words of [`record_words`], in order.
    pub reports: Vec<Value>,
    /// Why it goes to the dead-letter topic.
    pub dead_letter: Option<String>,
    pub decoded: Decoded,
}

impl Decision {
    /// A record that the database refuses at the first try (rule 9.2).
    pub fn refused(record: &topics::Record, letter: DeadLetter) -> Self {
        Self::of(&dead_lettered(letter, 1), decoded(record))
    }

    fn of(decision: &EventDecision, decoded: Decoded) -> Self {
        Self {
            reports: decision.reports.iter().map(report_words).collect(),
            dead_letter: decision.dead_letter.as_ref().map(|letter| letter.reason.clone()),
            decoded,
        }
    }
}

fn decoded(record: &topics::Record) -> Decoded {
    let record = input(record);
    decode(&record, Ok(record.value.as_deref().unwrap_or_default()))
}

/// The part of DoS that one ODS code's events can see, as they change it.
#[derive(Clone, Debug)]
pub struct Organisation {
    dos: Dos,
    before: Vec<Service>,
}

impl Organisation {
    /// `services`: those whose codes begin with this one; `postcodes`: those that its events name.
    pub fn new<'a>(
        services: &[&Service],
        locations: &Locations<'_>,
        postcodes: impl IntoIterator<Item = &'a str>,
        today: NaiveDate,
    ) -> Self {
        let wanted = postcodes.into_iter().filter_map(|postcode| locations.get(&without_spaces(postcode)));
        // A postcode that two events name stands there twice, which changes nothing.
        let locations: Vec<_> = wanted.map(|row| location_row(row)).collect();
        let rows: Vec<_> = services.iter().map(|service| golden_json(service)).collect();
        let case = json!({"today": today.to_string(), "services": rows, "locations": locations});
        Self { dos: dos(&case), before: services.iter().map(|service| (*service).clone()).collect() }
    }

    /// The next record of this code.
    pub fn apply(&mut self, record: &topics::Record) -> Decision {
        let decoded = decoded(record);
        let decision = self.dos.batch(std::slice::from_ref(&decoded.input)).remove(0);
        Decision::of(&decision, decoded)
    }

    /// What the database would read for a record, for [`Self::decide`].
    pub fn load(&self, decoded: &Decoded) -> DosState {
        self.dos.load(std::slice::from_ref(&decoded.input))
    }

    /// What the core decides about a record; nothing changes.
    pub fn decide(&self, decoded: &Decoded, state: DosState) -> (Vec<EventDecision>, Effects) {
        self.dos.decide_against(std::slice::from_ref(&decoded.input), state)
    }

    /// Its services in id order, each as [`COMPARED`] has it.
    pub fn services(&self) -> Result<Vec<(i32, Value)>> {
        self.before.iter().map(|before| Ok((before.id, self.service(before)?))).collect()
    }

    /// Mails in the order in which they were queued.
    pub fn mails(&self) -> &[Mail] {
        &self.dos.mails
    }

    /// The largest accepted sequence numbers by code.
    pub fn sequences(&self) -> Vec<(String, i64)> {
        self.dos.sequences.iter().map(|(code, number)| (code.to_string(), *number)).collect()
    }

    fn service(&self, before: &Service) -> Result<Value> {
        let mut row = service_row(&self.dos.services[&before.id]);
        let modified_by = if self.dos.modified.contains(&before.id) { "DOS_INTEGRATION" } else { "someone" };
        row["modifiedby"] = json!(modified_by);
        let count = |history: &str| Ok::<_, anyhow::Error>(members(history)?.len());
        let old = before.history.as_deref().map_or(Ok(0), count)?;
        let now = self.dos.histories.get(&before.id).map_or(Ok(Vec::new()), |text| members(text))?;
        let added = now.get(..now.len() - old).context("the core has lost entries of history")?;
        row["history_new"] = added.iter().map(|(_, entry)| new_part(entry.get())).collect::<Result<_>>()?;
        let changes = self.dos.changes.iter().filter(|row| row.change.service_id == before.id);
        row["changes"] = changes.map(|row| json!([row.change.id, row.status, row.modifier])).collect();
        Ok(row)
    }
}

fn new_part(entry: &str) -> Result<Value> {
    let entry: Value = serde_json::from_str(entry)?;
    Ok(entry["new"].clone())
}

/// A produced record as dosi's consumer would hand it on; where it stood does not matter to the core.
pub fn input(record: &topics::Record) -> InputRecord {
    let headers = record.headers.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    InputRecord {
        topic: "serial".into(),
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: headers.collect(),
    }
}

fn location_row(row: &Location) -> Value {
    json!([row.postcode, row.easting, row.northing, row.postaltown, row.latitude, row.longitude])
}

fn golden_json(service: &Service) -> Value {
    let dates = service.specified.iter();
    let specified: Vec<_> =
        dates.map(|date| json!({"date": date.date, "closed": date.closed, "periods": date.periods})).collect();
    let rows = service.changes.iter();
    let changes: Vec<_> = rows
        .map(|row| json!({"id": row.id, "status": row.status, "creator": row.creator, "value": row.value}))
        .collect();
    // An object by the form's own rule; what is none becomes null, as a service without history.
    let history = service.history.as_ref().and_then(|history| serde_json::from_str::<Value>(history).ok());
    json!({
        "id": service.id, "uid": service.uid, "name": service.name, "odscode": service.odscode,
        "address": service.address, "town": service.town, "postcode": service.postcode,
        "publicphone": service.publicphone, "web": service.web, "typeid": service.typeid,
        "statusid": service.statusid, "region": service.region, "easting": service.easting,
        "northing": service.northing, "latitude": service.latitude, "longitude": service.longitude,
        "opening": service.opening, "zcodes": service.zcodes, "specified": specified, "history": history,
        "changes": changes,
    })
}

/// A report of the core in the words of [`record_words`].
fn report_words(report: &Report) -> Value {
    let words = match report {
        Report::ServiceUpdate { service, field, new, .. } => json!([service.uid, field, new]),
        Report::Outcome { outcome, services_matched, services_updated, fields_updated } => {
            json!([outcome.as_str(), services_matched, services_updated, fields_updated])
        }
        Report::ChangeEventRejected { reason, detail } => json!([reason, detail]),
        Report::DeadLettered { reason, detail, .. } => json!([reason, detail]),
        Report::PendingChangeRejected { change_id, .. } => json!([change_id]),
        _ => json!([]),
    };
    json!([report.key(), words])
}

/// A record of the audit topic in words that the core's reports have, too.
pub fn record_words(record: &Record) -> Value {
    let fields = |names: &[&str]| names.iter().map(|name| record.field(name).clone()).collect::<Value>();
    let key = record.field("report_key");
    let words = match key.as_str().unwrap_or_default() {
        "SERVICE_UPDATE" => fields(&["service_uid", "data_field_modified", "new_value"]),
        "CHANGE_EVENT_OUTCOME" => fields(&["outcome", "services_matched", "services_updated", "fields_updated"]),
        "CHANGE_EVENT_REJECTED" | "DEAD_LETTERED" => fields(&["reason", "detail"]),
        "PENDING_CHANGE_REJECTED" => fields(&["change_id"]),
        _ => json!([]),
    };
    json!([key, words])
}
