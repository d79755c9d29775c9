//! The checker can fail: each way in which a run can go wrong is made from a run in which nothing did, and found.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Archived, Before, Columns, Evidence, check, decide, is_of_harness};
use crate::audit::Record;
use crate::chaos::other_writer::{Certainty, Write};
use crate::chaos::workload::{PARTITIONS, Workload};
use crate::dos::After;
use crate::golden_form::{Service, members};
use crate::serial::{Decision, Organisation, by_postcode};
use crate::topics;

const TOPIC: &str = "input";
const EVENTS: usize = 400;

/// What an honest run leaves.
fn honest() -> Evidence {
    static HONEST: LazyLock<Evidence> = LazyLock::new(run_honestly);
    HONEST.clone()
}

/// Over made-up events, in the order in which they were produced.
fn run_honestly() -> Evidence {
    let mut workload = Workload::new(5);
    let (services, locations) = (workload.services(), workload.locations());
    let before = Before { services, locations, today: "2026-11-22".parse().unwrap() };
    let records: Vec<_> = std::iter::repeat_with(|| workload.next_record()).take(EVENTS).collect();
    let mut run = Run::new(&before);
    for record in &records {
        run.event(record);
    }
    run.into_evidence(before.clone())
}

/// An honest dosi in memory.
struct Run<'a> {
    organisations: BTreeMap<String, Organisation>,
    before: &'a Before,
    ends: BTreeMap<i32, i64>,
    inputs: Vec<Record>,
    audit: Vec<Record>,
    dead_letters: Vec<Record>,
    archive: Vec<Archived>,
}

impl<'a> Run<'a> {
    fn new(before: &'a Before) -> Self {
        let ends = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        let (organisations, inputs, audit, dead_letters, archive) = Default::default();
        let mut run = Self { organisations, before, ends, inputs, audit, dead_letters, archive };
        for service in &before.services {
            run.organisation(&service.odscode.as_ref().unwrap()[..5]);
        }
        run
    }

    fn organisation(&mut self, code: &str) -> &mut Organisation {
        let before = self.before;
        self.organisations.entry(code.to_owned()).or_insert_with(|| {
            let own = |service: &&Service| service.odscode.as_ref().unwrap().starts_with(code);
            let services: Vec<_> = before.services.iter().filter(own).collect();
            let postcodes = before.locations.iter().map(|location| location.postcode.as_str());
            Organisation::new(&services, &by_postcode(&before.locations), postcodes, before.today)
        })
    }

    fn event(&mut self, record: &topics::Record) {
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        let partition = record.partition.unwrap_or_else(|| i32::from(key.as_bytes()[3]) % PARTITIONS);
        let end = self.ends.get_mut(&partition).unwrap();
        let offset = std::mem::replace(end, *end + 1);
        let headers = record.headers.iter().map(|(name, value)| (name.clone(), json!(String::from_utf8_lossy(value))));
        let input = Record {
            text: record.value.clone().map(|value| String::from_utf8(value).unwrap()),
            headers: headers.collect(),
            ..blank(TOPIC, partition, offset, json!(key))
        };
        let decision = decide(self.organisation(&key), record);
        self.publish(&input, &decision);
        if let Some(archived) = decision.decoded.archive() {
            self.archive.push(Archived {
                partition,
                offset,
                ods_code: decision.decoded.ods_code.clone().unwrap(),
                sequence_number: decision.decoded.sequence_number,
                correlation_id: decision.decoded.input.correlation_id.clone(),
                event: serde_json::from_str(archived).unwrap(),
            });
        }
        self.inputs.push(input);
    }

    fn publish(&mut self, input: &Record, decision: &Decision) {
        let key = decision.decoded.ods_code.as_ref().map_or(Value::Null, |code| json!(code));
        for (ordinal, words) in decision.reports.iter().enumerate() {
            let Record { partition, offset, timestamp, .. } = input;
            let name = format!("dosi:{TOPIC}/{partition}/{offset}/{timestamp}/{ordinal}");
            let mut fields = fields(words);
            fields.extend([
                ("event_id".to_owned(), json!(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string())),
                ("correlation_id".to_owned(), json!(input.header("correlation-id"))),
                ("source_partition".to_owned(), json!(partition)),
                ("source_offset".to_owned(), json!(offset)),
            ]);
            self.audit.push(Record { avro: Some(fields.into()), ..blank("audit", 0, 0, key.clone()) });
        }
        if decision.dead_letter.is_some() {
            let header = |name: &str, value: i64| (format!("__connect.errors.{name}"), json!(value.to_string()));
            let headers = vec![header("partition", input.partition.into()), header("offset", input.offset)];
            self.dead_letters.push(Record { headers, ..blank("dead", 0, 0, key) });
        }
    }

    fn into_evidence(self, before: Before) -> Evidence {
        let old: HashMap<i32, &Service> = before.services.iter().map(|service| (service.id, service)).collect();
        let rows = self.organisations.values().flat_map(|organisation| organisation.services().unwrap());
        let services: BTreeMap<i32, After> =
            rows.map(|(id, row)| (id, after(id, &row, old[&id].history.as_deref()))).collect();
        let columns = before.services.iter().map(|service| {
            let public_name = service.publicname.clone();
            (service.id, Columns { fax: None, email: None, public_name })
        });
        let mut mails: Vec<_> = self.organisations.values().flat_map(Organisation::mails).collect();
        mails.sort_by_key(|mail| &mail.change_id);
        let mut evidence = Evidence {
            topic: TOPIC.to_owned(),
            made: self.inputs.len(),
            inputs: self.inputs,
            audit: self.audit,
            dead_letters: self.dead_letters,
            services: services.into_values().collect(),
            columns: columns.collect(),
            mails: mails.into_iter().map(|mail| mail.change_id.clone()).collect(),
            sequences: self.organisations.values().flat_map(Organisation::sequences).collect(),
            archive: self.archive,
            positions: self.ends.clone(),
            committed: self.ends.clone(),
            ends: self.ends,
            outbox_rows: 0,
            halted: Vec::new(),
            writes: Vec::new(),
            backups_put_back: 0,
            before,
        };
        let written: Vec<i32> = evidence.services.iter().step_by(3).map(|service| service.id).collect();
        for (number, service) in (1..).zip(written.iter().chain(&written)) {
            write(&mut evidence, Write { number, service: *service, certainty: Certainty::Committed });
        }
        evidence
    }
}

fn blank(topic: &str, partition: i32, offset: i64, key: Value) -> Record {
    Record {
        topic: topic.to_owned(),
        partition,
        offset,
        timestamp: 1_000 + offset,
        key,
        headers: Vec::new(),
        avro: None,
        text: None,
        base64: None,
    }
}

/// The fields of an audit record of which the serial run speaks.
fn fields(words: &Value) -> Map<String, Value> {
    let names: &[&str] = match words[0].as_str().unwrap() {
        "SERVICE_UPDATE" => &["service_uid", "data_field_modified", "new_value"],
        "CHANGE_EVENT_OUTCOME" => &["outcome", "services_matched", "services_updated", "fields_updated"],
        "CHANGE_EVENT_REJECTED" | "DEAD_LETTERED" => &["reason", "detail"],
        "PENDING_CHANGE_REJECTED" => &["change_id"],
        _ => &[],
    };
    let values = names.iter().zip(words[1].as_array().unwrap());
    let mut fields: Map<_, _> = values.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    fields.insert("report_key".to_owned(), words[0].clone());
    fields
}

fn after(id: i32, row: &Value, old: Option<&str>) -> After {
    let mut fields = row.clone();
    let new = fields.as_object_mut().unwrap().remove("history_new").unwrap();
    let mut history = old.map(str::to_owned);
    for entry in new.as_array().unwrap().iter().rev() {
        prepend(&mut history, &json!({"new": entry, "initiator": {"userid": "DOS_INTEGRATION"}}));
    }
    After { id, modified_time: None, history, fields }
}

fn prepend(history: &mut Option<String>, entry: &Value) {
    let old = history.clone().unwrap_or_else(|| "{}".to_owned());
    let entries = members(&old).unwrap();
    let key = entries.first().map_or(2_000_000_000, |(key, _)| key.parse::<i64>().unwrap() + 1);
    let comma = if entries.is_empty() { "" } else { "," };
    *history = Some(format!("{{\"{key}\": {entry}{comma}{}", &old[1..]));
}

/// As the other writer does.
fn write(evidence: &mut Evidence, write: Write) {
    let change = json!({"data": write.public_name()});
    let entry = json!({"new": {"cmspublicname": change}, "initiator": {"userid": "web.application"}});
    prepend(&mut history_of(evidence, write.service).history, &entry);
    let columns =
        Columns { fax: Some(write.fax()), email: Some(write.email()), public_name: Some(write.public_name()) };
    evidence.columns.insert(write.service, columns);
    evidence.writes.push(write);
}

fn history_of(evidence: &mut Evidence, service: i32) -> &mut After {
    evidence.services.iter_mut().find(|after| after.id == service).unwrap()
}

/// The service with the most new entries of dosi's, those as they stand, and the rest of the text.
fn entries_of_busiest(evidence: &Evidence) -> (i32, Vec<String>) {
    let count = |after: &After| after.history.as_deref().unwrap_or_default().matches("DOS_INTEGRATION").count();
    let busiest = evidence.services.iter().max_by_key(|after| count(after)).unwrap();
    let entries = members(busiest.history.as_ref().unwrap()).unwrap();
    (busiest.id, entries.iter().map(|(_, entry)| entry.get().to_owned()).collect())
}

/// With keys that fall.
fn history(entries: &[String], oldest: &str) -> String {
    let numbered = entries.iter().enumerate().map(|(at, entry)| format!("\"{}\": {entry}", 3_000_000_000 - at));
    let new = numbered.collect::<Vec<_>>().join(",");
    format!("{{{new},{}", &oldest[1..])
}

/// Changes dosi's entries of one history.
fn with_entries(evidence: &mut Evidence, change: impl FnOnce(&mut Vec<String>)) {
    let (id, entries) = entries_of_busiest(evidence);
    let old = evidence.before.services.iter().find(|service| service.id == id).unwrap().history.clone().unwrap();
    let mut new = entries[..entries.len() - members(&old).unwrap().len()].to_vec();
    change(&mut new);
    history_of(evidence, id).history = Some(history(&new, &old));
}

/// Positions among the new entries that are dosi's.
fn of_dosi(entries: &[String]) -> Vec<usize> {
    (0..entries.len()).filter(|at| entries[*at].contains("DOS_INTEGRATION")).collect()
}

/// After this change the checker must say this.
fn assert_found(change: impl FnOnce(&mut Evidence), said: &str) {
    let mut evidence = honest();
    change(&mut evidence);
    let findings = check(&evidence).unwrap();
    assert!(findings.iter().any(|finding| finding.contains(said)), "{said:?} is not among {findings:#?}");
}

#[test]
fn an_honest_run_passes() {
    assert_eq!(check(&honest()).unwrap(), Vec::<String>::new());
}

#[test]
fn what_is_published_twice_lost_or_changed_is_found() {
    let outcome = |evidence: &Evidence| {
        let is_outcome = |record: &Record| record.field("report_key") == "CHANGE_EVENT_OUTCOME";
        evidence.audit.iter().rposition(is_outcome).unwrap()
    };
    assert_found(
        |evidence| evidence.audit.push(evidence.audit[outcome(evidence)].clone()),
        "is on the audit topic twice",
    );
    assert_found(|evidence| evidence.audit.push(evidence.audit[outcome(evidence)].clone()), "has 2 outcomes");
    assert_found(|evidence| drop(evidence.audit.remove(outcome(evidence))), "has 0 outcomes");
    assert_found(
        |evidence| {
            let update = evidence.audit.iter().position(|record| record.field("report_key") == "SERVICE_UPDATE");
            evidence.audit.remove(update.unwrap());
        },
        "was reported as",
    );
    assert_found(
        |evidence| evidence.audit[0].avro.as_mut().unwrap()["event_id"] = json!("another"),
        "has event id \"another\"",
    );
}

#[test]
fn audit_out_of_order_is_found() {
    assert_found(
        |evidence| {
            let key = evidence.audit[0].key.clone();
            let (own, mut rest): (Vec<_>, Vec<_>) =
                evidence.audit.drain(..).partition(|record| record.key == key && !key.is_null());
            let mut events: Vec<Vec<Record>> = own
                .chunk_by(|left, right| left.field("source_offset") == right.field("source_offset"))
                .map(<[_]>::to_vec)
                .collect();
            events.swap(0, 1);
            rest.extend(events.into_iter().flatten());
            evidence.audit = rest;
        },
        "stands before",
    );
}

#[test]
fn dead_letters_lost_twice_or_of_sound_events_are_found() {
    assert_found(|evidence| drop(evidence.dead_letters.pop()), "has 0 dead letters, poison: true");
    assert_found(|evidence| evidence.dead_letters.push(evidence.dead_letters[0].clone()), "has 2 dead letters");
    assert_found(
        |evidence| {
            let sound =
                evidence.inputs.iter().find(|input| !input.header("correlation-id").unwrap().starts_with("poison"));
            let (partition, offset) = (sound.unwrap().partition, sound.unwrap().offset);
            evidence.dead_letters[0].headers[0].1 = json!(partition.to_string());
            evidence.dead_letters[0].headers[1].1 = json!(offset.to_string());
        },
        "has 1 dead letters, poison: false",
    );
}

#[test]
fn entries_of_history_lost_twice_or_swapped_are_found() {
    assert_found(
        |evidence| {
            with_entries(evidence, |entries| drop(entries.remove(of_dosi(entries)[0])));
        },
        "history_new is",
    );
    assert_found(
        |evidence| {
            with_entries(evidence, |entries| entries.insert(0, entries[of_dosi(entries)[0]].clone()));
        },
        "history_new is",
    );
    assert_found(
        |evidence| {
            with_entries(evidence, |entries| {
                let own = of_dosi(entries);
                entries.swap(own[0], own[1]);
            });
        },
        "history_new is",
    );
}

#[test]
fn older_history_that_was_touched_is_found() {
    assert_found(
        |evidence| {
            let service = evidence.before.services.iter().find(|service| service.history.is_some()).unwrap();
            let (id, old) = (service.id, service.history.clone().unwrap());
            let now = history_of(evidence, id).history.as_mut().unwrap();
            *now = now.replace(&old[1..], &old[1..].replace("demographic", "clinical"));
        },
        "older history is not as it was",
    );
    assert_found(
        |evidence| {
            let history = evidence.services.iter_mut().find_map(|after| after.history.as_mut()).unwrap();
            *history = format!("{{\"1\": {{\"initiator\": {{\"userid\": \"DOS_INTEGRATION\"}}}},{}", &history[1..]);
        },
        "keys of history do not fall",
    );
}

#[test]
fn writes_of_the_other_writer_that_are_lost_are_found() {
    assert_found(
        |evidence| {
            let write = evidence.writes[0].clone();
            let after = history_of(evidence, write.service);
            let text = after.history.clone().unwrap();
            let name = format!("\"{}\"", write.public_name());
            let kept = members(&text).unwrap().into_iter().filter(|(_, entry)| !entry.get().contains(&name));
            let kept: Vec<_> = kept.map(|(key, entry)| format!("\"{key}\": {entry}")).collect();
            after.history = Some(format!("{{{}}}", kept.join(",")));
            // The text of older entries must stay as it was: only spaces differ.
            let old = evidence.before.services.iter_mut().find(|service| service.id == write.service).unwrap();
            old.history = None;
        },
        "is lost from history",
    );
    assert_found(
        |evidence| {
            let service = evidence.writes[0].service;
            evidence.columns.get_mut(&service).unwrap().fax = None;
        },
        "the other writer left",
    );
    assert_found(
        |evidence| {
            let last = evidence.writes.len() - 1;
            evidence.writes[last].certainty = Certainty::Removed;
        },
        "which a backup took away",
    );
}

#[test]
fn a_write_whose_answer_was_lost_may_be_there_or_not() {
    let mut evidence = honest();
    let service = evidence.writes[0].service;
    write(&mut evidence, Write { number: 9_000, service, certainty: Certainty::Unknown });
    assert_eq!(check(&evidence).unwrap(), Vec::<String>::new());
    let mut evidence = honest();
    evidence.writes.push(Write { number: 9_000, service, certainty: Certainty::Unknown });
    assert_eq!(check(&evidence).unwrap(), Vec::<String>::new());
}

#[test]
fn rows_of_dos_that_are_not_as_they_should_be_are_found() {
    assert_found(|evidence| evidence.services[0].fields["publicphone"] = json!("01632 000000"), "publicphone is");
    assert_found(|evidence| evidence.services[0].fields["opening"]["monday"] = json!([]), "opening is");
    assert_found(
        |evidence| {
            let rejected = |after: &&mut After| after.fields["changes"].to_string().contains("REJECTED");
            let service = evidence.services.iter_mut().find(rejected).unwrap();
            service.fields["changes"][0][1] = json!("PENDING");
        },
        "changes is",
    );
}

#[test]
fn what_dosi_keeps_beside_dos_is_checked() {
    assert_found(|evidence| evidence.mails.push(evidence.mails[0].clone()), "mails are queued");
    assert_found(|evidence| *evidence.sequences.values_mut().next().unwrap() -= 1, "largest accepted sequence number");
    assert_found(|evidence| drop(evidence.archive.pop()), "holds 0 rows");
    assert_found(|evidence| evidence.archive.push(evidence.archive[0].clone()), "holds 2 rows");
    assert_found(|evidence| evidence.archive[0].event["Staff"] = json!([]), "not the right one");
    assert_found(|evidence| *evidence.positions.get_mut(&0).unwrap() -= 1, "positions are");
    assert_found(|evidence| *evidence.committed.get_mut(&0).unwrap() -= 1, "the group's offsets are");
    assert_found(|evidence| evidence.outbox_rows = 1, "the outbox holds");
}

/// A service of a code that was sent to two partitions.
fn split_service(evidence: &Evidence) -> usize {
    let mut partitions: HashMap<&Value, Vec<i32>> = HashMap::new();
    for input in &evidence.inputs {
        partitions.entry(&input.key).or_default().push(input.partition);
    }
    let is_split = |after: &After| {
        let code = evidence.before.services.iter().find(|service| service.id == after.id).unwrap().odscode.clone();
        let partitions = partitions.get(&json!(code));
        partitions.is_some_and(|all| all.len() > 2 && all.iter().any(|one| *one != all[0]))
    };
    evidence.services.iter().position(is_split).unwrap()
}

#[test]
fn a_code_of_two_partitions_must_be_explained_by_some_order() {
    assert_found(
        |evidence| {
            let at = split_service(evidence);
            evidence.services[at].fields["publicphone"] = json!("01632 000000");
        },
        "sent to two partitions",
    );
}

#[test]
fn after_a_backup_was_put_back_every_order_of_such_a_code_is_right_and_nothing_else_is() {
    let mut evidence = honest();
    evidence.backups_put_back = 1;
    assert_eq!(check(&evidence).unwrap(), Vec::<String>::new());
    let at = split_service(&evidence);
    evidence.services[at].fields["publicphone"] = json!("01632 000000");
    assert!(check(&evidence).unwrap().iter().any(|finding| finding.contains("sent to two partitions")));
}

/// An event that the run's own producer sent twice is no defect of dosi.
#[test]
fn what_is_wrong_with_the_run_is_told_apart() {
    let mut evidence = honest();
    evidence.made -= 1;
    let findings = check(&evidence).unwrap();
    assert!(findings.len() == 1 && is_of_harness(&findings[0]), "{findings:?}");
    evidence.made += 1;
    evidence.outbox_rows = 1;
    assert!(!check(&evidence).unwrap().iter().any(|finding| is_of_harness(finding)));
}
