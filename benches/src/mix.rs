//! The usual mix of change events: profiles that are sent again as they are, edits of one field, edits of nearly everything.

use anyhow::{Context, Result};
use dosi_tests::golden_form::Event;
use dosi_tests::topics::Record;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const SEED: u64 = 2026;
const UNCHANGED: f64 = 0.80;
const UNCHANGED_OR_SMALL: f64 = 0.95;
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const DATES: [&str; 6] = ["Dec 25 2029", "Dec 26 2029", "Jan  1 2030", "Apr 19 2030", "Apr 22 2030", "May  6 2030"];

/// Endless; the same each time.
#[derive(Debug)]
pub struct Mix {
    profiles: Vec<Profile>,
    rng: StdRng,
    sent: usize,
}

#[derive(Debug)]
struct Profile {
    sequence: i64,
    event: Value,
}

impl Mix {
    /// `newest`: profiles that DoS agrees with.
    pub fn new(newest: &[Record]) -> Result<Self> {
        let profiles = newest.iter().map(Profile::of).collect::<Result<_>>()?;
        Ok(Self { profiles, rng: StdRng::seed_from_u64(SEED), sent: 0 })
    }

    /// Correlation ids count from `load-0`.
    fn next_record(&mut self) -> Record {
        let which = self.rng.random_range(0..self.profiles.len());
        let profile = &mut self.profiles[which];
        match self.rng.random::<f64>() {
            kind if kind < UNCHANGED => {}
            kind if kind < UNCHANGED_OR_SMALL => profile.edit_little(&mut self.rng),
            _ => profile.edit_much(&mut self.rng),
        }
        let event = Event {
            sequence: profile.sequence,
            correlation_id: Some(correlation_id(self.sent)),
            event: profile.event.to_string(),
        };
        self.sent += 1;
        Record::of_event(profile.event["ODSCode"].as_str().unwrap_or_default(), &event)
    }
}

impl Iterator for Mix {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        Some(self.next_record())
    }
}

/// Of the event with this number.
pub fn correlation_id(number: usize) -> String {
    format!("load-{number}")
}

/// The number of the event with this correlation id.
pub fn number_of(correlation_id: &str) -> Option<usize> {
    correlation_id.strip_prefix("load-")?.parse().ok()
}

impl Profile {
    fn of(record: &Record) -> Result<Self> {
        let (_, sequence) = record.headers.iter().find(|(name, _)| name == "sequence-number").context("no number")?;
        let event = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
        Ok(Self { sequence: std::str::from_utf8(sequence)?.parse()?, event })
    }

    /// A new telephone number.
    fn edit_little(&mut self, rng: &mut StdRng) {
        self.sequence += 1;
        self.event["Contacts"] = json!([{
            "ContactType": "Primary",
            "ContactAvailabilityType": "Office hours",
            "ContactMethodType": "Telephone",
            // From the range kept for drama.
            "ContactValue": format!("01632 960{:03}", rng.random_range(0..1000)),
        }]);
    }

    /// New telephone number, address, hours of all weekdays and of six dates.
    fn edit_much(&mut self, rng: &mut StdRng) {
        self.edit_little(rng);
        self.event["Address1"] = json!(format!("{} New Street", rng.random_range(1..1000)));
        let closing = format!("{}:{:02}", rng.random_range(14..22), rng.random_range(0..60));
        let days = WEEKDAYS.iter().map(|day| opening(day, "General", "", &closing));
        let dates = DATES.iter().map(|date| opening("", "Additional", date, &closing));
        self.event["OpeningTimes"] = days.chain(dates).collect();
    }
}

fn opening(weekday: &str, kind: &str, date: &str, closing: &str) -> Value {
    json!({
        "Weekday": weekday,
        "OpeningTime": "09:00",
        "ClosingTime": closing,
        "Times": format!("09:00-{closing}"),
        "OffsetOpeningTime": 0,
        "OffsetClosingTime": 0,
        "OpeningTimeType": kind,
        "AdditionalOpeningDate": date,
        "IsOpen": true,
    })
}
