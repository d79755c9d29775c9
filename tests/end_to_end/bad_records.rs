//! Bad and odd records, each with what is to become of it.

use apache_avro::{Schema, writer::datum::GenericDatumWriter};
use dosi_tests::topics::Record;
use serde_json::{Value, json};

use crate::support_faults::{profile, record};

/// Personal data, planted in every spelling of `Staff`.
pub(crate) const PLANTED: &str = dosi_tests::planted::FAMILY_NAME;
pub(crate) const CODE: &str = "FB001";

/// A good event without a `Staff`: the cases bring their own.
fn good(code: &str, sequence: i64, phone: &str) -> Record {
    record(code, sequence, profile(code, phone).to_string())
}

/// What is to become of a record.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// Nothing is wrong with it.
    Outcome(&'static str),
    Rejected {
        /// All that is wrong, in the order of rule 1.3; the first is the reason.
        detail: &'static [&'static str],
        value: Kept,
    },
    DeadLettered {
        reason: &'static str,
        detail: &'static str,
    },
}

/// What a dead letter holds as its value.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    AsItCame,
    WithoutStaff(String),
    Nothing,
    Omitted(&'static str),
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) record: Record,
    pub(crate) expect: Expect,
    /// What audit and archive are to name; null for none.
    pub(crate) ods_code: Value,
    pub(crate) sequence: Value,
}

impl Case {
    fn new(name: &'static str, record: Record, expect: Expect) -> Self {
        Self { name, record, expect, ods_code: json!(CODE), sequence: json!(1) }
    }

    fn rejected(name: &'static str, record: Record, detail: &'static [&'static str]) -> Self {
        Self::new(name, record, Expect::Rejected { detail, value: Kept::AsItCame })
    }

    /// Nobody can tell whose event it was.
    fn undecodable(name: &'static str, value: &[u8], detail: &'static [&'static str], kept: Kept) -> Self {
        let case = Self::new(name, record(CODE, 1, value), Expect::Rejected { detail, value: kept });
        case.naming(Value::Null)
    }

    fn naming(mut self, ods_code: Value) -> Self {
        self.ods_code = ods_code;
        self
    }

    fn numbered(mut self, sequence: Value) -> Self {
        self.sequence = sequence;
        self
    }

    fn keeping(mut self, kept: Kept) -> Self {
        if let Expect::Rejected { value, .. } = &mut self.expect {
            *value = kept;
        }
        self
    }
}

/// The profile of [`CODE`] with some fields otherwise, as text.
pub(crate) fn with(changes: &Value) -> String {
    let mut event = profile(CODE, "0113 1");
    for (field, value) in changes.as_object().unwrap() {
        event[field] = value.clone();
    }
    event.to_string()
}

fn without(field: &str) -> String {
    let mut event = profile(CODE, "0113 1");
    event.as_object_mut().unwrap().remove(field);
    event.to_string()
}

/// As [`record`], with these headers only.
fn headed(headers: &[(&str, &[u8])]) -> Record {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    Record { headers, ..good(CODE, 1, "0113 1") }
}

pub(crate) fn framed(id: u32, json: &str) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), json.as_bytes()].concat()
}

/// The schema of a change event in Avro.
pub(crate) const AVRO_SCHEMA: &str = include_str!("../data/change-event.avsc");

/// An event as a publisher with that schema sends it.
fn framed_avro(id: u32, event: &str) -> Vec<u8> {
    let schema = Schema::parse_str(AVRO_SCHEMA).unwrap();
    let event = apache_avro::to_value(serde_json::from_str::<Value>(event).unwrap()).unwrap().resolve(&schema).unwrap();
    let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(event).unwrap();
    [&[0][..], &id.to_be_bytes(), &datum].concat()
}

pub(crate) fn values() -> Vec<Case> {
    let undecodable: &[&str] = &["Value not decodable"];
    let staff = || Kept::Omitted("undecodable");
    let utf_16: Vec<u8> = format!(r#"{{"Staff":"{PLANTED}"}}"#).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let lone = r#"{"ODSCode":"FB001","OrganisationName":"\ud800"}"#;
    let cut_off = format!(r#"{{"ODSCode":"FB001","sTaFF":["{PLANTED}"]"#);
    let escaped = format!(r#"{{"\u0053taff":"{PLANTED}""#);
    let listed = format!(r#"[{{"Staff":"{PLANTED}"}}]"#);
    vec![
        Case::undecodable("not UTF-8", b"{\"ODSCode\":\"FB001\xff\"}", undecodable, Kept::AsItCame),
        Case::undecodable("not JSON", b"{\"ODSCode\":", undecodable, Kept::AsItCame),
        Case::undecodable("white space", b" \n", undecodable, Kept::AsItCame),
        Case::undecodable("byte order mark", b"\xef\xbb\xbf{}", undecodable, Kept::AsItCame),
        Case::undecodable("UTF-16", &utf_16, undecodable, staff()),
        Case::undecodable("lone surrogate", lone.as_bytes(), undecodable, staff()),
        Case::undecodable("cut off, with staff", cut_off.as_bytes(), undecodable, staff()),
        Case::undecodable("cut off, with escaped staff", escaped.as_bytes(), undecodable, staff()),
        Case::undecodable("a frame that ends within itself", b"\0\0\0", undecodable, Kept::AsItCame),
        Case::undecodable("a list", b"[]", &["Value is not an object"], Kept::AsItCame),
        Case::undecodable("a number", b"7", &["Value is not an object"], Kept::AsItCame),
        Case::undecodable("a list with an escape", br#"["caf\u00e9"] "#, &["Value is not an object"], Kept::AsItCame),
        Case::undecodable("a list with staff", listed.as_bytes(), &["Value is not an object"], staff()),
        Case::undecodable("empty", b"", &["Value missing"], Kept::Nothing),
        Case::rejected("tombstone", Record { value: None, ..good(CODE, 1, "") }, &["Value missing"])
            .naming(Value::Null)
            .keeping(Kept::Nothing),
        Case::rejected(
            "tombstone without anything",
            Record { partition: Some(0), ..Record::default() },
            &["Value missing", "Sequence number missing"],
        )
        .naming(Value::Null)
        .numbered(Value::Null)
        .keeping(Kept::Nothing),
    ]
}

pub(crate) fn codes() -> Vec<Case> {
    const LENGTH: &str = "ODSCode wrong length";
    const LETTERS: &str = "ODSCode not letters and digits";
    let code = |name, code: &str, detail| {
        let value = with(&json!({"ODSCode": code}));
        Case::rejected(name, record(code, 1, value), detail).naming(json!(code))
    };
    vec![
        code("4 characters", "FB00", &[LENGTH]),
        code("6 characters", "FB0011", &[LENGTH]),
        code("0 characters", "", &[LENGTH]).naming(Value::Null),
        code("percent", "FB%%%", &[LETTERS]),
        code("underscore", "FB___", &[LETTERS]),
        code("too long and no letters", "%%%%%%", &[LENGTH, LETTERS]),
        code("not ASCII", "FB00é", &[LETTERS]),
        code("NUL", "FB\u{0}01", &[LETTERS]),
        Case::rejected("no code", record(CODE, 1, without("ODSCode")), &["ODSCode missing"]).naming(Value::Null),
        Case::rejected("a number as code", record(CODE, 1, with(&json!({"ODSCode": 5}))), &["ODSCode missing"])
            .naming(Value::Null),
        Case::rejected("another key", record("FB002", 1, with(&json!({}))), &["Key is not the ODSCode"]),
        Case::rejected("an empty key", record("", 1, with(&json!({}))), &["Key is not the ODSCode"]),
        Case::rejected(
            "a key that is not text",
            Record { key: Some(vec![0xff]), ..good(CODE, 1, "0113 1") },
            &["Key is not the ODSCode"],
        ),
        Case::new(
            "no key",
            Record { key: None, partition: Some(0), ..good(CODE, 1, "0113 1") },
            Expect::Outcome("UPDATED"),
        ),
    ]
}

pub(crate) fn fields_and_headers() -> Vec<Case> {
    const NO_INTEGER: &[&str] = &["Sequence number not an integer"];
    let field = |name, changes: &Value, detail| Case::rejected(name, record(CODE, 1, with(changes)), detail);
    let sequence = |name, text: &[u8]| {
        Case::rejected(name, headed(&[("sequence-number", text)]), NO_INTEGER).numbered(Value::Null)
    };
    let staff = format!(r#"{{"Staff":["{PLANTED}"],"a":{{}},"\u0053taff":1,"Staff":"{PLANTED}"}}"#);
    vec![
        field("wrong type", &json!({"OrganisationTypeId": "pha"}), &["OrganisationTypeId not supported"]),
        field("wrong sub-type", &json!({"OrganisationSubType": "community"}), &["OrganisationSubType not supported"]),
        field("type is null", &json!({"OrganisationTypeId": null}), &["OrganisationTypeId missing"]),
        field("sub-type is a list", &json!({"OrganisationSubType": []}), &["OrganisationSubType missing"]),
        Case::rejected("no sequence number", headed(&[]), &["Sequence number missing"]).numbered(Value::Null),
        sequence("sequence of letters", b"one"),
        sequence("empty sequence", b""),
        sequence("sequence with a fraction", b"1.5"),
        sequence("sequence with an exponent", b"1e3"),
        sequence("sequence beyond 64 bits", b"9223372036854775808"),
        sequence("sequence that is not text", &[0xff, b'1']),
        Case::rejected(
            "everything at once",
            Record { headers: Vec::new(), ..record("x", 1, staff) },
            &[
                "ODSCode missing",
                "OrganisationTypeId missing",
                "OrganisationSubType missing",
                "Sequence number missing",
            ],
        )
        .naming(Value::Null)
        .numbered(Value::Null)
        .keeping(Kept::WithoutStaff(r#"{"a":{}}"#.to_owned())),
        Case::rejected(
            "unreadable and unnumbered",
            Record { headers: Vec::new(), ..record(CODE, 1, "{") },
            &["Value not decodable", "Sequence number missing"],
        )
        .naming(Value::Null)
        .numbered(Value::Null),
        Case::rejected(
            "wrong in the value, the key and the number",
            Record {
                headers: vec![("sequence-number".into(), b"+1".to_vec())],
                ..record("x", 1, with(&json!({"OrganisationTypeId": "GPB", "ODSCode": "FB%"})))
            },
            &[
                "ODSCode wrong length",
                "ODSCode not letters and digits",
                "OrganisationTypeId not supported",
                "Key is not the ODSCode",
                "Sequence number not an integer",
            ],
        )
        .naming(json!("FB%"))
        .numbered(Value::Null),
    ]
}

/// Odd, and applied or refused for what they hold.
pub(crate) fn odd_events() -> Vec<Case> {
    let outcome = |name, sequence: i64, value: &str, outcome| {
        Case::new(name, record(CODE, sequence, value), Expect::Outcome(outcome)).numbered(json!(sequence))
    };
    let refused = |name, changes: &Value, reason, detail| {
        Case::new(name, record(CODE, 9, with(changes)), Expect::DeadLettered { reason, detail }).numbered(json!(9))
    };
    let nulls = r#"{"ODSCode":"FB001","OrganisationTypeId":"PHA","OrganisationSubType":"Community","OrganisationName":null,
        "OrganisationType":null,"OrganisationStatus":null,"Address1":null,"Address2":null,"Address3":null,"Address4":null,
        "City":null,"County":null,"Postcode":null,"Contacts":null,"OpeningTimes":null,"UecServices":null,"Services":null,
        "ParentOrganisation":null,"Staff":null}"#;
    let padded = with(&json!({"Padding": "x".repeat(1_048_576), "Staff": PLANTED}));
    let repeated = with(&json!({})).replacen('{', r#"{"ODSCode":"ZZZZZ","OrganisationTypeId":"GPB","#, 1);
    let staffed =
        with(&json!({})).replacen('{', &format!(r#"{{"\u0053t\u0061ff":["{PLANTED}"],"Staff":"{PLANTED}","#), 1);
    let item = json!({"OpeningTimeType": "General", "Weekday": "Monday", "IsOpen": true, "OpeningTime": "09:00",
        "ClosingTime": "17:00", "AdditionalOpeningDate": null});
    let many = with(&json!({"OpeningTimes": vec![item; 10_000]}));
    let contact = |value: &str| {
        json!({"Contacts": [{"ContactType": "Primary", "ContactAvailabilityType": "Office hours",
        "ContactMethodType": "Telephone", "ContactValue": value}]})
    };
    vec![
        outcome("null in every optional field", 2, nulls, "UPDATED"),
        outcome("1 MB", 3, &padded, "UPDATED"),
        outcome("repeated keys", 4, &repeated, "UNCHANGED"),
        outcome("staff, spelled twice", 5, &staffed, "UNCHANGED"),
        outcome("10,000 opening items", 6, &many, "UNCHANGED"),
        outcome("smaller than the last", 5, &with(&json!({})), "STALE"),
        outcome("smallest of all", i64::MIN, &with(&json!({})), "STALE"),
        refused("a long address", &json!({"Address1": "x".repeat(600)}), "Value too long", "services.address"),
        refused("a NUL", &contact("1\u{0}2"), "Value has a NUL character", "services.publicphone"),
        refused("a long phone", &contact(&"1".repeat(256)), "Value too long", "services.publicphone"),
        // What was dead-lettered has not raised the largest sequence number.
        outcome("after the refused ones", 6, &with(&contact("0113 6")), "UPDATED"),
        Case::new(
            "a correlation id and a header that are not text",
            headed(&[("sequence-number", b"7"), ("correlation-id", &[0xff]), ("x", &[0xfe])]),
            Expect::Outcome("UPDATED"),
        )
        .numbered(json!(7)),
        Case::rejected(
            "a dead letter with headers that are not text",
            headed(&[("correlation-id", &[0xff]), ("x", &[0xfe])]),
            &["Sequence number missing"],
        )
        .numbered(Value::Null),
        Case::rejected(
            "1.5 MB that are rejected",
            record(CODE, 1, with(&json!({"OrganisationTypeId": "GPB", "Padding": "x".repeat(1_500_000)}))),
            &["OrganisationTypeId not supported"],
        ),
        long_code(),
    ]
}

/// As large as a record of the default size gets: neither audit nor dead letter may be refused for it.
fn long_code() -> Case {
    let code = "F".repeat(400_000);
    let value = with(&json!({"ODSCode": code}));
    Case::rejected("an ODS code of 400,000 characters", record(&code, 1, value), &["ODSCode wrong length"])
        .naming(json!("cut"))
}

pub(crate) fn frames(json_id: u32, avro_id: u32) -> Vec<Case> {
    let value = with(&json!({"Contacts": null, "Staff": PLANTED}));
    let redacted = with(&json!({"Contacts": null}));
    let wrong = with(&json!({"OrganisationTypeId": "GPB", "Staff": PLANTED}));
    let plain = with(&json!({"OrganisationTypeId": "GPB"}));
    let framed_text = |text: &str| String::from_utf8(framed(json_id, text)).unwrap();
    let undecodable = &["Value not decodable"];
    let staff = json!([{"FamilyName": PLANTED}]);
    let avro = profile(CODE, "0113 9").to_string().replacen('{', &format!(r#"{{"Staff":{staff},"#), 1);
    let wrong_avro = with(&json!({"OrganisationTypeId": "GPB", "Contacts": null, "Staff": staff}));
    vec![
        Case::new("a JSON frame", record(CODE, 8, framed(json_id, &value)), Expect::Outcome("UPDATED"))
            .numbered(json!(8)),
        Case::rejected(
            "a JSON frame that is rejected",
            record(CODE, 1, framed(json_id, &wrong)),
            &["OrganisationTypeId not supported"],
        )
        .keeping(Kept::WithoutStaff(framed_text(&plain))),
        Case::new("an Avro frame", record(CODE, 9, framed_avro(avro_id, &avro)), Expect::Outcome("UPDATED"))
            .numbered(json!(9)),
        Case::rejected(
            "an Avro frame that is rejected",
            record(CODE, 1, framed_avro(avro_id, &wrong_avro)),
            &["OrganisationTypeId not supported"],
        )
        .keeping(Kept::WithoutStaff(AVRO_AS_JSON.to_owned())),
        // In Avro no field's name is spelled out: what looks harmless need not be.
        Case::undecodable("no Avro", &framed(avro_id, &redacted), undecodable, Kept::Omitted("undecodable")),
        Case::undecodable("an unknown schema", &framed(0x7fff_fff0, &redacted), undecodable, Kept::AsItCame),
        Case::undecodable("an id of no registry", &framed(0xffff_fff0, &redacted), undecodable, Kept::AsItCame),
    ]
}

/// What is left of the rejected one.
const AVRO_AS_JSON: &str = concat!(
    r#"{"ODSCode":"FB001","OrganisationTypeId":"GPB","OrganisationSubType":"Community","OrganisationName":"Pharmacy FB001","#,
    r#""OrganisationStatus":"Visible","Address1":"1 High Street","City":"Leeds","Postcode":"LS1 1AA","Contacts":null,"#,
    r#""OpeningTimes":[],"UecServices":null,"Services":null,"ParentOrganisation":null,"Geocode":null,"Other":{}}"#
);
