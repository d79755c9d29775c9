//! What must not come in and does: each record has its exact outcome, and the partition goes on.

use std::collections::BTreeMap;

use dosi_tests::by_hand::{self, Record as ByHand};
use dosi_tests::http;
use dosi_tests::program::Running;
use dosi_tests::stack::Addresses;
use dosi_tests::topics::{self, Record};
use serde_json::{Value, json};

use crate::bad_records::{
    AVRO_SCHEMA, CODE, Case, Expect, Kept, PLANTED, codes, fields_and_headers, frames, odd_events, values, with,
};
use crate::support_faults::{Outcomes, World, good, record};

const GOOD: &str = "FA001";
const PALLIATIVE_CARE: &str = "SELECT count(*) FROM pathwaysdos.servicesgsds WHERE sdid = 14167";

/// Id of a schema that the registry now has.
pub(crate) fn register(addresses: &Addresses, body: &Value) -> u32 {
    let url = format!("{}/subjects/{}/versions", addresses.schema_registry_url, topics::unique("bad-input"));
    let answer = http::post(&url, "application/vnd.schemaregistry.v1+json", &body.to_string()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str::<Value>(&answer.body).unwrap()["id"].as_u64().unwrap().try_into().unwrap()
}

/// A schema of which every JSON object is a value.
pub(crate) fn any_json() -> Value {
    json!({"schemaType": "JSON", "schema": r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}"#})
}

#[tokio::test]
async fn each_bad_record_has_its_outcome_and_the_partition_goes_on() {
    let addresses = Addresses::from_env().unwrap();
    let json_id = register(&addresses, &any_json());
    let avro_id = register(&addresses, &json!({"schema": AVRO_SCHEMA}));
    let cases: Vec<_> = [values(), codes(), fields_and_headers(), odd_events(), frames(json_id, avro_id)]
        .into_iter()
        .flatten()
        .collect();
    let world = World::bare(addresses, &[GOOD, CODE], 1).await;
    topics::create(&world.addresses, world.dosi.input_topic(), 1, &[("max.message.bytes", "2097152")]).await.unwrap();
    world.dosi.set_up().unwrap();
    world
        .execute(
            "INSERT INTO pathwaysdos.servicesgsds (serviceid, sgid, sdid)
             SELECT id, 360, 14167 FROM pathwaysdos.services WHERE odscode = 'FB001'",
        )
        .await;
    let interleaved: Vec<_> = (0..)
        .zip(&cases)
        .flat_map(|(number, case)| {
            let bad = Record { partition: Some(0), ..case.record.clone() };
            [bad, good(GOOD, number, &format!("0113 {number}"))]
        })
        .collect();
    world.produce(&interleaved).await;

    let running = world.run();
    let outcomes = world.outcomes().await;

    check_log(&running, &outcomes);
    for (offset, case) in (0..).step_by(2).zip(&cases) {
        check(&outcomes, offset, case, &world).await;
        assert_eq!(outcomes.outcome(0, offset + 1).field("outcome"), "UPDATED", "after {}", case.name);
    }
    check_nulls(&outcomes, &cases);
    check_correlation_id(&outcomes, &cases);
    assert_eq!(world.value::<i64>(PALLIATIVE_CARE).await, 1, "a null UecServices leaves palliative care alone");
    let opening_times = opening_times_of(&outcomes, &cases);
    assert_eq!(opening_times.last(), Some(&json!("…[cut]")));
    check_metrics(&running, &outcomes, &cases);
    check_for_personal_data(&running, &outcomes, &world).await;
    let ended = running.stop("TERM").unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

/// Each refused event has one line of its own, by which it is found.
fn check_log(running: &Running, outcomes: &Outcomes) {
    let log = running.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let refused = outcomes
        .audit
        .iter()
        .filter(|record| record.field("outcome") == "REJECTED" || record.field("outcome") == "DEAD_LETTERED");
    for outcome in refused {
        let is_its = |line: &&Value| {
            line["message"] == "event refused" && line["correlation_id"] == *outcome.field("correlation_id")
        };
        let own: Vec<_> = lines.iter().filter(is_its).collect();
        assert_eq!(own.len(), 1, "{outcome:?}");
        assert_eq!((&own[0]["level"], &own[0]["outcome"]), (&json!("WARN"), outcome.field("outcome")));
        assert_eq!(&own[0]["offset"], outcome.field("source_offset"));
        let code = outcome.field("ods_code").as_str().unwrap_or_default();
        assert!(code.starts_with(own[0]["ods_code"].as_str().unwrap_or_default()), "{:?}", own[0]);
        assert_eq!(own[0]["ods_code"].is_string(), !code.is_empty(), "{:?}", own[0]);
    }
}

async fn check(outcomes: &Outcomes, offset: i64, case: &Case, world: &World) {
    let name = case.name;
    let outcome = outcomes.outcome(0, offset);
    check_names(outcome, case);
    let archived = archived(world, offset).await;
    // Named at all, even by an empty text.
    let names_code = case.record.value.as_ref().is_some_and(|_| !case.ods_code.is_null() || name == "0 characters");
    assert_eq!(archived.is_some(), names_code, "{name}: archive");
    let letter = outcomes.dead_letter(0, offset);
    match &case.expect {
        Expect::Outcome(expected) => {
            assert_eq!(outcome.field("outcome"), expected, "{name}");
            assert!(letter.is_none(), "{name}");
        }
        Expect::Rejected { detail, value } => {
            assert_eq!(outcome.field("outcome"), "REJECTED", "{name}");
            let report = outcomes.reports(0, offset, "CHANGE_EVENT_REJECTED")[0];
            check_names(report, case);
            assert_eq!(report.field("reason"), detail[0], "{name}");
            assert_eq!(report.field("detail"), &json!(detail.join("; ")), "{name}");
            assert!(outcomes.reports(0, offset, "DEAD_LETTERED").is_empty(), "{name}");
            let letter = letter.unwrap_or_else(|| panic!("{name}: no dead letter"));
            let message = format!("{}: {}", detail[0], detail.join("; "));
            check_headers(letter, case, &message, world, outcome.field("correlation_id"));
            check_value(letter, case, value);
        }
        Expect::DeadLettered { reason, detail } => {
            assert_eq!(outcome.field("outcome"), "DEAD_LETTERED", "{name}");
            let report = outcomes.reports(0, offset, "DEAD_LETTERED")[0];
            assert_eq!((report.field("reason"), report.field("detail")), (&json!(reason), &json!(detail)), "{name}");
            assert_eq!(report.field("attempts"), 1, "{name}");
            assert_eq!(report.field("dead_letter_topic"), world.dosi.dead_letter_topic(), "{name}");
            let letter = letter.unwrap_or_else(|| panic!("{name}: no dead letter"));
            check_headers(letter, case, &format!("{reason}: {detail}"), world, outcome.field("correlation_id"));
            check_value(letter, case, &Kept::AsItCame);
        }
    }
    if !matches!(&case.expect, Expect::Outcome(_)) {
        for count in ["services_matched", "services_updated", "fields_updated"] {
            assert_eq!(outcome.field(count), 0, "{name}");
        }
    }
}

fn check_names(report: &dosi_tests::audit::Record, case: &Case) {
    let code = report.field("ods_code");
    if case.ods_code == "cut" {
        assert!(code.as_str().unwrap().ends_with("…[cut]"), "{}", case.name);
    } else {
        assert_eq!(code, &case.ods_code, "{}", case.name);
    }
    assert_eq!(report.field("sequence_number"), &case.sequence, "{}", case.name);
    assert!(!report.field("correlation_id").as_str().unwrap().is_empty(), "{}", case.name);
}

async fn archived(world: &World, offset: i64) -> Option<String> {
    let query = "SELECT event FROM dos_integration.change_event_archive WHERE source_offset = $1";
    world.dos.client().query_opt(query, &[&offset]).await.unwrap().map(|row| row.get(0))
}

/// All that came, and where it came from and why.
fn check_headers(letter: &dosi_tests::audit::Record, case: &Case, message: &str, world: &World, correlation: &Value) {
    let name = case.name;
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8(bytes.clone()));
    match text(&case.record.key) {
        None => assert_eq!(letter.key, Value::Null, "{name}"),
        Some(Ok(key)) => assert_eq!(letter.key, json!(key), "{name}"),
        Some(Err(_)) => assert!(letter.key["base64"].is_string(), "{name}"),
    }
    for (header, value) in &case.record.headers {
        let kept = letter.headers.iter().any(|(kept, found)| {
            kept == header
                && std::str::from_utf8(value).map_or(found["base64"].is_string(), |value| *found == json!(value))
        });
        assert!(kept, "{name}: header {header} is not in {:?}", letter.headers);
    }
    let stage = if matches!(case.expect, Expect::Rejected { .. }) { "VALUE_CONVERTER" } else { "TASK_PUT" };
    for (header, value) in [
        ("__connect.errors.topic", world.dosi.input_topic()),
        ("__connect.errors.stage", stage),
        ("__connect.errors.exception.message", message),
        ("dosi.attempts", "1"),
        ("dosi.correlation-id", correlation.as_str().unwrap()),
    ] {
        assert_eq!(letter.header(header), Some(value), "{name}: {header}");
    }
    assert!(letter.header("__connect.errors.exception.class.name").is_some(), "{name}");
}

fn check_value(letter: &dosi_tests::audit::Record, case: &Case, kept: &Kept) {
    let name = case.name;
    let (wanted, omitted) = match kept {
        Kept::AsItCame => (case.record.value.clone(), None),
        Kept::WithoutStaff(value) => (Some(value.clone().into_bytes()), None),
        Kept::Nothing => (None, None),
        Kept::Omitted(why) => (None, Some(*why)),
    };
    assert_eq!(letter.header("dosi.value-omitted"), omitted, "{name}");
    let found = (letter.text.as_ref().filter(|text| !text.is_empty()), letter.base64.as_ref());
    match wanted.filter(|value| !value.is_empty()).map(String::from_utf8) {
        None => assert_eq!(found, (None, None), "{name}"),
        Some(Ok(text)) => assert!(found == (Some(&text), None), "{name}"),
        Some(Err(_)) => assert!(found.1.is_some(), "{name}"),
    }
}

/// Where the record of a case stands: a good event comes after each.
fn offset_of(cases: &[Case], name: &str) -> i64 {
    let index = cases.iter().position(|case| case.name == name).unwrap();
    i64::try_from(2 * index).unwrap()
}

/// As if the fields were not there: an address that cannot be told and no opening times, and nothing else to complain of.
fn check_nulls(outcomes: &Outcomes, cases: &[Case]) {
    let offset = offset_of(cases, "null in every optional field");
    let reports: Vec<_> = outcomes.audit.iter().filter(|record| record.field("source_offset") == offset).collect();
    let keys: Vec<_> = reports.iter().map(|record| record.field("report_key").as_str().unwrap()).collect();
    assert_eq!(keys, ["INVALID_POSTCODE", "BLANK_STANDARD_OPENINGS", "SERVICE_UPDATE", "CHANGE_EVENT_OUTCOME"]);
    for name in ["organisation_name", "organisation_type", "organisation_status", "address_1", "city", "postcode"] {
        assert_eq!(reports[0].field(name), &Value::Null, "{name}");
    }
    assert_eq!(reports[2].field("data_field_modified"), "cmstelephoneno");
}

/// One that is not text is replaced, not mended.
fn check_correlation_id(outcomes: &Outcomes, cases: &[Case]) {
    for name in ["a correlation id and a header that are not text", "a dead letter with headers that are not text"] {
        let outcome = outcomes.outcome(0, offset_of(cases, name));
        let id = uuid::Uuid::parse_str(outcome.field("correlation_id").as_str().unwrap());
        assert_eq!(id.map(|id| id.get_version_num()), Ok(7), "{name}");
    }
}

fn opening_times_of(outcomes: &Outcomes, cases: &[Case]) -> Vec<Value> {
    let report = outcomes.reports(0, offset_of(cases, "10,000 opening items"), "INVALID_OPEN_TIMES")[0];
    let text = report.field("opening_times").as_str().unwrap();
    assert!(text.len() <= 32 * 1024, "{} bytes", text.len());
    serde_json::from_str(text).unwrap()
}

fn check_metrics(running: &Running, outcomes: &Outcomes, cases: &[Case]) {
    let mut letters: BTreeMap<&str, u32> = BTreeMap::new();
    for case in cases {
        match &case.expect {
            Expect::Outcome(_) => {}
            Expect::Rejected { detail, .. } => *letters.entry(detail[0]).or_default() += 1,
            Expect::DeadLettered { reason, .. } => *letters.entry(reason).or_default() += 1,
        }
    }
    for (reason, count) in letters {
        let series = format!("dosi_dead_letters_total{{reason=\"{reason}\"}}");
        assert_eq!(running.metric(&series).unwrap(), Some(f64::from(count)), "{series}");
    }
    for outcome in ["UPDATED", "UNCHANGED", "STALE", "REJECTED", "DEAD_LETTERED"] {
        let series = format!("dosi_change_events_total{{outcome=\"{outcome}\"}}");
        let count = f64::from(u32::try_from(outcomes.count(outcome)).unwrap());
        assert_eq!(running.metric(&series).unwrap(), Some(count), "{series}");
    }
}

async fn check_for_personal_data(running: &Running, outcomes: &Outcomes, world: &World) {
    let planted = |text: &str| text.contains(PLANTED) || text.contains("Zebedee");
    assert!(!planted(&running.log()), "in the log");
    for record in outcomes.audit.iter().chain(&outcomes.dead_letters) {
        assert!(!planted(&format!("{record:?}")), "in {}/{}/{}", record.topic, record.partition, record.offset);
    }
    let archived = "SELECT count(*) FROM dos_integration.change_event_archive WHERE event LIKE '%Zebedee%'";
    assert_eq!(world.value::<i64>(archived).await, 0, "in the archive");
}

/// The client library panics on it. Such a record must not end the process, and its next owner's, and so on.
#[tokio::test]
async fn a_header_whose_name_is_not_text_is_left_out() {
    let world = World::new(&[GOOD, CODE], 1).await;
    let running = world.run();
    let event = with(&json!({}));
    let applied = [(&b"sequence-number"[..], &b"1"[..]), (&[0xff, b'x'], b"lost"), (b"correlation-id", b"kept")];
    let rejected = [(&[0xc3][..], &b"lost"[..]), (b"correlation-id", b"kept, too"), (b"y", b"kept")];
    for headers in [applied, rejected] {
        let record = ByHand { key: CODE.as_bytes(), value: event.as_bytes(), headers: &headers };
        by_hand::produce(&world.addresses, world.dosi.input_topic(), &record).unwrap();
    }
    world.produce(&[good(GOOD, 1, "0113 1")]).await;

    let outcomes = world.outcomes().await;

    let names = |offset| {
        let outcome = outcomes.outcome(0, offset);
        ["outcome", "correlation_id", "sequence_number"].map(|field| outcome.field(field).clone())
    };
    assert_eq!(names(0), [json!("UPDATED"), json!("kept"), json!(1)]);
    assert_eq!(names(1)[0], "REJECTED");
    assert_eq!(outcomes.outcome(0, 2).field("outcome"), "UPDATED");
    let letter = outcomes.dead_letter(0, 1).unwrap();
    assert_eq!((letter.header("y"), letter.header("correlation-id")), (Some("kept"), Some("kept, too")));
    assert!(letter.headers.iter().all(|(_, value)| value != "lost"), "{:?}", letter.headers);
    assert_eq!(running.log().matches("a header whose name is not UTF-8 is left out").count(), 2);
    let ended = running.stop("TERM").unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

/// One large event must not stop all publishing.
#[tokio::test]
async fn a_value_that_the_dead_letter_topic_does_not_take_is_left_out() {
    let world = World::bare(Addresses::from_env().unwrap(), &[GOOD], 1).await;
    let (input, letters) = (world.dosi.input_topic(), world.dosi.dead_letter_topic());
    topics::create(&world.addresses, input, 1, &[]).await.unwrap();
    topics::create(&world.addresses, letters, 1, &[("max.message.bytes", "20000")]).await.unwrap();
    world.dosi.set_up().unwrap();
    // Random, as compression would make it small.
    let padding: String = (0..64_000).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    let large = with(&json!({"OrganisationTypeId": "GPB", "Padding": padding}));
    let fitting = with(&json!({"OrganisationTypeId": "GPB", "Padding": padding[..18_000]}));
    world.produce(&[record(CODE, 1, large), record(CODE, 1, fitting.clone()), good(GOOD, 1, "0113 1")]).await;

    let _running = world.run();
    let outcomes = world.outcomes().await;

    let letter = outcomes.dead_letter(0, 0).unwrap();
    assert_eq!(letter.header("dosi.value-omitted"), Some("too-large"));
    assert_eq!((&letter.text, &letter.base64), (&None, &None));
    assert_eq!(outcomes.dead_letter(0, 1).unwrap().text, Some(fitting));
    assert_eq!(archived(&world, 0).await.map(|event| event.len() > 64_000), Some(true));
    assert_eq!(outcomes.outcome(0, 2).field("outcome"), "UPDATED");
}
