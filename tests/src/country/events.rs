//! What NHS.uk sends of an organisation: its whole profile at each edit, once in a while wrong, late or not for us.

use chrono::NaiveDate;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::profile::{Profile, phone};
use super::times::{Minutes, change_a_day, short};
use crate::golden_form::Event;

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// One to three events of an organisation, each with the time of its arrival between 0 and 1.
pub(super) fn events_of(profile: &Profile, rng: &mut StdRng) -> Vec<(f64, Event)> {
    let edits = [1, 1, 1, 2, 2, 3][rng.random_range(0..6)];
    let mut profile = profile.clone();
    let mut sequence = rng.random_range(1..500);
    let mut arrival = rng.random_range(0.0..0.9);
    let mut events = Vec::new();
    for edit in 0..edits {
        if edit > 0 {
            make_an_edit(&mut profile, rng);
        }
        let mut event = change_event(&profile, rng);
        spoil(&mut event, rng);
        let correlation_id = Some(format!("made-{}-{edit}", profile.ods_code));
        events.push((arrival, Event { sequence, correlation_id, event: event.to_string() }));
        sequence += rng.random_range(1..20);
        // A few overtake the one before them, which is then stale when it arrives.
        arrival += if rng.random_bool(0.06) { -0.001 } else { 0.002 };
    }
    events
}

/// The event of the next edit.
pub(super) fn edited(profile: &mut Profile, rng: &mut StdRng) -> Value {
    make_an_edit(profile, rng);
    let mut event = change_event(profile, rng);
    spoil(&mut event, rng);
    event
}

/// What a person at a pharmacy changes in one session.
fn make_an_edit(profile: &mut Profile, rng: &mut StdRng) {
    match rng.random_range(0..10) {
        0..=4 => change_a_day(&mut profile.week, rng),
        5..=6 => profile.phone = phone(rng),
        7 => profile.blood_pressure = !profile.blood_pressure,
        8 => profile.lines[1] = format!("Suite {}", rng.random_range(1..20)),
        // Saved again without a change.
        _ => {}
    }
}

/// One event in twelve has something about it.
fn spoil(event: &mut Value, rng: &mut StdRng) {
    match rng.random_range(0..240) {
        0..=2 => event["OrganisationStatus"] = json!("Hidden"),
        3 => event["OrganisationStatus"] = json!("CLOSED"),
        4..=6 => event["ODSCode"] = json!(format!("G{}", &event["ODSCode"].as_str().unwrap_or_default()[1..])),
        7..=8 => event["OrganisationSubType"] = json!("Appliance"),
        9 => event["OrganisationTypeId"] = json!("DEN"),
        10..=12 => event["Postcode"] = json!("QZ99 9ZZ"),
        13 => event["Contacts"] = Value::Null,
        14..=15 => event["Contacts"][1]["ContactValue"] = json!("not a website"),
        16..=17 => event["OpeningTimes"][0]["ClosingTime"] = json!("08:00"),
        18 => event["OpeningTimes"] = json!([]),
        19 => event["Address1"] = json!("the o'neill & sons building"),
        _ => {}
    }
}

fn change_event(profile: &Profile, rng: &mut StdRng) -> Value {
    // Upper case is a habit of some publishers; DoS's form is the same for both.
    let shout = rng.random_bool(0.1);
    let spelled = |text: &str| if shout { text.to_uppercase() } else { text.to_owned() };
    json!({
        "ODSCode": profile.ods_code,
        "OrganisationName": profile.name,
        "OrganisationTypeId": "PHA",
        "OrganisationType": "Pharmacy",
        "OrganisationSubType": profile.sub_type,
        "OrganisationStatus": "Visible",
        "SummaryText": "",
        "URL": format!("https://www.example/services/pharmacy/{}", profile.ods_code),
        "Address1": spelled(&profile.lines[0]),
        "Address2": spelled(&profile.lines[1]),
        "Address3": if rng.random_bool(0.5) { Value::Null } else { json!("") },
        "City": spelled(profile.town),
        "County": spelled(profile.county),
        "Latitude": profile.latitude,
        "Longitude": profile.longitude,
        "Postcode": profile.postcode,
        "Geocode": {"type": "Point", "coordinates": [profile.longitude, profile.latitude]},
        "ParentOrganisation": profile.parent.map(|(code, name)| json!({"ODSCode": code, "OrganisationName": name})),
        "Contacts": contacts(profile),
        "OpeningTimes": opening_times(profile),
        "Services": services(profile),
        "UecServices": profile.palliative_care.map(|offered| {
            if offered { vec![offer("SRV0559", "Pharmacy palliative care medication stockholder")] } else { Vec::new() }
        }),
        "Facilities": facilities(rng),
        "Metrics": [],
        "LastUpdatedDates": {"OpeningTimes": "2026-11-01T10:21:30.123+00:00", "Services": null},
        "Staff": [{"Title": "Ms", "GivenName": "Made", "FamilyName": "Up", "Role": "Superintendent Pharmacist"}],
    })
}

fn contacts(profile: &Profile) -> Vec<Value> {
    let contact = |method: &str, value: &str| {
        json!({
            "ContactType": "Primary",
            "ContactAvailabilityType": "Office hours",
            "ContactMethodType": method,
            "ContactValue": value,
        })
    };
    let (code, number) = profile.phone.split_at(5);
    vec![
        contact("Telephone", &format!("{code} {number}")),
        contact("Website", profile.website.as_deref().unwrap_or_default()),
        contact("Email", &format!("{}@pharmacy.invalid", profile.ods_code.to_lowercase())),
    ]
}

fn opening_times(profile: &Profile) -> Vec<Value> {
    let general = WEEKDAYS.iter().zip(&profile.week).flat_map(|(day, periods)| items(day, "General", "", periods));
    let additional =
        profile.holidays.iter().flat_map(|(date, periods)| items("", "Additional", &written(date), periods));
    general.chain(additional).collect()
}

/// One item a period, or one that says closed.
fn items(weekday: &str, kind: &str, date: &str, periods: &[Minutes]) -> Vec<Value> {
    let item = |opening: Value, closing: Value, times: String, open: bool| {
        json!({
            "Weekday": weekday,
            "OpeningTime": opening,
            "ClosingTime": closing,
            "Times": times,
            "OffsetOpeningTime": 0,
            "OffsetClosingTime": 0,
            "OpeningTimeType": kind,
            "AdditionalOpeningDate": date,
            "IsOpen": open,
        })
    };
    if periods.is_empty() {
        return vec![item(Value::Null, Value::Null, "-".to_owned(), false)];
    }
    let open = periods.iter().map(|(start, end)| (short(*start), short(*end)));
    open.map(|(start, end)| item(json!(start), json!(end), format!("{start}-{end}"), true)).collect()
}

/// `Jan  1 2030`, as NHS.uk writes a date.
fn written(date: &str) -> String {
    date.parse::<NaiveDate>().map(|date| date.format("%b %e %Y").to_string()).unwrap_or_default()
}

fn services(profile: &Profile) -> Vec<Value> {
    let mut services = vec![offer("SRV0001", "Dispensing of prescriptions")];
    if profile.blood_pressure {
        services.push(offer("SRV0560", "NHS Pharmacy Blood Pressure Check Service"));
    }
    if profile.contraception {
        services.push(offer("SRV2000", "NHS Pharmacy Contraception Service"));
    }
    services
}

fn offer(code: &str, name: &str) -> Value {
    json!({
        "ServiceName": name,
        "ServiceDescription": null,
        "ServiceCode": code,
        "Contacts": [],
        "Treatments": null,
        "OpeningTimes": [],
        "AgeRange": [],
    })
}

/// Usually a few; some organisations fill in every form there is, which makes for the large events.
fn facilities(rng: &mut StdRng) -> Vec<Value> {
    let count = if rng.random_bool(0.05) { rng.random_range(60..120) } else { rng.random_range(1..8) };
    let facility =
        |id| json!({"Id": id, "Name": "Wheelchair access", "Value": "Yes", "FacilityGroupName": "Accessibility"});
    (1..=count).map(facility).collect()
}
