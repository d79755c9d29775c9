//! The golden form of a DoS, an event and a period, and back.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use dosi::{
    domain::{
        batch::Input,
        opening_times::{DayId, Period},
        service::{Creator, Location, PendingChange, Service, SpecifiedDate, ZCode},
    },
    wire::{
        change_event::{Decoded, decode},
        record::InputRecord,
    },
};
use serde_json::{Value, json};

use super::dos::{ChangeRow, Dos, status_name};

const DAYS: [&str; 8] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "bankholiday"];

/// DoS as a golden case has it before its events.
pub(crate) fn dos(case: &Value) -> Dos {
    let today = date(&case["today"]);
    let mut dos = Dos::on(today).with(list(&case["services"]).iter().map(service));
    dos.locations = list(&case["locations"]).iter().map(location).collect();
    for row in list(&case["services"]) {
        let id = int(&row["id"]).unwrap();
        if !row["history"].is_null() {
            dos.histories.insert(id, history_text(&row["history"]));
        }
        dos.changes.extend(list(&row["changes"]).iter().map(|change| change_row(id, change)));
    }
    dos
}

/// An event of a golden case, through the reading of events.
pub(crate) fn input(event: &Value) -> Input {
    decoded(&event["event"], &event["sequence"].to_string()).input
}

/// An event as a plain record, read.
pub(crate) fn decoded(event: &Value, sequence_number: &str) -> Decoded {
    let record = record(event.to_string().as_bytes(), sequence_number);
    decode(&record, Ok(record.value.as_deref().unwrap()))
}

pub(crate) fn record(value: &[u8], sequence_number: &str) -> InputRecord {
    InputRecord {
        topic: "dos.change-events".into(),
        partition: 3,
        offset: 42,
        timestamp_ms: 0,
        key: None,
        value: Some(value.to_vec()),
        headers: vec![
            ("correlation-id".to_owned(), Some(b"test-1".to_vec())),
            ("sequence-number".to_owned(), Some(sequence_number.as_bytes().to_vec())),
        ],
    }
}

/// Newest entry first, as DoS has it; a JSON map of this library sorts its keys the other way.
fn history_text(history: &Value) -> String {
    let entries = history.as_object().unwrap().iter().rev().map(|(key, entry)| format!("\"{key}\": {entry}"));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}

fn service(row: &Value) -> Service {
    let status_id = int(&row["statusid"]).unwrap();
    let type_id = int(&row["typeid"]).unwrap();
    Service {
        id: int(&row["id"]).unwrap(),
        uid: text(&row["uid"]).unwrap(),
        name: text(&row["name"]).unwrap(),
        ods_code: text(&row["odscode"]).unwrap(),
        type_id,
        type_name: format!("Type {type_id}"),
        status_id,
        status_name: status_name(status_id).to_owned(),
        region: text(&row["region"]).unwrap_or_else(|| row["name"].as_str().unwrap().to_owned()),
        address: text(&row["address"]),
        town: text(&row["town"]),
        postcode: text(&row["postcode"]),
        easting: int(&row["easting"]),
        northing: int(&row["northing"]),
        latitude: row["latitude"].as_f64(),
        longitude: row["longitude"].as_f64(),
        phone: text(&row["publicphone"]),
        web: text(&row["web"]),
        opening: opening(&row["opening"]),
        specified: list(&row["specified"]).iter().map(|row| (date(&row["date"]), specified(row))).collect(),
        z_codes: list(&row["zcodes"]).iter().map(z_code).collect(),
    }
}

fn opening(days: &Value) -> BTreeMap<DayId, std::collections::BTreeSet<Period>> {
    let day = |name: &str| DayId((1..).zip(DAYS).find(|(_, day)| *day == name).unwrap().0);
    days.as_object()
        .unwrap()
        .iter()
        .map(|(name, periods)| (day(name), list(periods).iter().map(period).collect()))
        .collect()
}

fn specified(row: &Value) -> SpecifiedDate {
    let closed = row["closed"].as_bool().unwrap();
    SpecifiedDate { rows: 1, closed, periods: list(&row["periods"]).iter().map(period).collect() }
}

fn period(pair: &Value) -> Period {
    let seconds = |time: &Value| {
        let parts: Vec<u32> = time.as_str().unwrap().split(':').map(|part| part.parse().unwrap()).collect();
        parts[0] * 3600 + parts[1] * 60 + parts[2]
    };
    Period { start: seconds(&pair[0]), end: seconds(&pair[1]) }
}

fn z_code(pair: &Value) -> ZCode {
    ZCode { sgid: int(&pair[0]).unwrap(), sdid: int(&pair[1]).unwrap() }
}

fn location(row: &Value) -> Location {
    Location {
        postcode: text(&row[0]).unwrap(),
        easting: int(&row[1]),
        northing: int(&row[2]),
        town: text(&row[3]),
        latitude: row[4].as_f64(),
        longitude: row[5].as_f64(),
    }
}

fn change_row(service_id: i32, row: &Value) -> ChangeRow {
    let username = text(&row["creator"]).unwrap();
    ChangeRow {
        change: PendingChange {
            id: text(&row["id"]).unwrap(),
            service_id,
            value: text(&row["value"]).unwrap(),
            creator: Creator {
                username: username.clone(),
                first_name: "First".to_owned(),
                last_name: "Last".to_owned(),
                email: None,
            },
        },
        status: text(&row["status"]).unwrap(),
        modifier: username,
    }
}

/// A service of DoS in the golden form, as far as events change it.
pub(crate) fn service_row(service: &Service) -> Value {
    let opening: BTreeMap<&str, Value> = service
        .opening
        .iter()
        .map(|(day, periods)| {
            (DAYS[usize::try_from(day.0).unwrap() - 1], periods.iter().copied().map(period_row).collect())
        })
        .collect();
    let specified = |(date, held): (&NaiveDate, &SpecifiedDate)| json!({"date": date.to_string(), "closed": held.closed, "periods": held.periods.iter().copied().map(period_row).collect::<Vec<_>>()});
    json!({
        "id": service.id,
        "address": service.address,
        "town": service.town,
        "postcode": service.postcode,
        "publicphone": service.phone,
        "web": service.web,
        "statusid": service.status_id,
        "easting": service.easting,
        "northing": service.northing,
        "latitude": service.latitude,
        "longitude": service.longitude,
        "opening": opening,
        "specified": service.specified.iter().map(specified).collect::<Vec<_>>(),
        "zcodes": service.z_codes.iter().map(|code| json!([code.sgid, code.sdid])).collect::<Vec<_>>(),
    })
}

fn period_row(period: Period) -> Value {
    let clock = |seconds: u32| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    json!([clock(period.start), clock(period.end)])
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(crate) fn date(value: &Value) -> NaiveDate {
    value.as_str().unwrap().parse().unwrap()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn int(value: &Value) -> Option<i32> {
    value.as_i64().map(|number| i32::try_from(number).unwrap())
}
