//! A whole country: every event leaves one outcome, and DoS ends as the core's serial run says.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use dosi::domain::audit::Report;
use dosi_tests::audit::Record;
use dosi_tests::dos::After;
use dosi_tests::golden_form::{Country, Event, Location, Service, england_folder, members};
use serde_json::{Value, json};

use crate::core_support::dos::Dos;
use crate::core_support::golden_form::{dos, input, service_row};
use crate::ending::{Ending, assert_history_grew, assert_same};
use crate::support::{Scene, code_of};

const TODAY: &str = "2026-11-22";
/// As many as an unoptimised dosi gets through in reasonable time; `DOSI_TEST_BINARY` is an optimised one and gets all.
const EVENTS_UNOPTIMISED: usize = 500;
const WITHIN: Duration = Duration::from_secs(600);

#[tokio::test]
async fn england_ends_as_the_serial_run_says() {
    let Some(folder) = england_folder() else { return };
    let mut england = Country::read(&folder).unwrap();
    if std::env::var_os("DOSI_TEST_BINARY").is_none() {
        eprintln!("the first {EVENTS_UNOPTIMISED} of England's events; with DOSI_TEST_BINARY all of them");
        england.events.truncate(EVENTS_UNOPTIMISED);
    }
    let scene = Scene::set(&england.services, &england.locations, &england.events, TODAY).await;
    let run = scene.new_run().await;
    run.to_end(WITHIN);

    let ending = Ending::read(&scene, &run).await;

    assert_eq!(ending.events.len(), england.events.len());
    assert_same(&as_ended(&ending, &england.services), &as_decided(&england));
}

/// What the whole program left, each part under a name.
fn as_ended(ending: &Ending, before: &[Service]) -> BTreeMap<String, Value> {
    let mut parts = BTreeMap::new();
    for (after, before) in ending.services.iter().zip(before) {
        assert_history_grew(after, before);
        parts.insert(service_name(after.id), ended_service(after, before));
    }
    for (correlation_id, event) in &ending.events {
        let reports: Value = event.audit.iter().map(record_words).collect();
        parts.insert(reports_name(correlation_id), reports);
    }
    parts.insert("mails".to_owned(), ending.mails.iter().map(|mail| mail["change_id"].clone()).collect());
    parts
}

fn ended_service(after: &After, before: &Service) -> Value {
    let form = after.in_golden_form(before).unwrap();
    // Columns that no rule writes are read all the same: they must be as they were.
    assert_eq!((form["uid"].as_str(), form["name"].as_str()), (Some(&*before.uid), Some(&*before.name)));
    assert_eq!(form["odscode"].as_str(), before.odscode.as_deref());
    let mut kept = form.clone();
    kept.as_object_mut().unwrap().retain(|name, _| COMPARED.contains(&name.as_str()));
    kept
}

/// What the golden form and the core's DoS in memory both say of a service.
const COMPARED: [&str; 17] = [
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

/// What the core decides, event by event, each code's in the order of the input.
fn as_decided(england: &Country) -> BTreeMap<String, Value> {
    let mut services: HashMap<&str, Vec<&Service>> = HashMap::new();
    for service in &england.services {
        // No event can match a service whose code is shorter.
        let code = service.odscode.as_deref().unwrap_or_default();
        services.entry(code.get(..5).unwrap_or(code)).or_default().push(service);
    }
    let locations: HashMap<String, &Location> =
        england.locations.iter().map(|location| (without_spaces(&location.postcode), location)).collect();
    assert_eq!(locations.len(), england.locations.len(), "one location a postcode, or their order matters");
    let mut events: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for event in &england.events {
        events.entry(code_of(event)).or_default().push(event);
    }

    let mut parts = BTreeMap::new();
    let mut mails = Vec::new();
    for (code, services) in &services {
        let events = events.remove(*code).unwrap_or_default();
        let mut dos = in_memory(services, &events, &locations);
        decide(&mut dos, &events, &mut parts);
        for before in services {
            parts.insert(service_name(before.id), decided_service(&dos, before));
        }
        mails.extend(dos.mails.into_iter().map(|mail| mail.change_id));
    }
    for (_, events) in events {
        decide(&mut in_memory(&[], &events, &locations), &events, &mut parts);
    }
    mails.sort_unstable();
    parts.insert("mails".to_owned(), json!(mails));
    parts
}

fn decide(dos: &mut Dos, events: &[&Event], parts: &mut BTreeMap<String, Value>) {
    for event in events {
        let body: Value = serde_json::from_str(&event.event).unwrap();
        let decisions = dos.batch(&[input(&json!({"event": body, "sequence": event.sequence}))]);
        let reports = decisions[0].reports.iter().map(report_words).collect();
        parts.insert(reports_name(event.correlation_id.as_ref().unwrap()), reports);
    }
}

/// The part of DoS that one code's events can see.
fn in_memory(services: &[&Service], events: &[&Event], locations: &HashMap<String, &Location>) -> Dos {
    let wanted = events.iter().filter_map(|event| {
        let event: Value = serde_json::from_str(&event.event).ok()?;
        locations.get(&without_spaces(event["Postcode"].as_str()?)).copied()
    });
    let location =
        |row: &Location| json!([row.postcode, row.easting, row.northing, row.postaltown, row.latitude, row.longitude]);
    // A postcode that two events name stands there twice, which changes nothing.
    let locations: Vec<_> = wanted.map(location).collect();
    let services: Vec<_> = services.iter().map(|service| golden_json(service)).collect();
    dos(&json!({"today": TODAY, "services": services, "locations": locations}))
}

fn golden_json(service: &Service) -> Value {
    let specified = service.specified.iter();
    let changes = service.changes.iter();
    json!({
        "id": service.id, "uid": service.uid, "name": service.name, "odscode": service.odscode,
        "address": service.address, "town": service.town, "postcode": service.postcode,
        "publicphone": service.publicphone, "web": service.web, "typeid": service.typeid,
        "statusid": service.statusid, "region": service.region, "easting": service.easting,
        "northing": service.northing, "latitude": service.latitude, "longitude": service.longitude,
        "opening": service.opening, "zcodes": service.zcodes,
        "specified": specified.map(|date| json!({"date": date.date, "closed": date.closed, "periods": date.periods})).collect::<Vec<_>>(),
        "history": service.history.as_ref().map(|history| serde_json::from_str::<Value>(history).unwrap()),
        "changes": changes.map(|change| json!({"id": change.id, "status": change.status, "creator": change.creator, "value": change.value})).collect::<Vec<_>>(),
    })
}

fn decided_service(dos: &Dos, before: &Service) -> Value {
    let mut row = service_row(&dos.services[&before.id]);
    let modified_by = if dos.modified.contains(&before.id) { "DOS_INTEGRATION" } else { "someone" };
    row["modifiedby"] = json!(modified_by);
    let entries = |history: Option<&String>| history.map(|text| members(text).unwrap()).unwrap_or_default();
    let (old, now) = (entries(before.history.as_ref()), entries(dos.histories.get(&before.id)));
    let added = now[..now.len() - old.len()].iter().map(|(_, entry)| {
        let entry: Value = serde_json::from_str(entry.get()).unwrap();
        entry["new"].clone()
    });
    row["history_new"] = added.collect();
    let changes = dos.changes.iter().filter(|row| row.change.service_id == before.id);
    row["changes"] = changes.map(|row| json!([row.change.id, row.status, row.modifier])).collect();
    row
}

/// A report of the core, and a record of the audit topic, in the same words, in order.
fn report_words(report: &Report) -> Value {
    let words = match report {
        Report::ServiceUpdate { service, field, new, .. } => json!([service.uid, field, new]),
        Report::Outcome { outcome, services_matched, services_updated, fields_updated } => {
            json!([outcome.as_str(), services_matched, services_updated, fields_updated])
        }
        _ => json!([]),
    };
    json!([report.key(), words])
}

fn record_words(record: &Record) -> Value {
    let fields = |names: &[&str]| names.iter().map(|name| record.field(name).clone()).collect::<Value>();
    let key = record.field("report_key");
    let words = match key.as_str().unwrap() {
        "SERVICE_UPDATE" => fields(&["service_uid", "data_field_modified", "new_value"]),
        "CHANGE_EVENT_OUTCOME" => fields(&["outcome", "services_matched", "services_updated", "fields_updated"]),
        _ => json!([]),
    };
    json!([key, words])
}

fn service_name(id: i32) -> String {
    format!("service {id}")
}

fn reports_name(correlation_id: &str) -> String {
    format!("reports of {correlation_id}")
}

fn without_spaces(postcode: &str) -> String {
    postcode.replace(' ', "").to_uppercase()
}
