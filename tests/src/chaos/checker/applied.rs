//! DoS, and what dosi keeps beside it, against the core's serial run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::histories::{check_other_writer, new_entries};
use super::orders::{Ending, Orders, all_reports};
use super::published::Audit;
use super::{Columns, Evidence, Expected, Place, Sorted, decide, place, produced, short, sorted};
use crate::audit::Record;
use crate::chaos::other_writer::Write;
use crate::golden_form::Service;
use crate::serial::{COMPARED, Decision, Locations, Organisation, by_postcode, record_words};

/// Services in the serial run's words.
type Rows = BTreeMap<i32, Value>;

/// What the serial run leaves beside DoS.
#[derive(Default)]
struct Beside {
    mails: Vec<String>,
    sequences: BTreeMap<String, i64>,
}

/// Compares everything in the database; tells what must stand in the topics.
pub(super) fn check(evidence: &Evidence, audit: &Audit<'_>, findings: &mut Vec<String>) -> Result<Expected> {
    let rows = actual_rows(evidence, findings);
    let locations = by_postcode(&evidence.before.locations);
    let mut services = by_code(&evidence.before.services);
    let Sorted { of_codes, refused } = sorted(evidence)?;
    archive(evidence, findings);
    let mut expected = Expected::default();
    for (input, decision) in refused {
        expect(&mut expected, place(input), &decision);
    }
    let mut beside = Beside::default();
    for (code, events) in &of_codes {
        let own = services.remove(code.as_str()).unwrap_or_default();
        let code = Code { name: code, services: own, events, evidence, audit, rows: &rows };
        code.check(&locations, &mut expected, &mut beside, findings)?;
    }
    for before in services.into_values().flatten() {
        let untouched = Organisation::new(&[before], &locations, [], evidence.before.today);
        compare_rows(&untouched, &rows, findings)?;
    }
    beside.mails.sort_unstable();
    if beside.mails != evidence.mails {
        findings.push(format!("mails are queued about {:?} and should be about {:?}", evidence.mails, beside.mails));
    }
    for (code, sequence) in &beside.sequences {
        let ours = evidence.sequences.get(code);
        if ours != Some(sequence) {
            findings
                .push(format!("the largest accepted sequence number of {code} is {ours:?} and should be {sequence}"));
        }
    }
    let unknown =
        evidence.sequences.iter().filter(|(code, number)| **number != 0 && !beside.sequences.contains_key(*code));
    findings
        .extend(unknown.map(|(code, number)| format!("{code} has accepted {number} and should have accepted nothing")));
    Ok(expected)
}

/// By the five characters that events can match.
fn by_code(services: &[Service]) -> BTreeMap<&str, Vec<&Service>> {
    let mut by_code: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for service in services {
        let code = service.odscode.as_deref().unwrap_or_default();
        by_code.entry(code.get(..5).unwrap_or(code)).or_default().push(service);
    }
    by_code
}

fn expect(expected: &mut Expected, place: Place, decision: &Decision) {
    expected.reports.insert(place, vec![decision.reports.clone()]);
    if let Some(reason) = &decision.dead_letter {
        expected.dead_letters.insert(place, reason.clone());
    }
}

/// One code with its events.
struct Code<'a> {
    name: &'a str,
    services: Vec<&'a Service>,
    events: &'a BTreeMap<i32, Vec<&'a Record>>,
    evidence: &'a Evidence,
    audit: &'a Audit<'a>,
    rows: &'a Rows,
}

impl Code<'_> {
    fn check(
        &self,
        locations: &Locations<'_>,
        expected: &mut Expected,
        beside: &mut Beside,
        findings: &mut Vec<String>,
    ) -> Result<()> {
        let events = self.events.values().flatten();
        let postcodes: BTreeSet<String> = events.filter_map(|event| postcode(event)).collect();
        let postcodes = postcodes.iter().map(String::as_str);
        let mut organisation = Organisation::new(&self.services, locations, postcodes, self.evidence.before.today);
        if self.events.len() > 1 {
            return self.check_orders(organisation, expected, beside, findings);
        }
        for event in self.events.values().flatten() {
            let decision = decide(&mut organisation, &produced(event)?);
            expect(expected, place(event), &decision);
        }
        compare_rows(&organisation, self.rows, findings)?;
        beside.add(&organisation);
        Ok(())
    }

    /// Some order must explain DoS. Unless events were applied again in another order after a backup was put back, the same
    /// order must explain the audit topic.
    fn check_orders(
        &self,
        organisation: Organisation,
        expected: &mut Expected,
        beside: &mut Beside,
        findings: &mut Vec<String>,
    ) -> Result<()> {
        let again = self.evidence.backups_put_back > 0;
        let reported =
            |place: Place, reports: &[Value]| again || self.words(place).is_none_or(|words| words == reports);
        let orders = Orders { events: self.events, may_be: reported };
        let mut endings: Vec<Ending> = Vec::new();
        let mut right = None;
        orders.search(organisation, &mut |ending| {
            if right.is_none() && self.explains(&ending)? {
                right = Some(endings.len());
            }
            endings.push(ending);
            Ok(right.is_some() && !again)
        })?;
        if again {
            expected.reports.extend(all_reports(&endings));
        }
        let Some(right) = right.and_then(|right| endings.get(right)) else {
            let (name, count) = (self.name, endings.len());
            findings.push(format!("{name}, sent to two partitions: no order explains it ({count} that fit the audit)"));
            return Ok(());
        };
        if !again {
            right.decisions.iter().for_each(|(place, decision)| expect(expected, *place, decision));
        }
        beside.add(&right.organisation);
        Ok(())
    }

    fn words(&self, place: Place) -> Option<Vec<Value>> {
        Some(self.audit.get(&place)?.iter().map(|record| record_words(record)).collect())
    }

    fn explains(&self, ending: &Ending) -> Result<bool> {
        let same_rows = ending.organisation.services()?.iter().all(|(id, row)| self.rows.get(id) == Some(row));
        let sequences = ending.organisation.sequences();
        Ok(same_rows && sequences.iter().all(|(code, number)| self.evidence.sequences.get(code) == Some(number)))
    }
}

impl Beside {
    fn add(&mut self, organisation: &Organisation) {
        self.mails.extend(organisation.mails().iter().map(|mail| mail.change_id.clone()));
        self.sequences.extend(organisation.sequences());
    }
}

fn postcode(event: &Record) -> Option<String> {
    let event: Value = serde_json::from_str(event.text.as_ref()?).ok()?;
    Some(event["Postcode"].as_str()?.to_owned())
}

fn compare_rows(organisation: &Organisation, rows: &Rows, findings: &mut Vec<String>) -> Result<()> {
    for (id, expected) in organisation.services()? {
        let ours = rows.get(&id).unwrap_or(&Value::Null);
        for field in COMPARED.iter().filter(|field| ours[**field] != expected[**field]) {
            let (ours, expected) = (short(&ours[*field]), short(&expected[*field]));
            findings.push(format!("service {id}: {field} is {ours} and should be {expected}"));
        }
    }
    Ok(())
}

/// What DoS holds, with dosi's own new entries of history; what the other writer left is checked on the way.
fn actual_rows(evidence: &Evidence, findings: &mut Vec<String>) -> Rows {
    let mut writes: BTreeMap<i32, Vec<&Write>> = BTreeMap::new();
    for write in &evidence.writes {
        writes.entry(write.service).or_default().push(write);
    }
    let before: BTreeMap<i32, &Service> =
        evidence.before.services.iter().map(|service| (service.id, service)).collect();
    if before.len() != evidence.services.len() {
        findings.push(format!("DoS has {} services and had {}", evidence.services.len(), before.len()));
    }
    let mut rows = Rows::new();
    for after in &evidence.services {
        let Some(before) = before.get(&after.id) else { continue };
        let entries = new_entries(after.id, before.history.as_deref(), after.history.as_deref(), findings);
        let own = writes.remove(&after.id).unwrap_or_default();
        let newest = check_other_writer(after.id, &entries.other, &own, findings);
        check_columns(before, newest, evidence.columns.get(&after.id), findings);
        let mut row = after.fields.clone();
        row["history_new"] = json!(entries.dosi);
        if let Some(fields) = row.as_object_mut() {
            fields.retain(|name, _| COMPARED.contains(&name.as_str()));
        }
        rows.insert(after.id, row);
    }
    rows
}

/// The other writer's columns are as its newest write left them.
fn check_columns(before: &Service, newest: Option<&Write>, ours: Option<&Columns>, findings: &mut Vec<String>) {
    let expected = match newest {
        Some(write) => {
            Columns { fax: Some(write.fax()), email: Some(write.email()), public_name: Some(write.public_name()) }
        }
        None => Columns { fax: None, email: None, public_name: before.publicname.clone() },
    };
    if ours != Some(&expected) {
        findings.push(format!("service {}: the other writer left {expected:?} and there is {ours:?}", before.id));
    }
}

/// Rule 1.5: every event that names a code is archived once, without `Staff`.
fn archive(evidence: &Evidence, findings: &mut Vec<String>) {
    let mut rows: BTreeMap<Place, Vec<&super::Archived>> = BTreeMap::new();
    for row in &evidence.archive {
        rows.entry((row.partition, row.offset)).or_default().push(row);
    }
    for input in &evidence.inputs {
        let place = place(input);
        let expected = archived(input).ok().flatten();
        let ours = rows.remove(&place).unwrap_or_default();
        match (&expected, ours.as_slice()) {
            (None, []) => {}
            (Some(expected), [ours]) if expected == *ours => {}
            _ => findings.push(format!("the archive of {place:?} holds {} rows, not the right one", ours.len())),
        }
    }
    findings.extend(rows.keys().map(|place| format!("the archive holds {place:?}, which the input does not")));
}

fn archived(input: &Record) -> Result<Option<super::Archived>> {
    let Some(mut event) = input.text.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Ok(None);
    };
    let Some(code) = event["ODSCode"].as_str().map(str::to_owned) else { return Ok(None) };
    event.as_object_mut().context("an event is an object")?.remove("Staff");
    Ok(Some(super::Archived {
        partition: input.partition,
        offset: input.offset,
        ods_code: code,
        sequence_number: input.header("sequence-number").and_then(|number| number.parse().ok()),
        correlation_id: input.header("correlation-id").context("an event has an id")?.to_owned(),
        event,
    }))
}
