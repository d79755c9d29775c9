//! Sections 5, 6 and 8: what changes on a service, what is written, and in which words it is told.

use std::collections::BTreeSet;

use dosi::domain::{
    audit::{Outcome, Report, ServiceFacts},
    opening_times::{DayId, Notation, Written},
    service::{Location, Service, ZCode},
};
use itertools::Itertools as _;
use serde_json::{Value, json};

use crate::support::examples::{
    closed, counts, dos, errors, event, event_with, event_without, hours, keys, location, newest_entry, open, periods,
    pharmacy, run, service_of_type, services, updates, with_phone, with_website,
};

fn with_web(web: Option<&str>) -> Service {
    Service { web: web.map(str::to_owned), ..pharmacy(1) }
}

fn with_postcode(postcode: Option<&str>) -> Service {
    Service { postcode: postcode.map(str::to_owned), ..pharmacy(1) }
}

#[test]
fn an_event_that_says_what_dos_has_changes_nothing() {
    let mut dos = dos([pharmacy(1)]);
    let decision = run(&mut dos, &event());
    assert_eq!((decision.outcome, keys(&decision).len(), counts(&decision)), (Outcome::Unchanged, 0, (1, 0, 0)));
    assert!(dos.modified.is_empty() && dos.histories.is_empty());
}

#[test]
fn rule_5_1_fix_a_blank_website_against_a_blank_one_is_no_change() {
    for blank in [json!(null), json!(""), json!(" \t"), json!("\u{a0}")] {
        for held in [None, Some(""), Some("  ")] {
            let decision = run(&mut dos([with_web(held)]), &with_website(blank.clone()));
            assert_eq!(decision.outcome, Outcome::Unchanged, "{blank} against {held:?}");
        }
        let mut dos = dos([with_web(Some("www.old.co.uk"))]);
        assert_eq!(updates(&run(&mut dos, &with_website(blank))), [("cmsurl", "delete", Some("www.old.co.uk"), None)]);
        assert_eq!(dos.services[&1].web.as_deref(), Some(""));
        let entry = json!({"changetype": "delete", "data": null, "area": "demographic", "previous": "www.old.co.uk"});
        assert_eq!(newest_entry(&dos, 1)["cmsurl"], entry);
    }
}

#[test]
fn rule_5_1_null_is_added_to_and_an_empty_text_is_modified() {
    for (held, action, previous) in [(None, "add", None), (Some(""), "modify", None), (Some(" "), "modify", Some(" "))]
    {
        let mut dos = dos([with_web(held)]);
        let decision = run(&mut dos, &with_website("Http://WWW.Test.com/B#"));
        assert_eq!(updates(&decision), [("cmsurl", action, previous, Some("http://www.test.com/B"))], "{held:?}");
        assert_eq!(newest_entry(&dos, 1)["cmsurl"].get("previous").and_then(Value::as_str), held);
    }
}

#[test]
fn rule_5_1_what_equals_dos_is_no_change_valid_or_not_and_what_is_not_valid_is_reported() {
    let same = run(&mut dos([with_web(Some("not valid"))]), &with_website("Not valid"));
    assert_eq!((same.outcome, errors(&same).len()), (Outcome::Unchanged, 0));
    let decision = run(&mut dos([with_web(None)]), &with_website("Not valid"));
    assert_eq!(errors(&decision), ["Website is not valid"]);
    let Report::GenericChangeEventError { info, .. } = &decision.reports[0] else { panic!() };
    assert_eq!(info.as_deref(), Some("Not valid"), "as it was received, not in the form of DoS");
    assert_eq!((decision.outcome, counts(&decision)), (Outcome::Unchanged, (1, 0, 0)));
}

#[test]
fn rule_5_2_fix_a_blank_phone_against_a_blank_one_is_no_change() {
    let held = |phone: Option<&str>| Service { phone: phone.map(str::to_owned), ..pharmacy(1) };
    for blank in [json!(null), json!(""), json!("   "), json!("\t")] {
        for phone in [None, Some(""), Some(" ")] {
            assert_eq!(run(&mut dos([held(phone)]), &with_phone(blank.clone())).outcome, Outcome::Unchanged);
        }
        let mut dos = dos([held(Some("0113"))]);
        assert_eq!(updates(&run(&mut dos, &with_phone(blank))), [("cmstelephoneno", "delete", Some("0113"), None)]);
        assert_eq!(dos.services[&1].phone.as_deref(), Some(""));
    }
}

#[test]
fn rule_5_2_spaces_are_taken_from_the_events_number_only() {
    let held = Service { phone: Some("0113 496000".to_owned()), ..pharmacy(1) };
    let decision = run(&mut dos([held]), &with_phone(" 0113 496 000"));
    assert_eq!(updates(&decision), [("cmstelephoneno", "modify", Some("0113 496000"), Some("0113496000"))]);
    let decision = run(&mut dos([pharmacy(1)]), &with_phone("0113\t496000"));
    assert_eq!(updates(&decision)[0].3, Some("0113\t496000"));
}

#[test]
fn rule_5_3_an_address_is_compared_in_the_form_of_dos() {
    let event = event_with(
        json!({"Address1": "o'neill's & sons", "Address2": " ", "Address3": null, "Address4": "yard$2", "City": 5, "County": "château"}),
    );
    let decision = run(&mut dos([pharmacy(1)]), &event);
    let expected = "OneillS and Sons$Yard$2$ChâTeau";
    assert_eq!(updates(&decision), [("postaladdress", "modify", Some("1 High Street$Leeds"), Some(expected))]);
}

#[test]
fn rule_5_3_fix_a_blank_address_is_reported_and_left_alone() {
    let blank = json!({"Address1": " ", "City": "'"});
    for held in [Some("1 High Street"), Some(""), None] {
        let mut dos = dos([Service { address: held.map(str::to_owned), ..pharmacy(1) }]);
        let decision = run(&mut dos, &event_with(blank.clone()));
        assert_eq!((decision.outcome, errors(&decision)), (Outcome::Unchanged, vec!["Address is blank"]));
        assert_eq!(dos.services[&1].address.as_deref(), held);
    }
    let mut dropped = blank;
    dropped["Postcode"] = json!("XX1 1XX");
    let decision = run(&mut dos([pharmacy(1)]), &event_with(dropped));
    assert_eq!(keys(&decision), ["INVALID_POSTCODE"], "rule 5.4 drops the address");
}

#[test]
fn rule_5_4_spelling_alone_is_no_change() {
    for (ours, theirs) in [("LS14AP", "LS1 4AP"), ("LS1 4AP", "ls1 4ap"), ("ls14ap", "L S 1 4 A P")] {
        let event = event_with(json!({"Postcode": theirs}));
        assert_eq!(run(&mut dos([with_postcode(Some(ours))]), &event).outcome, Outcome::Unchanged);
    }
}

#[test]
fn rule_5_4_a_valid_postcode_takes_the_tables_spelling_and_all_six_columns() {
    for spelling in ["EX25SE", "EX2 5SE", "EX2  5SE", "E X25SE", "ex2 5se", " EX2  5SE", "ex25se "] {
        let mut dos = dos([pharmacy(1)]);
        let incomplete = Location { latitude: None, ..location("EX2 5SE", Some("WRONG")) };
        let later = location("EX25SE", Some("LATER"));
        dos.locations = vec![incomplete, location(spelling, Some("EXETER")), later];
        let decision = run(&mut dos, &event_with(json!({"Postcode": "ex2 5se"})));
        let expected = [
            ("postalcode", "modify", Some("LS1 4AP"), Some(spelling)),
            ("cmsorgtown", "modify", Some("LEEDS"), Some("EXETER")),
            ("cmseastings", "modify", Some("429253"), Some("1")),
            ("cmsnorthings", "modify", Some("433386"), Some("2")),
        ];
        assert_eq!(updates(&decision), expected, "{spelling}");
        let now = &dos.services[&1];
        assert_eq!((now.latitude, now.longitude, now.easting), (Some(3.0), Some(4.0), Some(1)));
        assert_eq!(newest_entry(&dos, 1)["cmseastings"]["data"], json!(1));
        assert_eq!(newest_entry(&dos, 1)["cmsnorthings"]["previous"], json!(433_386));
    }
}

#[test]
fn rule_5_4_keys_that_stayed_equal_are_told_too_and_a_null_town_only_when_it_was_there() {
    let held = Service { easting: Some(1), northing: None, ..pharmacy(1) };
    let mut dos = dos([held.clone()]);
    dos.locations = vec![location("EX2 5SE", None)];
    let event = event_with(json!({"Postcode": "EX25SE"}));
    let decision = run(&mut dos, &event);
    let changes: Vec<_> = updates(&decision).iter().map(|(field, action, ..)| (*field, *action)).collect();
    let expected =
        [("postalcode", "modify"), ("cmsorgtown", "delete"), ("cmseastings", "modify"), ("cmsnorthings", "add")];
    assert_eq!(changes, expected);
    assert_eq!(dos.services[&1].town, None);
    dos.services.insert(1, Service { town: None, ..held });
    assert_eq!(updates(&run(&mut dos, &event)).len(), 3);
}

#[test]
fn rule_5_4_a_postcode_that_is_not_valid_keeps_the_address_from_changing() {
    for postcode in [json!("EX2 5SE"), json!(null), json!(""), json!(" "), json!("LS1 4AP\u{0}")] {
        let mut dos = dos([pharmacy(1), with_postcode(Some("EX25SE"))]);
        dos.services.insert(2, Service { id: 2, ..with_postcode(None) });
        dos.locations = vec![Location { easting: None, ..location("EX2 5SE", Some("EXETER")) }];
        let decision = run(&mut dos, &event_with(json!({"Postcode": postcode, "Address1": "2 High Street"})));
        assert!(keys(&decision).contains(&"INVALID_POSTCODE"), "{postcode}");
        assert_eq!(dos.services[&1].postcode.as_deref(), Some("EX25SE"));
    }
    // Blank on both sides is equal, so the address follows.
    let decision = run(&mut dos([with_postcode(Some(" "))]), &event_with(json!({"Postcode": null, "Address1": "2"})));
    assert_eq!(keys(&decision), ["SERVICE_UPDATE"]);
}

#[test]
fn rule_5_5_bank_holidays_are_told_whatever_the_events_times_are() {
    let mut held = pharmacy(1);
    held.opening.insert(DayId::BANK_HOLIDAY, periods(&[(15, 17), (10, 14)]));
    for event in [event(), event_with(json!({"OpeningTimes": "x"}))] {
        let mut dos = dos([held.clone()]);
        let decision = run(&mut dos, &event);
        let told = decision.reports.iter().find_map(|report| match report {
            Report::GenericBankHoliday { periods, .. } => Some(periods.as_str()),
            _ => None,
        });
        assert_eq!(told, Some("10:00-14:00,15:00-17:00"));
        assert_eq!(dos.services[&1].opening, held.opening);
    }
    held.opening.insert(DayId::BANK_HOLIDAY, BTreeSet::new());
    assert_eq!(keys(&run(&mut dos([held]), &event())).len(), 0, "a day without periods");
}

#[test]
fn rule_5_5_weekdays_are_compared_as_sets_and_replaced_where_different() {
    let mut held = pharmacy(1);
    held.opening.insert(DayId(2), periods(&[(14, 17), (9, 13)]));
    held.opening.insert(DayId(7), periods(&[(10, 16)]));
    held.opening.remove(&DayId(3));
    let mut dos = dos([held]);
    let decision = run(&mut dos, &event());
    let expected = [
        (
            "cmsopentimetuesday",
            "modify",
            Some("cmsopentimetuesday_existing=09:00-13:00,14:00-17:00"),
            Some("cmsopentimetuesday_update=remove=09:00-13:00,14:00-17:00add=09:00-17:00"),
        ),
        ("cmsopentimewednesday", "add", None, Some("cmsopentimewednesday_update=add=09:00-17:00")),
        (
            "cmsopentimesunday",
            "delete",
            Some("cmsopentimesunday_existing=10:00-16:00"),
            Some("cmsopentimesunday_update=remove=10:00-16:00"),
        ),
    ];
    assert_eq!(updates(&decision), expected);
    assert_eq!(dos.services[&1].opening, pharmacy(1).opening);
    let tuesday = json!({
        "changetype": "modify",
        "data": {"remove": ["32400-46800", "50400-61200"], "add": ["32400-61200"]},
        "area": "demographic",
        "previous": ["09:00-13:00", "14:00-17:00"],
    });
    let entry = newest_entry(&dos, 1);
    assert_eq!(entry["cmsopentimetuesday"], tuesday);
    assert_eq!(entry["cmsopentimewednesday"]["data"], json!({"add": ["32400-61200"]}));
    assert!(entry["cmsopentimewednesday"].get("previous").is_none());
    assert_eq!(entry["cmsopentimesunday"]["data"], json!({"remove": ["36000-57600"]}));
}

#[test]
fn rule_5_5_a_day_row_without_periods_reads_as_closed_and_stays() {
    let mut held = pharmacy(1);
    held.opening.insert(DayId(7), BTreeSet::new());
    let mut dos = dos([held]);
    assert_eq!(run(&mut dos, &event()).outcome, Outcome::Unchanged);
    run(&mut dos, &event_with(json!({"Address1": "2 High Street"})));
    assert!(dos.services[&1].opening.contains_key(&DayId(7)));
}

#[test]
fn rule_5_5_seconds_are_cut_in_times_of_day_and_kept_in_data() {
    let event = event_with(json!({"OpeningTimes": [open("Monday", "09:00:59", "17:30:30")]}));
    let mut dos = dos([pharmacy(1)]);
    assert_eq!(updates(&run(&mut dos, &event))[0].3.unwrap().rsplit_once('=').unwrap().1, "09:00-17:30");
    assert_eq!(newest_entry(&dos, 1)["cmsopentimemonday"]["data"]["add"], json!(["32459-63030"]));
}

#[test]
fn rule_5_5_blank_standard_openings_are_reported_and_weekdays_left_alone() {
    for times in [json!([]), json!(null), json!([closed("Monday"), closed("Sunday")])] {
        let mut dos = dos([pharmacy(1)]);
        let decision = run(&mut dos, &event_with(json!({"OpeningTimes": times})));
        assert_eq!(keys(&decision), ["BLANK_STANDARD_OPENINGS"], "{times}");
        assert_eq!(dos.services[&1].opening, pharmacy(1).opening);
    }
    assert_eq!(keys(&run(&mut dos([pharmacy(1)]), &event_without("OpeningTimes"))), ["BLANK_STANDARD_OPENINGS"]);
}

#[test]
fn rule_5_7_null_was_never_maintained_and_missing_is_an_empty_list() {
    let held = Service { z_codes: [ZCode::PALLIATIVE_CARE].into(), ..pharmacy(1) };
    for left_alone in [json!(null), json!("SRV0559"), json!({}), json!(1)] {
        let decision = run(&mut dos([held.clone()]), &event_with(json!({"UecServices": left_alone})));
        assert_eq!(decision.outcome, Outcome::Unchanged, "{left_alone}");
    }
    for event in [event(), event_without("UecServices")] {
        let mut dos = dos([held.clone()]);
        let decision = run(&mut dos, &event);
        assert_eq!(updates(&decision), [("cmssgsdid", "delete", None, Some("cmssgsdid_update=remove=360=14167"))]);
        assert!(dos.services[&1].z_codes.is_empty());
        let entry =
            json!({"changetype": "delete", "data": {"remove": ["360=14167"]}, "area": "clinical", "previous": ""});
        assert_eq!(newest_entry(&dos, 1)["cmssgsdid"], entry);
    }
}

#[test]
fn rule_5_7_only_type_13_with_five_characters() {
    let event = services("UecServices", &["SRV0559"]);
    let long = Service { ods_code: "FA001X".to_owned(), ..pharmacy(2) };
    let mut dos = dos([pharmacy(1), long, service_of_type(3, 134, 1)]);
    let decision = run(&mut dos, &event);
    assert_eq!(updates(&decision), [("cmssgsdid", "add", None, Some("cmssgsdid_update=add=360=14167"))]);
    let entry = json!({"changetype": "add", "data": {"add": ["360=14167"]}, "area": "clinical"});
    assert_eq!(newest_entry(&dos, 1)["cmssgsdid"], entry);
    assert!(dos.services[&2].z_codes.is_empty() && dos.services[&3].z_codes.is_empty());
}

#[test]
fn rule_5_8_status_follows_the_event() {
    for (type_id, code, z_code) in [(148, "SRV0560", "360=14207"), (149, "SRV2000", "360=14210")] {
        for (status, previous) in [(2, "closed"), (3, "commissioning")] {
            let mut dos = dos([pharmacy(1), service_of_type(2, type_id, status)]);
            let decision = run(&mut dos, &services("Services", &[code]));
            let added = format!("cmssgsdid_update=add={z_code}");
            let expected =
                [("cmsorgstatus", "modify", Some(previous), Some("active")), ("cmssgsdid", "add", None, Some(&*added))];
            assert_eq!(updates(&decision), expected);
            assert_eq!(dos.services[&2].status_id, 1);
            // Switched off again: the status alone, the Z code stays.
            let decision = run(&mut dos, &event());
            assert_eq!(updates(&decision), [("cmsorgstatus", "modify", Some("active"), Some("closed"))]);
            assert_eq!((dos.services[&2].status_id, dos.services[&2].z_codes.len()), (2, 1));
            // And on: the Z code is there already, so history says nothing of it.
            let decision = run(&mut dos, &services("Services", &[code]));
            assert_eq!(updates(&decision).len(), 1);
            assert!(newest_entry(&dos, 2).get("cmssgsdid").is_none());
        }
    }
}

/// Section 13, 1.6: it holds nothing, as an empty list does.
#[test]
fn rule_5_8_services_that_are_no_list_switch_off() {
    for services in [json!("SRV0560"), json!({"ServiceCode": "SRV0560"}), json!(560), json!(true), json!(null)] {
        let mut dos = dos([pharmacy(1), service_of_type(2, 148, 1)]);
        let decision = run(&mut dos, &event_with(json!({"Services": services})));
        assert_eq!(updates(&decision), [("cmsorgstatus", "modify", Some("active"), Some("closed"))], "{services}");
        assert_eq!(dos.services[&2].status_id, 2);
    }
}

#[test]
fn rule_6_4_fix_a_pair_that_does_not_exist_is_reported_and_history_says_nothing() {
    let held = Service { z_codes: [ZCode::PALLIATIVE_CARE].into(), ..pharmacy(1) };
    for (service, event) in [(pharmacy(1), services("UecServices", &["SRV0559"])), (held, event())] {
        let mut dos = dos([service.clone()]);
        dos.z_code_pairs.remove(&ZCode::PALLIATIVE_CARE);
        let decision = run(&mut dos, &event);
        assert_eq!(errors(&decision), ["Palliative Care Z code does not exist"]);
        assert_eq!(decision.outcome, Outcome::Unchanged);
        assert_eq!(dos.services[&1], service);
        assert!(dos.histories.is_empty());
    }
}

#[test]
fn rule_6_5_without_the_pair_the_status_changes_all_the_same() {
    for (type_id, code, reason) in [
        (148, "SRV0560", "Blood Pressure Z code does not exist"),
        (149, "SRV2000", "Contraception Z code does not exist"),
    ] {
        let mut dos = dos([pharmacy(1), service_of_type(2, type_id, 2)]);
        dos.z_code_pairs.clear();
        let decision = run(&mut dos, &services("Services", &[code]));
        assert_eq!(errors(&decision), [reason]);
        assert_eq!(updates(&decision), [("cmsorgstatus", "modify", Some("closed"), Some("active"))]);
        assert!(newest_entry(&dos, 2).get("cmssgsdid").is_none());
        assert!(dos.services[&2].z_codes.is_empty());
    }
}

#[test]
fn rule_6_8_what_no_column_can_hold_changes_nothing_and_names_the_column() {
    let long = |length: usize| "é".repeat(length);
    let website = format!("www.test.co.uk/{}", long(498));
    let cases = [
        (event_with(json!({"Address1": long(513), "City": ""})), "Value too long", "services.address"),
        (event_with(json!({"Address1": "a\u{0}b"})), "Value has a NUL character", "services.address"),
        (with_phone(long(256)), "Value too long", "services.publicphone"),
        (with_phone("0\u{0}1"), "Value has a NUL character", "services.publicphone"),
        (with_website(website), "Value too long", "services.web"),
        (with_website("www.test.co.uk/\u{0}"), "Value has a NUL character", "services.web"),
    ];
    for (event, reason, column) in cases {
        let held = Service { web: None, phone: None, ..pharmacy(2) };
        let mut dos = dos([pharmacy(1), held]);
        let before = dos.services.clone();
        let decision = run(&mut dos, &event);
        assert_eq!(decision.outcome, Outcome::DeadLettered, "{column}");
        assert_eq!(keys(&decision), ["DEAD_LETTERED"]);
        assert_eq!(counts(&decision), (0, 0, 0));
        let dead_letter = decision.dead_letter.as_ref().unwrap();
        assert_eq!((dead_letter.reason.as_str(), dead_letter.detail.as_str()), (reason, column));
        assert!(matches!(&decision.reports[0], Report::DeadLettered { attempts: 1, .. }));
        assert_eq!(dos.services, before);
        assert!(dos.sequences.is_empty() && dos.histories.is_empty());
    }
}

#[test]
fn rule_6_8_widths_count_code_points_and_only_what_is_written_counts() {
    let fits = event_with(json!({"Address1": "é".repeat(512), "City": ""}));
    assert_eq!(run(&mut dos([pharmacy(1)]), &fits).outcome, Outcome::Updated);
    let unwritten =
        event_with(json!({"OrganisationName": "\u{0}".repeat(9), "Address1": "\u{0}", "Postcode": "X\u{0}"}));
    let decision = run(&mut dos([pharmacy(1)]), &unwritten);
    assert_eq!((decision.outcome, keys(&decision)), (Outcome::Unchanged, vec!["INVALID_POSTCODE"]));
}

#[test]
fn facts_about_a_service_are_those_before_the_events_changes() {
    let blood_pressure = Service { type_name: "Blood Pressure".to_owned(), ..service_of_type(2, 148, 3) };
    let mut dos = dos([pharmacy(1), blood_pressure]);
    dos.locations = vec![location("EX2 5SE", Some("EXETER"))];
    let event = event_with(json!({"Postcode": "EX2 5SE", "Address1": "2", "Services": [{"ServiceCode": "SRV0560"}]}));
    let decision = run(&mut dos, &event);
    let facts = |id: i32, status: &str, type_id: i32, type_name: &str| ServiceFacts {
        id,
        uid: format!("uid-{id}"),
        name: format!("Pharmacy {id}"),
        status: status.to_owned(),
        type_id,
        type_name: type_name.to_owned(),
        region: "Region".to_owned(),
        address: Some("1 High Street$Leeds".to_owned()),
        postcode: Some("LS1 4AP".to_owned()),
    };
    let expected = [facts(1, "active", 13, "Pharmacy"), facts(2, "commissioning", 148, "Blood Pressure")];
    let told = decision.reports.iter().filter_map(|report| match report {
        Report::ServiceUpdate { service, .. } => Some(&**service),
        _ => None,
    });
    let told: Vec<&ServiceFacts> = told.dedup().collect();
    assert_eq!(told, expected.iter().collect::<Vec<_>>());
    assert_eq!(Written(hours(1, 2), Notation::Seconds).to_string(), "3600-7200");
}
