use std::sync::Arc;

use apache_avro::{reader::datum::GenericDatumReader, types::Value};
use serde_json::{Map, Value as Json, json};

use super::{bounds::*, *};
use crate::{
    domain::{
        audit::{ChangeType, Outcome, ServiceFacts},
        batch::InputBody,
        change_event::Organisation,
    },
    wire::{change_event::decode, record::InputRecord},
};

const SCHEMA_ID: u32 = 0x0102_0304;

fn encoder() -> AuditEncoder {
    AuditEncoder::new(SCHEMA_ID, "test", "dead")
}

fn envelope() -> Envelope<'static> {
    Envelope {
        topic: "in",
        partition: 3,
        offset: 42,
        timestamp_ms: 1_700_000_000_123,
        ods_code: Some("FA123"),
        sequence_number: Some(-7),
        correlation_id: "c-1",
        occurred_at: DateTime::from_timestamp_micros(1_700_000_001_000_456).unwrap(),
    }
}

fn service() -> Arc<ServiceFacts> {
    Arc::new(ServiceFacts {
        id: 5001,
        uid: "2000005001".to_owned(),
        name: "Lords Pharmacy".to_owned(),
        status: "active".to_owned(),
        type_id: 13,
        type_name: "Pharmacy type".to_owned(),
        region: "London".to_owned(),
        address: Some("1 High St$Town".to_owned()),
        postcode: Some("TN1 1AA".to_owned()),
    })
}

fn organisation() -> Arc<Organisation> {
    let text = |text: &str| Some(text.to_owned());
    Arc::new(Organisation {
        name: text("Lords"),
        type_id: text("PHA"),
        type_name: text("Pharmacy"),
        sub_type: text("Community"),
        status: text("Visible"),
        parent_name: text("Parent"),
        address_1: text("1 High St"),
        address_2: text(" "),
        address_3: text("Old Town"),
        city: text("Dover"),
        county: text("Kent"),
        postcode: text("AB1 2CD"),
    })
}

/// Field names with what is not null.
fn decoded(record: &OutputRecord) -> Map<String, Json> {
    let frame = record.value.as_deref().unwrap();
    assert_eq!(frame[..5], [0, 1, 2, 3, 4]);
    let reader = GenericDatumReader::builder(&PARSED_SCHEMA).build().unwrap();
    let Value::Record(fields) = reader.read_value(&mut &frame[5..]).unwrap() else { panic!("no record") };
    let plain = fields.into_iter().map(|(name, value)| (name, plain(value)));
    plain.filter(|(_, value)| !value.is_null()).collect()
}

fn plain(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(number) => json!(number),
        Value::Long(number) => json!(number),
        Value::TimestampMicros(micros) => json!({ "micros": micros }),
        Value::String(text) => json!(text),
        Value::Union(_, inner) => plain(*inner),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => panic!("{other:?}"),
    }
}

fn joined(parts: &[&Json]) -> Map<String, Json> {
    parts.iter().flat_map(|part| part.as_object().unwrap().clone()).collect()
}

fn common() -> Json {
    json!({
        "occurred_at": { "micros": 1_700_000_001_000_456_i64 },
        "received_at": { "micros": 1_700_000_000_123_000_i64 },
        "environment": "test",
        "correlation_id": "c-1",
        "ods_code": "FA123",
        "sequence_number": -7,
        "source_topic": "in",
        "source_partition": 3,
        "source_offset": 42,
    })
}

fn service_fields() -> Json {
    json!({
        "service_id": 5001,
        "service_uid": "2000005001",
        "service_name": "Lords Pharmacy",
        "service_status": "active",
        "service_type_id": 13,
        "service_type": "Pharmacy type",
        "service_region": "London",
        "service_address": "1 High St$Town",
        "service_postcode": "TN1 1AA",
    })
}

/// A blank is kept.
fn organisation_fields() -> Json {
    json!({
        "organisation_name": "Lords",
        "organisation_type_id": "PHA",
        "organisation_type": "Pharmacy",
        "organisation_sub_type": "Community",
        "organisation_status": "Visible",
        "parent_organisation_name": "Parent",
        "address_1": "1 High St",
        "address_2": " ",
        "address_3": "Old Town",
        "city": "Dover",
        "county": "Kent",
        "postcode": "AB1 2CD",
    })
}

fn about_services() -> Vec<(Report, Vec<Json>)> {
    let (service, fields) = (service(), service_fields());
    vec![
        (
            Report::ServiceUpdate {
                service: Arc::clone(&service),
                action: ChangeType::Modify,
                field: "cmsurl",
                previous: Some("https://a".to_owned()),
                new: None,
            },
            vec![
                fields.clone(),
                json!({ "report_key": "SERVICE_UPDATE", "action": "modify", "data_field_modified": "cmsurl", "previous_value": "https://a" }),
            ],
        ),
        (
            Report::GenericChangeEventError {
                service: Arc::clone(&service),
                reason: "why",
                info: Some("x".to_owned()),
            },
            vec![fields.clone(), json!({ "report_key": "GENERIC_CHANGE_EVENT_ERROR", "reason": "why", "detail": "x" })],
        ),
        (
            Report::GenericChangeEventError { service: Arc::clone(&service), reason: "why", info: None },
            vec![fields.clone(), json!({ "report_key": "GENERIC_CHANGE_EVENT_ERROR", "reason": "why" })],
        ),
        (
            Report::PendingChangeRejected { service, change_id: "c-9".to_owned() },
            vec![fields, json!({ "report_key": "PENDING_CHANGE_REJECTED", "change_id": "c-9" })],
        ),
    ]
}

fn about_both() -> Vec<(Report, Vec<Json>)> {
    let (service, organisation) = (service(), organisation());
    let own = [
        (
            Report::HiddenOrClosed { service: Arc::clone(&service), organisation: Arc::clone(&organisation) },
            json!({ "report_key": "HIDDEN_OR_CLOSED" }),
        ),
        (
            Report::MissingServiceType {
                service: Arc::clone(&service),
                organisation: Arc::clone(&organisation),
                missing: "Contraception",
                reason: "none",
            },
            json!({ "report_key": "MISSING_SERVICE_TYPE", "missing_service_type": "Contraception", "reason": "none" }),
        ),
        (
            Report::InvalidPostcode { service: Arc::clone(&service), organisation: Arc::clone(&organisation) },
            json!({ "report_key": "INVALID_POSTCODE", "reason": "Postcode not valid/found on DoS" }),
        ),
        (
            Report::GenericBankHoliday {
                service: Arc::clone(&service),
                organisation: Arc::clone(&organisation),
                periods: "10:00-14:00".to_owned(),
            },
            json!({ "report_key": "GENERIC_BANK_HOLIDAY", "bank_holiday_opening_times": "10:00-14:00" }),
        ),
        (Report::BlankStandardOpenings { service, organisation }, json!({ "report_key": "BLANK_STANDARD_OPENINGS" })),
    ];
    own.into_iter().map(|(report, own)| (report, vec![service_fields(), organisation_fields(), own])).collect()
}

fn about_events() -> Vec<(Report, Vec<Json>)> {
    vec![
        (
            Report::UnmatchedPharmacy { organisation: organisation() },
            vec![organisation_fields(), json!({ "report_key": "UNMATCHED_PHARMACY" })],
        ),
        (
            Report::InvalidOpenTimes {
                organisation: organisation(),
                opening_times: Some(Arc::from("[ {} ]")),
                service_uids: vec!["2".to_owned(), "1".to_owned()],
                service_types: vec!["b".to_owned(), String::new()],
            },
            vec![
                organisation_fields(),
                json!({ "report_key": "INVALID_OPEN_TIMES", "opening_times": "[ {} ]", "matched_service_uids": ["2", "1"], "matched_service_types": ["b", ""] }),
            ],
        ),
        (
            Report::ChangeEventRejected { reason: "Value missing", detail: "d".to_owned() },
            vec![json!({ "report_key": "CHANGE_EVENT_REJECTED", "reason": "Value missing", "detail": "d" })],
        ),
        (
            Report::DeadLettered { reason: "22001".to_owned(), detail: String::new(), attempts: 1 },
            vec![
                json!({ "report_key": "DEAD_LETTERED", "reason": "22001", "attempts": 1, "dead_letter_topic": "dead" }),
            ],
        ),
        (
            Report::Outcome { outcome: Outcome::Stale, services_matched: 0, services_updated: 0, fields_updated: 0 },
            vec![
                json!({ "report_key": "CHANGE_EVENT_OUTCOME", "outcome": "STALE", "services_matched": 0, "services_updated": 0, "fields_updated": 0 }),
            ],
        ),
    ]
}

#[test]
fn every_report_reads_back_field_by_field() {
    let cases: Vec<_> = [about_services(), about_both(), about_events()].into_iter().flatten().collect();
    let reports: Vec<_> = cases.iter().map(|(report, _)| report.clone()).collect();
    let records = encoder().encode(&envelope(), &reports).unwrap();
    assert_eq!(records.len(), cases.len());
    for (ordinal, (record, (report, parts))) in records.iter().zip(&cases).enumerate() {
        let name = format!("dosi:in/3/42/1700000000123/{ordinal}");
        let id = json!({ "event_id": Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string() });
        let mut all = vec![common(), id];
        all.extend(parts.iter().cloned());
        assert_eq!(decoded(record), joined(&all.iter().collect::<Vec<_>>()), "{report:?}");
        assert_eq!(record.key.as_deref(), Some(b"FA123".as_slice()));
        assert_eq!((record.topic, record.source_offset), (OutputTopic::Audit, 42));
    }
}

#[test]
fn what_is_empty_or_not_there_is_null() {
    let service = ServiceFacts { address: Some(String::new()), postcode: None, ..(*service()).clone() };
    let organisation = Organisation { city: None, address_3: Some(String::new()), ..(*organisation()).clone() };
    let (service, organisation) = (Arc::new(service), Arc::new(organisation));
    let record = encoder().encode(&envelope(), &[Report::HiddenOrClosed { service, organisation }]).unwrap().remove(0);
    let fields = decoded(&record);
    for absent in ["service_address", "service_postcode", "city", "address_3"] {
        assert!(!fields.contains_key(absent), "{absent}");
    }
}

/// Interface, section 3: as received, each in its own field. From the event's text to the record: two fields that change
/// places anywhere on that way are seen here.
#[test]
fn an_organisation_is_told_as_it_was_received() {
    let event = json!({
        "ODSCode": "FA123",
        "OrganisationName": "the name",
        "OrganisationTypeId": "PHA",
        "OrganisationType": "the type",
        "OrganisationSubType": "Community",
        "OrganisationStatus": "the status",
        "ParentOrganisation": { "ODSCode": "the parent's code", "OrganisationName": "the parent" },
        "Address1": "address one",
        "Address2": "address two",
        "Address3": "address three",
        "Address4": "address four",
        "City": "the city",
        "County": "the county",
        "Postcode": "the postcode",
    });
    let value = event.to_string().into_bytes();
    let input = InputRecord {
        topic: "in".into(),
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: Some(value.clone()),
        headers: vec![("sequence-number".to_owned(), Some(b"1".to_vec()))],
    };
    let InputBody::Event { event, .. } = decode(&input, Ok(&value)).input.body else { panic!("it is refused") };
    let report = Report::UnmatchedPharmacy { organisation: event.organisation };
    let record = encoder().encode(&envelope(), &[report]).unwrap().remove(0);
    let mut fields = decoded(&record);
    fields.retain(|name, _| !common().as_object().unwrap().contains_key(name) && name != "event_id");
    let expected = json!({
        "report_key": "UNMATCHED_PHARMACY",
        "organisation_name": "the name",
        "organisation_type_id": "PHA",
        "organisation_type": "the type",
        "organisation_sub_type": "Community",
        "organisation_status": "the status",
        "parent_organisation_name": "the parent",
        "address_1": "address one",
        "address_2": "address two",
        "address_3": "address three",
        "city": "the city",
        "county": "the county",
        "postcode": "the postcode",
    });
    assert_eq!(Json::Object(fields), expected);
}

#[test]
fn an_event_without_a_code_has_a_null_key() {
    let envelope = Envelope { ods_code: None, sequence_number: None, ..envelope() };
    let report = Report::ChangeEventRejected { reason: "Value missing", detail: String::new() };
    let record = encoder().encode(&envelope, &[report]).unwrap().remove(0);
    let fields = decoded(&record);
    assert_eq!(record.key, None);
    assert!(!fields.contains_key("ods_code") && !fields.contains_key("sequence_number"));
    assert!(!fields.contains_key("detail"));
}

#[test]
fn a_repair_names_the_new_offset_and_no_input() {
    let repair = PositionSet {
        topic: "in",
        partition: 3,
        offset: 99,
        reason: "made again",
        detail: "position 7",
        occurred_at: envelope().occurred_at,
    };
    let record = encoder().encode_position_set(&repair).unwrap();
    let fields = decoded(&record);
    assert_eq!(record.key, None);
    assert_eq!(fields["report_key"], "POSITION_SET");
    assert_eq!(
        (&fields["source_topic"], &fields["source_partition"], &fields["source_offset"]),
        (&json!("in"), &json!(3), &json!(99))
    );
    assert_eq!((&fields["reason"], &fields["detail"]), (&json!("made again"), &json!("position 7")));
    assert!(!fields.contains_key("received_at"));
    let id: Uuid = fields["event_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
}

#[test]
fn no_record_outgrows_its_bounds() {
    let long = "é".repeat(TEXT_BYTES_MAX);
    let many: Vec<_> = (0..3_000).map(|number| format!("{number}{}", "x".repeat(200))).collect();
    let mut organisation = (*organisation()).clone();
    organisation.name = Some(long.clone());
    let report = Report::InvalidOpenTimes {
        organisation: Arc::new(organisation),
        opening_times: Some(Arc::from(format!("[{}]", vec!["{\"a\": 1}"; 20_000].join(",")))),
        service_uids: many.clone(),
        service_types: many,
    };
    let envelope = Envelope { ods_code: Some(&long), ..envelope() };
    let record = encoder().encode(&envelope, &[report]).unwrap().remove(0);
    assert!(record.value.as_ref().unwrap().len() < 1_000_000);
    assert!(record.key.as_ref().unwrap().len() <= TEXT_BYTES_MAX);
    let fields = decoded(&record);
    let name = fields["organisation_name"].as_str().unwrap();
    assert!(name.len() <= TEXT_BYTES_MAX && name.ends_with(CUT));
    let uids = fields["matched_service_uids"].as_array().unwrap();
    assert_eq!((uids.len(), &uids[ELEMENTS_MAX]), (ELEMENTS_MAX + 1, &json!(CUT)));
    let times: Vec<Json> = serde_json::from_str(fields["opening_times"].as_str().unwrap()).unwrap();
    assert_eq!(times.last(), Some(&json!(CUT)));
}

#[test]
fn fields_that_may_be_absent_default_to_null() {
    assert!(is_of_rows(&PARSED_SCHEMA));
    let Schema::Record(schema) = &*PARSED_SCHEMA else { panic!("no record") };
    let always: Vec<_> =
        schema.fields.iter().filter(|field| field.default.is_none()).map(|field| &field.name).collect();
    assert_eq!(always, ["event_id", "report_key", "occurred_at", "environment", "correlation_id"]);
    assert!(schema.fields.iter().all(|field| field.default.as_ref().is_none_or(Json::is_null)));
}

/// Run with `cargo test --release -p dosi encoding_is_fast -- --ignored --nocapture`.
#[test]
#[ignore = "measures, says little in a debug build"]
fn encoding_is_fast() {
    const ROUNDS: u32 = 20_000;
    let cases: Vec<_> = [about_services(), about_both(), about_events()].into_iter().flatten().collect();
    let reports: Vec<_> = cases.into_iter().map(|(report, _)| report).collect();
    let (encoder, envelope) = (encoder(), envelope());
    let begin = std::time::Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(encoder.encode(&envelope, &reports).unwrap());
    }
    let records = ROUNDS * u32::try_from(reports.len()).unwrap();
    println!("{:?} a record", begin.elapsed() / records);
}
