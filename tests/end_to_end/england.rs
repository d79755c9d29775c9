//! A whole country: every event leaves one outcome, and DoS ends as the core's serial run says.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use dosi_tests::country;
use dosi_tests::dos::After;
use dosi_tests::golden_form::{Country, Event, Service, england_folder};
use dosi_tests::serial::{COMPARED, Locations, Organisation, by_postcode, record_words};
use dosi_tests::topics;
use serde_json::{Value, json};

use crate::ending::{Ending, assert_history_grew, assert_same};
use crate::support::{Scene, code_of};

const SEED: u64 = 7;
const TODAY: &str = "2026-11-22";
/// As many as an unoptimised dosi gets through in reasonable time; `DOSI_TEST_BINARY` is an optimised one and gets all.
const EVENTS_UNOPTIMISED: usize = 500;
const WITHIN: Duration = Duration::from_secs(600);

#[tokio::test]
async fn england_ends_as_the_serial_run_says() {
    let mut england = england_folder().map_or_else(
        || {
            eprintln!("England's data is not here: a made-up country of its size instead");
            country::generate(SEED, country::ENGLAND_ORGANISATIONS)
        },
        |folder| Country::read(&folder).unwrap(),
    );
    if std::env::var_os("DOSI_TEST_BINARY").is_none() {
        eprintln!("the first {EVENTS_UNOPTIMISED} of its events; `make england` takes all of them");
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

/// What the core decides, event by event, each code's in the order of the input.
fn as_decided(england: &Country) -> BTreeMap<String, Value> {
    let mut services: HashMap<&str, Vec<&Service>> = HashMap::new();
    for service in &england.services {
        // No event can match a service whose code is shorter.
        let code = service.odscode.as_deref().unwrap_or_default();
        services.entry(code.get(..5).unwrap_or(code)).or_default().push(service);
    }
    let locations = by_postcode(&england.locations);
    assert_eq!(locations.len(), england.locations.len(), "one location a postcode, or their order matters");
    let mut events: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for event in &england.events {
        events.entry(code_of(event)).or_default().push(event);
    }

    let mut parts = BTreeMap::new();
    let mut mails = Vec::new();
    for (code, services) in &services {
        let organisation = decide(services, &events.remove(*code).unwrap_or_default(), &locations, &mut parts);
        for (id, service) in organisation.services().unwrap() {
            parts.insert(service_name(id), service);
        }
        mails.extend(organisation.mails().iter().map(|mail| mail.change_id.clone()));
    }
    for (_, events) in events {
        decide(&[], &events, &locations, &mut parts);
    }
    mails.sort_unstable();
    parts.insert("mails".to_owned(), json!(mails));
    parts
}

fn decide(
    services: &[&Service],
    events: &[&Event],
    locations: &Locations<'_>,
    parts: &mut BTreeMap<String, Value>,
) -> Organisation {
    let postcodes = events.iter().filter_map(|event| {
        let event: Value = serde_json::from_str(&event.event).ok()?;
        Some(event["Postcode"].as_str()?.to_owned())
    });
    let postcodes: Vec<_> = postcodes.collect();
    let mut organisation =
        Organisation::new(services, locations, postcodes.iter().map(String::as_str), TODAY.parse().unwrap());
    for event in events {
        let decision = organisation.apply(&topics::Record::of_event(&code_of(event), event));
        parts.insert(reports_name(event.correlation_id.as_ref().unwrap()), json!(decision.reports));
    }
    organisation
}

fn service_name(id: i32) -> String {
    format!("service {id}")
}

fn reports_name(correlation_id: &str) -> String {
    format!("reports of {correlation_id}")
}
