//! What a run left in DoS, in `dos_integration` and on the topics, and what must hold of every run.

use std::collections::{BTreeMap, BTreeSet};

use dosi_tests::audit::{self, Record};
use dosi_tests::dos::After;
use dosi_tests::golden_form::{Service, members};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Run, Scene, until};

const OUTCOME: &str = "CHANGE_EVENT_OUTCOME";

/// One record of the input with all that it caused.
pub(crate) struct Caused {
    pub(crate) input: Record,
    /// In the order of the audit topic.
    pub(crate) audit: Vec<Record>,
    pub(crate) dead_letters: Vec<Record>,
}

impl Caused {
    pub(crate) fn outcome(&self) -> &Value {
        self.audit.last().map_or(&Value::Null, |last| last.field("outcome"))
    }
}

/// What a run left.
pub(crate) struct Ending {
    pub(crate) services: Vec<After>,
    /// Rows of the mail queue, in order of the change.
    pub(crate) mails: Vec<Value>,
    sequences: Vec<Value>,
    archive: Vec<Value>,
    /// By correlation id, which every event of a scene has to itself.
    pub(crate) events: BTreeMap<String, Caused>,
    audit: Vec<Record>,
}

const MAILS: &str = "SELECT json_build_object('change_id', change_id, 'uid', service_uid, 'name', service_name,
    'creator', creator_username, 'email', creator_email, 'changes', changes, 'correlation_id', correlation_id)::text
    FROM dos_integration.mail_queue ORDER BY change_id, id";
const SEQUENCES: &str = "SELECT json_build_array(ods_code, sequence_number)::text
    FROM dos_integration.accepted_sequence ORDER BY ods_code";
const ARCHIVE: &str = "SELECT json_build_array(source_partition, source_offset, ods_code, sequence_number,
    correlation_id, event::json)::text
    FROM dos_integration.change_event_archive ORDER BY source_partition, source_offset";

impl Ending {
    /// Reads everything, and asserts what is true of every run that has come to its end.
    pub(crate) async fn read(scene: &Scene, run: &Run) -> Self {
        let topics = [&scene.topic, run.dosi.audit_topic(), run.dosi.dead_letter_topic()];
        let is_readable = async || topics[1..].iter().all(|topic| run.group.is_readable(topic));
        until("no transaction is open on the output topics", is_readable).await;
        let records = audit::read(&scene.addresses, &topics).unwrap();
        let of = |topic: &str| records.iter().filter(|record| record.topic == topic).cloned().collect::<Vec<_>>();
        let audit = of(run.dosi.audit_topic());
        let ending = Self {
            services: run.dos.services().await.unwrap(),
            mails: rows(run, MAILS).await,
            sequences: rows(run, SEQUENCES).await,
            archive: rows(run, ARCHIVE).await,
            events: caused(of(&scene.topic), &audit, &of(run.dosi.dead_letter_topic())),
            audit,
        };
        assert_cursors_at_end(run).await;
        ending.assert_each_event_once(&scene.topic);
        ending.assert_order_of_codes();
        ending.assert_archived_once();
        ending
    }

    /// One outcome for each event, the last of its records; ids as the interface has them, none twice.
    fn assert_each_event_once(&self, topic: &str) {
        let mut ids = BTreeSet::new();
        for (correlation_id, event) in &self.events {
            let keys: Vec<_> = event.audit.iter().map(|record| record.field("report_key").as_str().unwrap()).collect();
            let outcomes = keys.iter().filter(|key| **key == OUTCOME).count();
            assert_eq!((outcomes, keys.last()), (1, Some(&OUTCOME)), "{correlation_id}: {keys:?}");
            let Record { partition, offset, timestamp, .. } = &event.input;
            for (ordinal, record) in event.audit.iter().enumerate() {
                let name = format!("dosi:{topic}/{partition}/{offset}/{timestamp}/{ordinal}");
                let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string();
                assert_eq!(record.field("event_id"), &json!(id), "record {ordinal} of {correlation_id}");
                assert!(ids.insert(id), "{correlation_id}");
                assert_eq!(record.key, event.input.key);
                assert_eq!(record.field("correlation_id"), correlation_id.as_str());
                assert_eq!(record.field("received_at"), &json!(timestamp * 1000));
                assert_eq!(record.field("source_topic"), topic);
                assert_eq!(record.field("environment"), "local");
                assert_eq!(
                    record.field("sequence_number").to_string(),
                    event.input.header("sequence-number").unwrap(),
                    "{correlation_id}"
                );
            }
            let rejected = ["REJECTED", "DEAD_LETTERED"].iter().any(|outcome| event.outcome() == outcome);
            assert_eq!(event.dead_letters.len(), usize::from(rejected), "dead letters of {correlation_id}");
        }
        assert_eq!(ids.len(), self.audit.len(), "records that no event of the input caused");
    }

    /// What one ODS code's events caused stands on the audit topic in the order of those events.
    fn assert_order_of_codes(&self) {
        let mut last: BTreeMap<&str, (i64, &Record)> = BTreeMap::new();
        for record in &self.audit {
            let offset = record.field("source_offset").as_i64().unwrap();
            let before = last.insert(record.key.as_str().unwrap(), (offset, record));
            if let Some((before, earlier)) = before {
                assert_eq!(earlier.partition, record.partition, "{}", record.key);
                assert!(before <= offset, "{}: {before} before {offset}", record.key);
            }
        }
    }

    /// Rule 1.5: every event of these names a code.
    fn assert_archived_once(&self) {
        let archived: Vec<_> = self.archive.iter().map(|row| (row[0].as_i64(), row[1].as_i64())).collect();
        let mut inputs: Vec<_> = self.events.values().map(|event| &event.input).collect();
        inputs.sort_by_key(|input| (input.partition, input.offset));
        let expected: Vec<_> =
            inputs.iter().map(|input| (Some(i64::from(input.partition)), Some(input.offset))).collect();
        assert_eq!(archived, expected, "partitions and offsets in the archive");
        for (row, input) in self.archive.iter().zip(inputs) {
            let mut event: Value = serde_json::from_str(input.text.as_ref().unwrap()).unwrap();
            event.as_object_mut().unwrap().remove("Staff");
            assert_eq!(row[5], event, "archived event {}", row[4]);
        }
    }

    /// Everything that must be the same in another run on the same events, each part under a name: all but the moments
    /// and the keys of history, which are made of them.
    pub(crate) fn without_moments(&self, before: &[Service]) -> BTreeMap<String, Value> {
        let mut parts = BTreeMap::new();
        assert_eq!(self.services.len(), before.len());
        for (after, before) in self.services.iter().zip(before) {
            assert_history_grew(after, before);
            parts.insert(format!("service {}", after.id), after.in_golden_form(before).unwrap());
        }
        parts.insert("mails".to_owned(), json!(self.mails));
        parts.insert("sequences".to_owned(), json!(self.sequences));
        parts.insert("archive".to_owned(), json!(self.archive));
        for (correlation_id, event) in &self.events {
            let audit = event.audit.iter().map(|record| {
                let mut fields = record.avro.clone().unwrap();
                fields.as_object_mut().unwrap().remove("occurred_at").unwrap();
                (record.partition, fields)
            });
            parts.insert(format!("audit of {correlation_id}"), json!(audit.collect::<Vec<_>>()));
            let letters = event.dead_letters.iter().map(|record| (&record.key, &record.headers, &record.text));
            parts.insert(format!("dead letters of {correlation_id}"), json!(letters.collect::<Vec<_>>()));
        }
        parts
    }
}

/// Rule 7.1: keys fall, and what was there stands behind them byte for byte.
pub(crate) fn assert_history_grew(after: &After, before: &Service) {
    let Some(history) = &after.history else { return };
    let keys = members(history).unwrap().into_iter().map(|(key, _)| key.parse().unwrap());
    let keys: Vec<i64> = keys.collect();
    assert!(keys.windows(2).all(|pair| pair[0] > pair[1]), "service {}: newest first: {keys:?}", after.id);
    if let Some(before) = before.history.as_ref().filter(|before| before.as_str() != "{}") {
        assert!(history.ends_with(&before[1..]), "older history of service {}", after.id);
    }
}

/// Position, the group's offset and the log's end are the same, and nothing lies between.
async fn assert_cursors_at_end(run: &Run) {
    let read = "SELECT partition, position FROM dos_integration.consumer_position";
    let rows = run.dos.client().query(read, &[]).await.unwrap();
    let positions: BTreeMap<i32, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let ends = run.group.ends();
    assert_eq!(positions, ends, "positions and ends of the log");
    assert_eq!(run.group.committed(), ends, "committed offsets and ends of the log");
    assert_eq!(run.outbox_rows().await, 0, "rows in the outbox");
}

async fn rows(run: &Run, query: &str) -> Vec<Value> {
    let rows = run.dos.client().query(query, &[]).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
}

fn caused(inputs: Vec<Record>, audit: &[Record], dead_letters: &[Record]) -> BTreeMap<String, Caused> {
    let mut by_source: BTreeMap<(i64, i64), Caused> = inputs
        .into_iter()
        .map(|input| {
            let source = (i64::from(input.partition), input.offset);
            (source, Caused { input, audit: Vec::new(), dead_letters: Vec::new() })
        })
        .collect();
    for record in audit {
        let number = |name| record.field(name).as_i64().unwrap();
        let source = (number("source_partition"), number("source_offset"));
        by_source.get_mut(&source).expect("an audit record of an event of this topic").audit.push(record.clone());
    }
    for record in dead_letters {
        let number = |name| record.header(name).unwrap().parse().unwrap();
        let source = (number("__connect.errors.partition"), number("__connect.errors.offset"));
        by_source.get_mut(&source).expect("a dead letter of an event of this topic").dead_letters.push(record.clone());
    }
    let by_id = by_source.into_values().map(|event| (event.input.header("correlation-id").unwrap().to_owned(), event));
    by_id.collect()
}

/// Says which parts differ, not all that they hold.
pub(crate) fn assert_same(ours: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) {
    let names: BTreeSet<_> = ours.keys().chain(expected.keys()).collect();
    let differ: Vec<_> = names.into_iter().filter(|name| ours.get(*name) != expected.get(*name)).collect();
    let shown = differ.iter().take(2).map(|name| {
        let short = |value: Option<&Value>| {
            value.map(Value::to_string).unwrap_or_default().chars().take(3000).collect::<String>()
        };
        format!("{name}\n  ours     {}\n  expected {}", short(ours.get(*name)), short(expected.get(*name)))
    });
    let shown: Vec<_> = shown.collect();
    assert!(differ.is_empty(), "{} parts differ: {differ:?}\n{}", differ.len(), shown.join("\n"));
}
