//! What DoS holds of an organisation: several services, entered by hand over years, more or less as NHS.uk has them.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

use super::profile::{Profile, phone};
use super::times::{AHEAD, Minutes, PAST, change_a_day, long};
use crate::golden_form::{Change, DAYS, Service, SpecifiedDate};

const ACTIVE: i32 = 1;
const CLOSED: i32 = 2;
const COMMISSIONING: i32 = 3;
const PALLIATIVE_CARE: (i32, i32) = (360, 14167);

/// Services of the generated country begin here.
const FIRST_ID: i32 = 5_000;
/// At most so many for one organisation.
const IDS_EACH: i32 = 4;

/// In id order: the pharmacy itself, then what it is commissioned for.
pub(super) fn services_of(profile: &Profile, rng: &mut StdRng) -> Vec<Service> {
    let own_type = if profile.sub_type == "DistanceSelling" { 134 } else { 13 };
    let mut kinds = vec![(own_type, "", ACTIVE)];
    if has_profile(profile.blood_pressure, rng) {
        kinds.push((148, "BPS", commissioned(profile.blood_pressure, rng)));
    }
    if has_profile(profile.contraception, rng) {
        kinds.push((149, "CON", commissioned(profile.contraception, rng)));
    }
    if rng.random_bool(0.9) {
        kinds.push((132, "M06", ACTIVE));
    }
    // Half of the organisations were looked after lately, and nothing of them has drifted.
    let drifted = rng.random_bool(0.5);
    let first = FIRST_ID + IDS_EACH * i32::try_from(profile.number).unwrap_or_default();
    let numbered = (first..).zip(kinds);
    numbered.map(|(id, (kind, suffix, status))| service(profile, id, kind, suffix, status, drifted, rng)).collect()
}

/// Whoever offers a service was mostly entered for it, and some who do not were too.
fn has_profile(offered: bool, rng: &mut StdRng) -> bool {
    rng.random_bool(if offered { 0.96 } else { 0.3 })
}

/// Mostly as the organisation says; some were never switched.
fn commissioned(offered: bool, rng: &mut StdRng) -> i32 {
    match (offered, rng.random_bool(0.9)) {
        (true, true) | (false, false) => ACTIVE,
        (true, false) => COMMISSIONING,
        (false, true) => CLOSED,
    }
}

fn service(
    profile: &Profile,
    id: i32,
    kind: i32,
    suffix: &str,
    status: i32,
    drifted: bool,
    rng: &mut StdRng,
) -> Service {
    let mut service = Service {
        id,
        uid: (2_000_000_000 + i64::from(id)).to_string(),
        name: if suffix.is_empty() { profile.name.clone() } else { format!("{suffix}: {}", profile.name) },
        publicname: Some(profile.name.clone()),
        odscode: Some(format!("{}{suffix}", profile.ods_code)),
        address: Some([&profile.lines[0], &profile.lines[1], profile.town, profile.county].join("$")),
        town: Some(profile.town.to_uppercase()),
        postcode: Some(profile.postcode.clone()),
        publicphone: Some(profile.phone.clone()),
        web: profile.website.clone(),
        typeid: kind,
        statusid: status,
        region: Some(profile.region.to_owned()),
        easting: Some(profile.easting),
        northing: Some(profile.northing),
        latitude: Some(profile.latitude),
        longitude: Some(profile.longitude),
        opening: opening(&profile.week),
        specified: profile.holidays.iter().map(|(date, periods)| specified_date(date, periods)).collect(),
        zcodes: zcodes(profile, kind, status),
        history: history(rng),
        changes: pending(id, rng),
    };
    if drifted {
        drift(&mut service, profile, rng);
    }
    service
}

fn opening(week: &[Vec<Minutes>; 7]) -> BTreeMap<String, Vec<(String, String)>> {
    let open = DAYS.iter().zip(week).filter(|(_, periods)| !periods.is_empty());
    open.map(|(day, periods)| ((*day).to_owned(), long(periods))).collect()
}

fn specified_date(date: &str, periods: &[Minutes]) -> SpecifiedDate {
    SpecifiedDate { date: date.to_owned(), closed: periods.is_empty(), periods: long(periods) }
}

fn zcodes(profile: &Profile, kind: i32, status: i32) -> Vec<(i32, i32)> {
    match (kind, status) {
        (13, _) if profile.palliative_care == Some(true) => vec![PALLIATIVE_CARE],
        (148, ACTIVE) => vec![(360, 14207)],
        (149, ACTIVE) => vec![(360, 14210)],
        _ => Vec::new(),
    }
}

/// A number of things that were changed in one place and not in the other.
fn drift(service: &mut Service, profile: &Profile, rng: &mut StdRng) {
    if rng.random_bool(0.3) {
        service.publicphone = if rng.random_bool(0.2) { None } else { Some(phone(rng)) };
    }
    if rng.random_bool(0.3) {
        service.web = if rng.random_bool(0.5) { Some(String::new()) } else { Some("www.old-site.example".to_owned()) };
    }
    if rng.random_bool(0.2) {
        service.address = Some([&profile.lines[0], profile.town].join("$"));
    }
    if rng.random_bool(0.05) {
        service.postcode = Some("QZ1 1ZZ".to_owned());
    }
    if rng.random_bool(0.4) {
        let mut week = profile.week.clone();
        change_a_day(&mut week, rng);
        service.opening = opening(&week);
    }
    if rng.random_bool(0.3) {
        service.specified = vec![specified_date(PAST[0], &[]), specified_date(AHEAD[0], &[(600, 720)])];
    }
    if rng.random_bool(0.02) {
        service.opening.insert("bankholiday".to_owned(), long(&[(600, 840)]));
    }
    if service.typeid == 13 && rng.random_bool(0.1) {
        service.zcodes = if service.zcodes.is_empty() { vec![PALLIATIVE_CARE] } else { Vec::new() };
    }
}

/// Up to a dozen entries, newest first; some services have none.
fn history(rng: &mut StdRng) -> Option<String> {
    let entries = rng.random_range(0..13_u32);
    let newest: u32 = rng.random_range(1_500_000_000..1_700_000_000);
    let written: Vec<_> = (0..entries)
        .map(|age| {
            let by = json!({"userid": "dos.lead", "timestamp": "2020-01-01 00:00:00"});
            let change =
                json!({"changetype": "modify", "data": format!("x{age}"), "area": "demographic", "previous": "y"});
            let entry = json!({"new": {"cmsurl": change}, "initiator": by, "approver": by});
            format!("\"{}\":{entry}", newest - age * 2_592_000)
        })
        .collect();
    (entries > 0).then(|| format!("{{{}}}", written.join(",")))
}

/// One service in a hundred waits for someone to approve a change: of a kind that dosi rejects, or of one that it leaves alone.
fn pending(id: i32, rng: &mut StdRng) -> Vec<Change> {
    if !rng.random_bool(0.01) {
        return Vec::new();
    }
    let key = if rng.random_bool(0.7) { "cmsurl" } else { "cmspublicname" };
    let creator = if rng.random_bool(0.5) { "area.manager" } else { "dos.lead" };
    let value = json!({
        "new": {key: {"changetype": "modify", "data": "https://new.example", "previous": ""}},
        "initiator": {"userid": creator, "timestamp": "2026-01-01 00:00:00"},
        "approver": {"userid": "", "timestamp": ""},
    });
    vec![Change {
        id: format!("change-{id}"),
        status: "PENDING".to_owned(),
        creator: creator.to_owned(),
        value: value.to_string(),
    }]
}
