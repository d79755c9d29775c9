//! A change event as it comes from the topic (sections 1 and 2): JSON, plain or behind the registry's frame, or Avro behind it.

use std::{borrow::Cow, sync::Arc};

use serde_json::value::RawValue;

use super::{avro_event::WriterSchema, headers, record::InputRecord, redaction};
use crate::domain::{
    batch::{Input, InputBody},
    change_event::{ChangeEvent, Organisation},
    commissioned_services::{BLOOD_PRESSURE_CODE, CONTRACEPTION_CODE, PALLIATIVE_CARE_CODE},
    json::{self, Members, Picked},
    ods_code::OdsCode,
    opening_times::{EventOpeningTimes, ItemFields, ItemText, read_item},
    rejection::{Fault, is_supported_sub_type, is_supported_type_id, rejection},
    text::is_blank,
};

/// Bytes of the registry's frame: a zero, then the schema id.
pub const FRAME_BYTES: usize = 5;
/// First byte of a framed value; no JSON begins with it.
const MAGIC_BYTE: u8 = 0;

/// How a value is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueForm {
    Plain,
    /// Behind [`FRAME_BYTES`] bytes.
    Framed {
        schema_id: u32,
    },
}

/// How the value is packed; `None` when it begins like a frame and ends within it.
pub fn value_form(value: &[u8]) -> Option<ValueForm> {
    match value {
        [MAGIC_BYTE, id_0, id_1, id_2, id_3, ..] => {
            Some(ValueForm::Framed { schema_id: u32::from_be_bytes([*id_0, *id_1, *id_2, *id_3]) })
        }
        [MAGIC_BYTE, ..] => None,
        _ => Some(ValueForm::Plain),
    }
}

/// Why there is no JSON to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// Begins like a frame and ends within it.
    Frame,
    /// The registry does not know the schema.
    Schema,
    /// The schema is of a format that is not read here: what the value holds cannot be told from its bytes.
    OtherFormat,
}

/// What a record says.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub input: Input,
    /// The text that the event names as its code, known even when the event is rejected; of any length.
    pub ods_code: Option<String>,
    pub sequence_number: Option<i64>,
    /// The value's JSON without `Staff`, and without a frame; `None` where there is none that may be passed on.
    pub json: Option<String>,
    /// The value as received does not spell out its fields' names (rule 1.2: it may hold `Staff`).
    pub is_other_format: bool,
}

impl Decoded {
    /// The event's text for the archive, when it names an ODS code (rule 1.5).
    pub fn archive(&self) -> Option<&str> {
        self.ods_code.as_ref().and(self.json.as_deref())
    }
}

/// Reads a record. `json`: the JSON within its value (all of it, or what is behind the frame), or why there is none.
/// A missing value is seen from the record itself.
pub fn decode(record: &InputRecord, json: Result<&[u8], Undecodable>) -> Decoded {
    let document = document(record, json.ok().and_then(|json| std::str::from_utf8(json).ok()));
    Decoded { is_other_format: json == Err(Undecodable::OtherFormat), ..read(record, &document) }
}

/// Reads a record whose frame names an Avro schema: from its JSON, as if that had come, but that only a record is an object.
pub fn decode_avro(record: &InputRecord, schema: &WriterSchema) -> Decoded {
    let datum = record.value.as_deref().and_then(|value| value.get(FRAME_BYTES..));
    let json = datum.and_then(|datum| schema.json(datum));
    let document = match document(record, json.as_deref()) {
        Ok(Document::Object(text, _)) if !schema.is_record() => Ok(Document::Other(text)),
        document => document,
    };
    Decoded { is_other_format: true, ..read(record, &document) }
}

/// All but [`Decoded::is_other_format`].
fn read(record: &InputRecord, document: &Result<Document<'_>, Fault>) -> Decoded {
    let sequence_number = headers::sequence_number(&record.headers);
    let (fields, json) = match document {
        Ok(Document::Object(text, members)) => (Some(Fields(members)), Some(redaction::without_staff(text, members))),
        Ok(Document::Other(text)) => (None, (!redaction::json_holds_staff(text)).then(|| (*text).to_owned())),
        Err(_) => (None, None),
    };
    let mut faults: Vec<Fault> = match (&fields, document) {
        (Some(fields), _) => fields.faults(record.key.as_deref()),
        (None, Ok(_)) => vec![Fault::ValueNotAnObject],
        (None, Err(fault)) => vec![*fault],
    };
    faults.extend(sequence_number.err());
    let ods_code = fields.as_ref().and_then(|fields| fields.text("ODSCode"));
    Decoded {
        input: Input {
            body: body(faults, fields.as_ref(), sequence_number.ok()),
            correlation_id: headers::correlation_id(&record.headers),
        },
        ods_code: ods_code.map(Cow::into_owned),
        sequence_number: sequence_number.ok(),
        json,
        is_other_format: false,
    }
}

fn body(faults: Vec<Fault>, fields: Option<&Fields<'_, '_>>, sequence_number: Option<i64>) -> InputBody {
    match (rejection(faults), fields.and_then(Fields::event), sequence_number) {
        (None, Some(event), Some(sequence_number)) => InputBody::Event { event: Box::new(event), sequence_number },
        (rejected, ..) => rejected.expect("an event without faults has a code, a sequence number and fields"),
    }
}

/// A value that decodes.
enum Document<'a> {
    Object(&'a str, Members<'a>),
    Other(&'a str),
}

/// The document of a text that is JSON and without lone surrogates (rule 1.3, section 13).
fn document<'a>(record: &InputRecord, text: Option<&'a str>) -> Result<Document<'a>, Fault> {
    if record.value.as_ref().is_none_or(Vec::is_empty) {
        return Err(Fault::ValueMissing);
    }
    let text = text.filter(|text| !json::has_lone_surrogate(text)).ok_or(Fault::ValueNotDecodable)?;
    match json::object(text) {
        Some(members) => Ok(Document::Object(text, members)),
        None if json::parse(text).is_some() => Ok(Document::Other(text)),
        None => Err(Fault::ValueNotDecodable),
    }
}

/// The event's members, read as the rules need them.
struct Fields<'m, 'a>(&'m Members<'a>);

impl<'a> Fields<'_, 'a> {
    /// A text; `None` when missing, null or of another type.
    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        json::text(self.0.get(name)?)
    }

    /// A text that is there: missing, null and empty mean the same (rule 1.6).
    fn present(&self, name: &str) -> Option<String> {
        present(self.0.get(name)?)
    }

    /// Has a list's elements read that are objects; of what is no list there are none.
    fn each<const N: usize>(&self, name: &str, members: &[&str; N], read: impl FnMut(Picked<'a, N>)) {
        if let Some(list) = self.0.get(name) {
            json::pick_each(list, members, read);
        }
    }

    /// Rule 2.3: for each code whether a list of services holds it.
    fn hold<const N: usize>(&self, name: &str, codes: [&str; N]) -> [bool; N] {
        let mut held = [false; N];
        self.each(name, &["ServiceCode"], |[code]| {
            let code = code.and_then(json::text);
            held.iter_mut().zip(codes).for_each(|(held, asked)| *held |= code.as_deref() == Some(asked));
        });
        held
    }

    /// Rule 2.1: for each method the value of its first contact, whatever it is.
    fn contacts<const N: usize>(&self, methods: [&str; N]) -> [Option<String>; N] {
        let mut first = [None; N];
        let members = ["ContactType", "ContactAvailabilityType", "ContactMethodType", "ContactValue"];
        self.each("Contacts", &members, |[kind, availability, its_method, value]| {
            if is_text(kind, "Primary") && is_text(availability, "Office hours") {
                let asked = first.iter_mut().zip(methods).find(|(_, method)| is_text(its_method, method));
                if let Some((first, _)) = asked {
                    first.get_or_insert(value);
                }
            }
        });
        first.map(|value| present(value??))
    }

    /// Rule 1.3, as far as the value and the key go.
    fn faults(&self, key: Option<&[u8]>) -> Vec<Fault> {
        let mut faults = Vec::new();
        match self.text("ODSCode") {
            None => faults.push(Fault::OdsCodeMissing),
            Some(code) => {
                if let Err(wrong) = OdsCode::parse(&code) {
                    faults.extend(wrong.wrong_length.then_some(Fault::OdsCodeWrongLength));
                    faults.extend(wrong.not_alphanumeric.then_some(Fault::OdsCodeNotLettersAndDigits));
                }
                faults.extend(key.filter(|key| *key != code.as_bytes()).map(|_| Fault::KeyNotTheOdsCode));
            }
        }
        match self.text("OrganisationTypeId") {
            None => faults.push(Fault::OrganisationTypeIdMissing),
            Some(type_id) if is_supported_type_id(&type_id) => {}
            Some(_) => faults.push(Fault::OrganisationTypeIdNotSupported),
        }
        match self.text("OrganisationSubType") {
            None => faults.push(Fault::OrganisationSubTypeMissing),
            Some(sub_type) if is_supported_sub_type(&sub_type) => {}
            Some(_) => faults.push(Fault::OrganisationSubTypeNotSupported),
        }
        faults
    }

    /// Section 2; `None` without a valid code.
    fn event(&self) -> Option<ChangeEvent> {
        let ods_code = OdsCode::parse(&self.text("ODSCode")?).ok()?;
        let [website, phone] = self.contacts(["Website", "Telephone"]);
        let [blood_pressure, contraception] = self.hold("Services", [BLOOD_PRESSURE_CODE, CONTRACEPTION_CODE]);
        Some(ChangeEvent {
            ods_code,
            organisation: Arc::new(self.organisation()),
            address_lines: self.address_lines(),
            website,
            phone,
            opening_times: self.opening_times(),
            opening_times_json: self.0.get("OpeningTimes").map(|times| times.get().into()),
            palliative_care: self.palliative_care(),
            blood_pressure,
            contraception,
        })
    }

    fn organisation(&self) -> Organisation {
        let parent = self.0.get("ParentOrganisation").and_then(|parent| json::pick(parent, &["OrganisationName"]));
        Organisation {
            name: self.present("OrganisationName"),
            type_id: self.present("OrganisationTypeId"),
            type_name: self.present("OrganisationType"),
            sub_type: self.present("OrganisationSubType"),
            status: self.present("OrganisationStatus"),
            parent_name: parent.and_then(|[name]| present(name?)),
            address_1: self.present("Address1"),
            address_2: self.present("Address2"),
            address_3: self.present("Address3"),
            city: self.present("City"),
            county: self.present("County"),
            postcode: self.present("Postcode"),
        }
    }

    /// Rule 2.2.
    fn address_lines(&self) -> Vec<String> {
        ["Address1", "Address2", "Address3", "Address4", "City", "County"]
            .into_iter()
            .filter_map(|name| self.present(name).filter(|line| !is_blank(line)))
            .collect()
    }

    /// Rules 2.4, 2.5. Missing and null are an empty list (rule 1.6); what is no list is invalid (section 13).
    fn opening_times(&self) -> EventOpeningTimes {
        let Some(times) = self.0.get("OpeningTimes").filter(|times| !json::is_null(times)) else {
            return EventOpeningTimes::Items(Vec::new());
        };
        let (mut items, mut are_valid) = (Vec::new(), true);
        let all = json::pick_each(times, &ITEM_MEMBERS, |item| match read_item(&item_fields(item)) {
            Some(item) => items.push(item),
            None => are_valid = false,
        });
        if are_valid && all == Some(true) { EventOpeningTimes::Items(items) } else { EventOpeningTimes::Invalid }
    }

    /// Rules 2.3, 5.7: missing is an empty list; null, or what is no list, was never maintained.
    fn palliative_care(&self) -> Option<bool> {
        let is_maintained = self.0.get("UecServices").is_none_or(|services| services.get().starts_with('['));
        is_maintained.then(|| self.hold("UecServices", [PALLIATIVE_CARE_CODE]) == [true])
    }
}

/// A text that is there, as [`Fields::present`].
fn present(value: &RawValue) -> Option<String> {
    json::text(value).filter(|text| !text.is_empty()).map(Cow::into_owned)
}

fn is_text(value: Option<&RawValue>, expected: &str) -> bool {
    value.and_then(json::text).is_some_and(|text| text.eq_ignore_ascii_case(expected))
}

const ITEM_MEMBERS: [&str; 6] =
    ["OpeningTimeType", "Weekday", "AdditionalOpeningDate", "IsOpen", "OpeningTime", "ClosingTime"];

/// The members in the order of [`ITEM_MEMBERS`].
fn item_fields(item: Picked<'_, 6>) -> ItemFields<'_> {
    let field = |value: Option<_>| match value {
        None => ItemText::Empty,
        Some(value) if json::is_null(value) => ItemText::Empty,
        Some(value) => match json::text(value) {
            Some(text) if text.is_empty() => ItemText::Empty,
            Some(text) => ItemText::Text(text),
            None => ItemText::Other,
        },
    };
    let [kind, weekday, date, is_open, opening, closing] = item;
    ItemFields {
        opening_time_type: field(kind),
        weekday: field(weekday),
        additional_opening_date: field(date),
        is_open: is_open.and_then(json::boolean),
        opening_time: field(opening),
        closing_time: field(closing),
    }
}

#[cfg(test)]
mod tests;
