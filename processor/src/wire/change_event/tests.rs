use serde_json::{Value, json as value};

use super::*;
use crate::domain::opening_times::DayId;

fn record(json: &str) -> InputRecord {
    InputRecord {
        topic: "dos.change-events".into(),
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: Some(json.as_bytes().to_vec()),
        headers: vec![("sequence-number".to_owned(), Some(b"7".to_vec()))],
    }
}

fn read(json: &str) -> Decoded {
    decode(&record(json), Ok(json.as_bytes()))
}

fn fine() -> Value {
    value!({"ODSCode": "FA001", "OrganisationTypeId": "PHA", "OrganisationSubType": "Community"})
}

fn fine_with(name: &str, member: Value) -> Value {
    let mut event = fine();
    event[name] = member;
    event
}

fn event_of(json: &str) -> ChangeEvent {
    match read(json).input.body {
        InputBody::Event { event, .. } => *event,
        InputBody::Rejected { detail, .. } => panic!("rejected: {detail}"),
    }
}

/// An event with one more member, as text.
fn event_with(name: &str, member: &str) -> ChangeEvent {
    let fine = fine().to_string();
    event_of(&format!("{},\"{name}\":{member}}}", fine.strip_suffix('}').unwrap()))
}

fn rejected(decoded: Decoded) -> (&'static str, String) {
    match decoded.input.body {
        InputBody::Rejected { reason, detail } => (reason, detail),
        InputBody::Event { .. } => panic!("accepted"),
    }
}

#[test]
fn frames_are_told_by_the_magic_byte() {
    assert_eq!(value_form(&[0, 0, 0, 1, 2, b'{']), Some(ValueForm::Framed { schema_id: 258 }));
    assert_eq!(value_form(&[0, 0xff, 0xff, 0xff, 0xff]), Some(ValueForm::Framed { schema_id: u32::MAX }));
    assert_eq!(value_form(&[0, 0, 0, 1]), None);
    assert_eq!(value_form(&[0]), None);
    assert_eq!(value_form(b"{}"), Some(ValueForm::Plain));
    assert_eq!(value_form(b""), Some(ValueForm::Plain));
}

#[test]
fn each_reason_of_rule_1_3() {
    for (name, member, reason) in [
        ("ODSCode", value!(null), "ODSCode missing"),
        ("ODSCode", value!(12345), "ODSCode missing"),
        ("OrganisationTypeId", value!(["PHA"]), "OrganisationTypeId missing"),
        ("OrganisationSubType", value!(null), "OrganisationSubType missing"),
        ("ODSCode", value!(""), "ODSCode wrong length"),
        ("ODSCode", value!("FA01"), "ODSCode wrong length"),
        ("ODSCode", value!("FA0011"), "ODSCode wrong length"),
        ("ODSCode", value!("FA00%"), "ODSCode not letters and digits"),
        ("ODSCode", value!("FA_01"), "ODSCode not letters and digits"),
        ("ODSCode", value!("FA00é"), "ODSCode not letters and digits"),
        ("ODSCode", value!("FA00\u{0}"), "ODSCode not letters and digits"),
        ("OrganisationTypeId", value!("pha"), "OrganisationTypeId not supported"),
        ("OrganisationTypeId", value!(""), "OrganisationTypeId not supported"),
        ("OrganisationSubType", value!("community"), "OrganisationSubType not supported"),
        ("OrganisationSubType", value!("Distance Selling"), "OrganisationSubType not supported"),
    ] {
        let (found, detail) = rejected(read(&fine_with(name, member.clone()).to_string()));
        assert_eq!((found, detail.as_str()), (reason, reason), "{name} {member}");
    }
    for sub_type in ["Community", "DistanceSelling"] {
        event_of(&fine_with("OrganisationSubType", value!(sub_type)).to_string());
    }
}

#[test]
fn detail_lists_every_fault_in_order_and_the_first_is_the_reason() {
    let mut record = record(r#"{"ODSCode": "F%", "OrganisationTypeId": "DEN"}"#);
    record.key = Some(b"FA001".to_vec());
    record.headers.clear();
    let json = record.value.clone().unwrap();
    let (reason, detail) = rejected(decode(&record, Ok(&json)));
    assert_eq!(reason, "OrganisationSubType missing");
    let expected = "OrganisationSubType missing; ODSCode wrong length; ODSCode not letters and digits; \
                    OrganisationTypeId not supported; Key is not the ODSCode; Sequence number missing";
    assert_eq!(detail, expected);
}

#[test]
fn the_key_must_be_the_code_when_it_is_there() {
    let with_key = |key: Option<&[u8]>| {
        let json = fine().to_string();
        decode(&InputRecord { key: key.map(<[u8]>::to_vec), ..record(&json) }, Ok(json.as_bytes()))
    };
    for key in [&b""[..], b"fa001", b"FA001 ", b"FA002"] {
        assert_eq!(rejected(with_key(Some(key))).0, "Key is not the ODSCode", "{key:?}");
    }
    for key in [None, Some(&b"FA001"[..])] {
        assert!(with_key(key).input.body.event().is_some());
    }
}

#[test]
fn values_that_are_missing_or_cannot_be_read() {
    let without = |value: Option<Vec<u8>>| InputRecord { value, ..record("") };
    for missing in [without(None), without(Some(Vec::new()))] {
        assert_eq!(rejected(decode(&missing, Ok(b""))).0, "Value missing");
    }
    let unreadable = [
        &b" \n"[..],
        b"{",
        b"\xff{}",
        b"{\"a\": 01}",
        b"{} {}",
        b"{'a': 1}",
        b"\xef\xbb\xbf{}",
        b"{\"a\": \"\\ud800\"}",
        b"NaN",
        b"{\"a\": \"\t\"}",
        b"{\"a\": [\"\\udc00\"]}",
        b"{\"\\ud83d\": 1}",
        b"\x00\x00",
    ];
    for json in unreadable {
        let record = without(Some(json.to_vec()));
        let decoded = decode(&record, Ok(json));
        assert!(decoded.archive().is_none());
        assert_eq!(rejected(decoded), ("Value not decodable", "Value not decodable".to_owned()), "{json:?}");
    }
    let framed = without(Some(vec![0, 0, 0, 0, 9, b'{', b'}']));
    for why in [Undecodable::Frame, Undecodable::Schema] {
        assert_eq!(rejected(decode(&framed, Err(why))).0, "Value not decodable");
    }
    for json in ["[]", "null", "\"{}\"", "1e999"] {
        assert_eq!(rejected(read(json)).0, "Value is not an object", "{json}");
    }
}

#[test]
fn an_unreadable_value_does_not_hide_what_is_wrong_with_the_sequence_number() {
    let mut record = record("x");
    record.headers = vec![("sequence-number".to_owned(), Some(b"1.5".to_vec()))];
    let (reason, detail) = rejected(decode(&record, Ok(b"x")));
    assert_eq!(
        (reason, detail.as_str()),
        ("Value not decodable", "Value not decodable; Sequence number not an integer")
    );
}

#[test]
fn whatever_names_a_code_is_archived_without_staff() {
    let json = r#"{"ODSCode":"FA0011","Staff":[{"Name":"x"}],"n":1.50}"#;
    let decoded = read(json);
    assert_eq!(decoded.archive(), Some(r#"{"ODSCode":"FA0011","n":1.50}"#));
    assert_eq!((decoded.ods_code.as_deref(), decoded.sequence_number), (Some("FA0011"), Some(7)));
    assert_eq!(read(r#"{"ODSCode":5,"Staff":1}"#).archive(), None);
}

#[test]
fn repeated_keys_and_escaped_keys() {
    let event = event_of(
        r#"{"ODSCode":"XXXXX","ODSCode":"FA001","Organisation\u0054ypeId":"PHA","OrganisationSubType":null,"OrganisationSubType":"Community"}"#,
    );
    assert_eq!(event.ods_code.as_str(), "FA001");
}

#[test]
fn rule_1_6_fix_null_in_every_optional_field_is_like_missing() {
    let bare = event_of(&fine().to_string());
    for name in [
        "OrganisationName",
        "OrganisationType",
        "OrganisationStatus",
        "Address1",
        "Address2",
        "Address3",
        "Address4",
        "City",
        "County",
        "Postcode",
        "ParentOrganisation",
        "Contacts",
        "Services",
        "Staff",
    ] {
        let with_null = event_with(name, "null");
        assert_eq!(with_null, bare, "{name}");
    }
    let times = event_with("OpeningTimes", "null");
    assert_eq!((times.opening_times, times.opening_times_json.as_deref()), (bare.opening_times, Some("null")));
    assert_eq!((event_with("UecServices", "null").palliative_care, bare.palliative_care), (None, Some(false)));
}

#[test]
fn fields_of_other_types_are_absent() {
    let bare = event_of(&fine().to_string());
    for odd in ["1e999", "true", "{}", "[1]", "\"\""] {
        for name in ["OrganisationName", "Postcode", "Address1", "ParentOrganisation", "Contacts", "Services"] {
            assert_eq!(event_with(name, odd), bare, "{name} {odd}");
        }
    }
    for odd in ["1", "{}", "\"\"", "\"x\""] {
        assert_eq!(event_with("OpeningTimes", odd).opening_times, EventOpeningTimes::Invalid, "{odd}");
        assert_eq!(event_with("UecServices", odd).palliative_care, None, "{odd}");
    }
}

#[test]
fn rule_2_1_the_first_contact_that_fits_counts_whatever_its_value() {
    let contact = |kind: &str, availability: &str, method: &str, contact_value: Value| value!({"ContactType": kind, "ContactAvailabilityType": availability, "ContactMethodType": method, "ContactValue": contact_value});
    let website = |contacts: Value| event_with("Contacts", &contacts.to_string()).website;
    let fits = |contact_value: Value| contact("PRIMARY", "office HOURS", "WebSite", contact_value);
    let others = [
        contact("Secondary", "Office hours", "Website", value!("a")),
        contact("Primary", "Out of hours", "Website", value!("b")),
        contact("Primary", "Office hours", "Email", value!("c")),
        contact("Primary", "Office hours ", "Website", value!("d")),
        value!(null),
        value!("Website"),
        value!({"ContactValue": "e"}),
    ];
    assert_eq!(website(value!(others)), None);
    let mut contacts = others.to_vec();
    contacts.extend([fits(value!("first")), fits(value!("second"))]);
    assert_eq!(website(value!(contacts)).as_deref(), Some("first"));
    for nothing in [value!(null), value!(5), value!("")] {
        assert_eq!(website(value!([fits(nothing), fits(value!("second"))])), None);
    }
    assert_eq!(website(value!([fits(value!(" "))])).as_deref(), Some(" "), "blank is for rule 5.1");
}

#[test]
fn rule_2_2_non_blank_lines_in_order() {
    let lines = r#""x","Address2":" ","Address3":"\u00a0","Address4":" four ","County":"county","City":"city""#;
    assert_eq!(event_with("Address1", lines).address_lines, ["x", " four ", "city", "county"]);
}

#[test]
fn rule_2_5_an_item_that_is_neither_makes_all_invalid() {
    let open =
        r#"{"Weekday":"Monday","OpeningTime":"9:00","ClosingTime":"17:00","OpeningTimeType":"General","IsOpen":true}"#;
    let EventOpeningTimes::Items(items) = event_with("OpeningTimes", &format!("[{open}]")).opening_times else {
        panic!("a missing date is like null");
    };
    let period = crate::domain::opening_times::Period { start: 32_400, end: 61_200 };
    let expected = crate::domain::opening_times::OpeningDay::Weekday(DayId(1));
    assert_eq!((items[0].on, items[0].period), (expected, Some(period)));
    for odd in ["null", "1", "[]", "{}", &open.replace("true", "\"true\""), &open.replace("\"9:00\"", "900")] {
        let event = event_with("OpeningTimes", &format!("[{open},{odd}]"));
        assert_eq!(event.opening_times, EventOpeningTimes::Invalid, "{odd}");
    }
    let json = format!("[ {open} ]");
    assert_eq!(event_with("OpeningTimes", &json).opening_times_json.as_deref(), Some(json.as_str()), "as received");
}

#[test]
fn the_parent_is_known_by_its_name() {
    let event = event_with("ParentOrganisation", r#"{"ODSCode": "Q71", "OrganisationName": "London Area Team"}"#);
    assert_eq!(event.organisation.parent_name.as_deref(), Some("London Area Team"));
}

#[test]
fn size_and_depth_are_no_danger() {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(event_with("Facilities", &deep).ods_code.as_str(), "FA001");
    assert_eq!(event_with("Services", &deep).ods_code.as_str(), "FA001");
    assert_eq!(event_with("Latitude", "-1e999").ods_code.as_str(), "FA001");
    let item = r#"{"OpeningTimeType":"Additional","AdditionalOpeningDate":"Dec 25 2026","IsOpen":false}"#;
    let many = format!("[{}]", vec![item; 10_000].join(","));
    let EventOpeningTimes::Items(items) = event_with("OpeningTimes", &many).opening_times else { panic!("valid") };
    assert_eq!(items.len(), 10_000);
}

/// A record in Avro, framed.
fn avro(schema: &str, datum: &[u8]) -> Decoded {
    let value = [&[0, 0, 0, 0, 9], datum].concat();
    let schema = WriterSchema::parse(schema).unwrap();
    decode_avro(&InputRecord { value: Some(value), ..record("") }, &schema)
}

#[test]
fn an_avro_event_is_read_as_its_json() {
    let texts = ["ODSCode", "OrganisationTypeId", "OrganisationSubType", "Staff"];
    let fields = texts.map(|name| value!({"name": name, "type": "string"}));
    let schema = value!({"type": "record", "name": "Event", "fields": fields}).to_string();
    let datum = b"\x0aFA001\x06PHA\x12Community\x04Jo";
    let decoded = avro(&schema, datum);
    let InputBody::Event { event, sequence_number: 7 } = &decoded.input.body else { panic!("rejected") };
    assert_eq!(**event, event_of(&fine().to_string()));
    let json = r#"{"ODSCode":"FA001","OrganisationTypeId":"PHA","OrganisationSubType":"Community"}"#;
    assert_eq!(decoded.archive(), Some(json));

    for cut in [&datum[..datum.len() - 1], &[], &[&datum[..], b"\0"].concat()] {
        let decoded = avro(&schema, cut);
        assert_eq!((decoded.archive(), decoded.is_other_format), (None, true));
        assert_eq!(rejected(decoded).0, "Value not decodable");
    }
}

#[test]
fn an_avro_value_that_is_no_record_is_no_object() {
    let map = r#"{"type":"map","values":"string"}"#;
    let decoded = avro(map, b"\x02\x0eODSCode\x0aFA001\0");
    assert_eq!((decoded.archive(), decoded.json.as_deref()), (None, Some(r#"{"ODSCode":"FA001"}"#)));
    assert_eq!(rejected(decoded).0, "Value is not an object");
    let staff = avro(map, b"\x02\x0aStaff\x04Jo\0");
    assert_eq!((&staff.json, staff.is_other_format), (&None, true));
    assert_eq!(rejected(staff).0, "Value is not an object");
    assert_eq!(rejected(avro(r#""int""#, b"\x02")).0, "Value is not an object");
    assert_eq!(rejected(avro(r#""int""#, b"")).0, "Value not decodable");
}
