//! Services, locations and events in the JSON form of the golden cases, which England and the generated country share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// `[start, end]` as `HH:MM:SS`.
pub type Period = (String, String);

/// Day names of [`Service::opening`] in the order of the ids in `openingtimedays`, from 1.
pub const DAYS: [&str; 8] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "bankholiday"];

/// One DoS service with all that hangs on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub id: i32,
    pub uid: String,
    pub name: String,
    pub publicname: Option<String>,
    pub odscode: Option<String>,
    pub address: Option<String>,
    pub town: Option<String>,
    pub postcode: Option<String>,
    pub publicphone: Option<String>,
    pub web: Option<String>,
    pub typeid: i32,
    pub statusid: i32,
    /// Name of the parent, a service of type -1; null for a service without one.
    pub region: Option<String>,
    pub easting: Option<i32>,
    pub northing: Option<i32>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
    /// By the names in [`DAYS`].
    pub opening: BTreeMap<String, Vec<Period>>,
    pub specified: Vec<SpecifiedDate>,
    /// `[sgid, sdid]`.
    pub zcodes: Vec<(i32, i32)>,
    /// The text of `servicehistories.history`, as it stands: the order of its keys and the form of its numbers matter.
    #[serde(deserialize_with = "text_of_object")]
    pub history: Option<String>,
    pub changes: Vec<Change>,
}

/// One date of `servicespecifiedopeningdates` with its periods.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecifiedDate {
    pub date: String,
    pub closed: bool,
    pub periods: Vec<Period>,
}

/// One row of `changes`; a user exists for its creator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub id: String,
    pub status: String,
    pub creator: String,
    /// JSON by intention only.
    pub value: String,
}

/// One row of `locations`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "LocationForm")]
pub struct Location {
    pub postcode: String,
    pub easting: Option<i32>,
    pub northing: Option<i32>,
    pub postaltown: Option<String>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
}

type LocationRow = (String, Option<i32>, Option<i32>, Option<String>, Option<f64>, Option<f64>);

/// The golden cases write a location as a row, England as an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum LocationForm {
    Row(LocationRow),
    Object {
        postcode: String,
        easting: Option<i32>,
        northing: Option<i32>,
        postaltown: Option<String>,
        latitude: Option<f64>,
        longitude: Option<f64>,
    },
}

impl From<LocationForm> for Location {
    fn from(form: LocationForm) -> Self {
        let (postcode, easting, northing, postaltown, latitude, longitude) = match form {
            LocationForm::Row(row) => row,
            LocationForm::Object { postcode, easting, northing, postaltown, latitude, longitude } => {
                (postcode, easting, northing, postaltown, latitude, longitude)
            }
        };
        Self { postcode, easting, northing, postaltown, latitude, longitude }
    }
}

/// One change event with what travels in its headers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub sequence: i64,
    pub correlation_id: Option<String>,
    /// The JSON text of the change event, as it stands.
    #[serde(deserialize_with = "text_of_value")]
    pub event: String,
}

impl Event {
    /// As a line of a file for `dosi publish`.
    pub fn to_line(&self) -> String {
        let correlation_id = Value::from(self.correlation_id.clone());
        format!(r#"{{"sequence":{},"correlation_id":{correlation_id},"event":{}}}"#, self.sequence, self.event)
    }
}

/// A country: DoS before, and what NHS.uk sends.
#[derive(Clone, Debug, Default)]
pub struct Country {
    pub services: Vec<Service>,
    pub locations: Vec<Location>,
    /// In the order in which they arrive.
    pub events: Vec<Event>,
}

impl Country {
    /// From a folder with `services.jsonl.gz`, `locations.jsonl.gz` and `events.jsonl.gz`.
    pub fn read(folder: &Path) -> Result<Self> {
        Ok(Self {
            services: read_lines(&folder.join("services.jsonl.gz"))?,
            locations: read_lines(&folder.join("locations.jsonl.gz"))?,
            events: read_lines(&folder.join("events.jsonl.gz"))?,
        })
    }
}

/// Where the shared England data is, beside a checkout; `None`, said on stderr, where it is not.
pub fn england_folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/england");
    if folder.join("services.jsonl.gz").is_file() {
        return Some(folder);
    }
    eprintln!("England's data (../shared/data/england) is not on this machine");
    None
}

/// One golden case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub id: String,
    /// `YYYY-MM-DD`, the same in all cases.
    pub today: String,
    pub services: Vec<Service>,
    /// The same in all cases.
    pub locations: Vec<Location>,
    /// All of one ODS code, which no other case has.
    pub events: Vec<Event>,
    pub expect: Expect,
}

/// What a case must end in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// To be compared with [`After::in_golden_form`](crate::dos::After::in_golden_form).
    pub services: Vec<Value>,
    /// One list an event.
    pub reports: Vec<Vec<Value>>,
    /// Ids of the pending changes whose creators get a mail.
    pub emails: Vec<String>,
}

/// All golden cases, the services of each with ids of their own, so that all fit into one database.
pub fn golden_cases() -> Result<Vec<Case>> {
    golden_copies(1)
}

/// As [`golden_cases`], every case this many times: a copy has an ODS code and ids of its own.
pub fn golden_copies(copies: usize) -> Result<Vec<Case>> {
    let lines: Vec<Box<RawValue>> = read_lines(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/golden.jsonl.gz"))?;
    let numbered = (0..copies).flat_map(|copy| lines.iter().map(move |line| (copy, line.get()))).enumerate();
    let cases = numbered.map(|(number, (copy, line))| {
        let line = renumbered(line, number);
        let line = if copy == 0 { line } else { recoded(&line, number)? };
        serde_json::from_str(&line).context("not a golden case")
    });
    cases.collect()
}

/// Every case has services 101, 102 and 103 at most, uids made of them, and changes named after them. As text, because
/// uids stand in many places, and because parsing and printing would lose the order of history.
fn renumbered(line: &str, case: usize) -> String {
    (101..=103).fold(line.to_owned(), |line, old| {
        let new = 1000 + 10 * case + (old - 100);
        line.replace(&format!(r#"{{"id": {old}, "uid""#), &format!(r#"{{"id": {new}, "uid""#))
            .replace(&format!("2000000{old}"), &(2_000_000_000 + new).to_string())
            .replace(&format!("\"{old}-"), &format!("\"{new}-"))
    })
}

/// All codes of a case begin with the same five characters, which names carry, too; no golden code begins with a `Y`.
fn recoded(line: &str, case: usize) -> Result<String> {
    let (_, from_code) = line.split_once(r#""ODSCode": ""#).context("a case has no event")?;
    let code = from_code.get(..5).context("a code is too short")?;
    Ok(line.replace(code, &format!("Y{case:04}")))
}

/// Reads a gzip file of JSON lines.
pub fn read_lines<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let opened = File::open(file).with_context(|| format!("failed to open {}", file.display()))?;
    let lines = BufReader::new(GzDecoder::new(opened)).lines();
    let parsed = lines.enumerate().map(|(number, line)| {
        serde_json::from_str(&line?).with_context(|| format!("{} line {}", file.display(), number + 1))
    });
    parsed.collect()
}

/// The members of a JSON object in the order in which they stand.
pub fn members(object: &str) -> Result<Vec<(String, Box<RawValue>)>> {
    struct InOrder;
    impl<'de> serde::de::Visitor<'de> for InOrder {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a JSON object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let members = deserializer.deserialize_map(InOrder)?;
    deserializer.end()?;
    Ok(members)
}

fn text_of_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Box::<RawValue>::deserialize(deserializer)?.get().to_owned())
}

fn text_of_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Box<RawValue>>::deserialize(deserializer)?.map(|text| text.get().to_owned()))
}
