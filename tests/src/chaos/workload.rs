//! The events of a run: made up, the same for the same seed, and produced all the while.
//!
//! Many come to the same codes; some come again with an equal sequence number, some late with a smaller one; some are poison.
//! A few codes are sent to two partitions on purpose, with so few events that every order of theirs can be tried.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use dosi::domain::batch::DeadLetter;
use futures::stream::{FuturesUnordered, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, Producer};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::country::Organisation;
use crate::golden_form::{Change, Location, Service};
use crate::stack::Addresses;
use crate::topics::{self, Record};

pub const PARTITIONS: i32 = 6;
/// Of the events of a run, about as many to one of the first few codes as to all others.
const ORGANISATIONS: u32 = 80;
const OFTEN: u32 = 12;
/// Codes sent to two partitions, and events of each: few enough to try all orders.
const SPLIT: u32 = 30;
const SPLIT_EVENTS: u32 = 8;
/// Correlation ids of events that must be dead-lettered begin with this.
pub const POISON: &str = "poison";
const FLUSH_WITHIN: Duration = Duration::from_secs(120);
/// What dosi knows nothing of until the database refuses it.
pub const LIMIT_SEQUENCES: &str = "ALTER TABLE dos_integration.accepted_sequence
    ADD CONSTRAINT below_the_limit CHECK (sequence_number < 1000000000)";
const SEQUENCE_LIMIT: i64 = 1_000_000_000;

/// What makes the events.
#[derive(Debug)]
pub struct Workload {
    rng: StdRng,
    organisations: Vec<Organisation>,
    /// Largest sequence number that was sent, by organisation.
    sequences: Vec<i64>,
    split: VecDeque<(usize, u32)>,
    number: usize,
}

impl Workload {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(1));
        let mut organisations: Vec<_> =
            (0..ORGANISATIONS + SPLIT).map(|number| Organisation::new(seed, number)).collect();
        for organisation in &mut organisations {
            for service in &mut organisation.services {
                if service.changes.is_empty() && rng.random_bool(0.3) {
                    service.changes.push(pending_change(service));
                }
            }
        }
        let split = (ORGANISATIONS..ORGANISATIONS + SPLIT).map(|number| (number as usize, 0)).collect();
        Self { rng, sequences: vec![0; organisations.len()], organisations, split, number: 0 }
    }

    /// What DoS holds before the run.
    pub fn services(&self) -> Vec<Service> {
        self.organisations.iter().flat_map(|organisation| organisation.services.clone()).collect()
    }

    pub fn locations(&self) -> Vec<Location> {
        self.organisations.iter().map(|organisation| organisation.location.clone()).collect()
    }

    /// Codes with the most events: those that locks should hit.
    pub fn often(&self) -> Vec<String> {
        self.organisations.iter().take(OFTEN as usize).map(|organisation| organisation.ods_code().to_owned()).collect()
    }

    /// The next record to produce.
    pub fn next_record(&mut self) -> Record {
        self.number += 1;
        match self.rng.random_range(0..100) {
            0..=2 => self.split_event(),
            3..=6 => self.poison(),
            _ => {
                let among = if self.rng.random_bool(0.5) { OFTEN } else { ORGANISATIONS };
                let organisation = self.rng.random_range(0..among) as usize;
                self.usual(organisation)
            }
        }
    }

    fn usual(&mut self, organisation: usize) -> Record {
        let event = self.organisations[organisation].edit();
        let last = self.sequences[organisation];
        let sequence = match self.rng.random_range(0..20) {
            // The same number again: processed again.
            0 | 1 => last,
            // A late one: stale.
            2 | 3 => last - self.rng.random_range(1..5),
            _ => last + self.rng.random_range(1..20),
        };
        self.sequences[organisation] = last.max(sequence);
        self.record(&event, &sequence.to_string())
    }

    /// To one of the two partitions of a code that has some; a usual event when all have had theirs.
    fn split_event(&mut self) -> Record {
        let Some((organisation, sent)) = self.split.pop_front() else { return self.usual(0) };
        if sent + 1 < SPLIT_EVENTS {
            // Two codes take turns, so that their events lie some seconds apart.
            let at = self.split.len().min(1);
            self.split.insert(at, (organisation, sent + 1));
        }
        let event = self.sound(organisation);
        self.sequences[organisation] += 1;
        let mut record = self.record(&event, &self.sequences[organisation].to_string());
        let first = i32::try_from(organisation).unwrap_or_default();
        record.partition = Some((first + i32::from(sent.is_multiple_of(2))) % PARTITIONS);
        record
    }

    fn poison(&mut self) -> Record {
        let organisation = self.rng.random_range(0..ORGANISATIONS) as usize;
        let mut event = self.sound(organisation);
        let kind = self.rng.random_range(0..12);
        if kind > 8 {
            let sequence = self.sequences[organisation] + SEQUENCE_LIMIT;
            return self.record_of(POISON, &event, &sequence.to_string());
        }
        self.sequences[organisation] += 1;
        let sequence = self.sequences[organisation].to_string();
        match kind {
            0 => event["Contacts"][0]["ContactValue"] = json!("01632\u{0}960"),
            1 => {
                event["Contacts"][1]["ContactValue"] =
                    json!(format!("https://www.example.example/{}", "a".repeat(600)));
            }
            2 if self.organisations[organisation].location.easting.is_some() => {
                event["Address1"] = json!("x".repeat(600));
            }
            3 => event["OrganisationTypeId"] = json!("DEN"),
            4 => event["ODSCode"] = json!("F%_01"),
            _ => event["OrganisationSubType"] = Value::Null,
        }
        let mut record = self.record(&event, &sequence);
        match kind {
            5 => record.value = Some(b"{\"ODSCode\": \"F".to_vec()),
            6 => record.value = None,
            7 => record.headers.retain(|(name, _)| name != "sequence-number"),
            8 => record.key = Some(b"FXXXX".to_vec()),
            _ => {}
        }
        record
    }

    /// An event of which nothing is wrong.
    fn sound(&mut self, organisation: usize) -> Value {
        let organisation = &mut self.organisations[organisation];
        loop {
            let event = organisation.edit();
            let own = event["ODSCode"] == organisation.ods_code();
            let complete = event["Contacts"].is_array() && event["Postcode"] != "QZ99 9ZZ";
            if own && complete && event["OrganisationStatus"] == "Visible" && !is_refused(&event) {
                return event;
            }
        }
    }

    fn record(&self, event: &Value, sequence: &str) -> Record {
        self.record_of(if is_refused(event) { POISON } else { "event" }, event, sequence)
    }

    fn record_of(&self, kind: &str, event: &Value, sequence: &str) -> Record {
        let headers = [("sequence-number", sequence.to_owned()), ("correlation-id", format!("{kind}-{}", self.number))];
        Record {
            partition: None,
            key: Some(event["ODSCode"].as_str().unwrap_or_default().as_bytes().to_vec()),
            value: Some(event.to_string().into_bytes()),
            headers: headers.map(|(name, value)| (name.to_owned(), value.into_bytes())).into(),
        }
    }
}

/// Whether it was made to be refused. Said by what was put in, not by the rules that are to be tested.
fn is_refused(event: &Value) -> bool {
    let long = |text: &Value| text.as_str().is_some_and(|text| text.len() > 550 || text.contains('\0'));
    let contacts = event["Contacts"].as_array().into_iter().flatten();
    event["OrganisationTypeId"] != "PHA"
        || !["Community", "DistanceSelling"].iter().any(|known| event["OrganisationSubType"] == *known)
        || event["ODSCode"].as_str().is_some_and(|code| code.contains('%'))
        || long(&event["Address1"])
        || contacts.map(|contact| &contact["ContactValue"]).any(long)
}

/// What the database says of a record that it refuses (see [`LIMIT_SEQUENCES`]).
pub fn refusal(record: &Record) -> Option<DeadLetter> {
    let (_, number) = record.headers.iter().find(|(name, _)| name == "sequence-number")?;
    let number: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let detail = "table accepted_sequence, constraint below_the_limit".to_owned();
    (number >= SEQUENCE_LIMIT).then(|| DeadLetter { reason: "23514".to_owned(), detail })
}

/// One that the next event of the service rejects.
fn pending_change(service: &Service) -> Change {
    let value = json!({"new": {"cmsurl": {"changetype": "modify", "data": "https://new.example", "previous": ""}}});
    Change {
        id: format!("change-{}", service.id),
        status: "PENDING".to_owned(),
        creator: "area.manager".to_owned(),
        value: value.to_string(),
    }
}

/// Produces at a steady rate until told to stop. How many records were made is in `made`.
pub async fn produce(
    mut workload: Workload,
    addresses: Addresses,
    topic: String,
    events_per_second: u32,
    made: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &addresses.kafka_bootstrap_servers)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        // Brokers may be away for as long as a fault lasts.
        .set("message.timeout.ms", "0")
        .set("linger.ms", "5")
        .create()?;
    let pause = Duration::from_secs(1) / events_per_second;
    let mut next = Instant::now();
    let mut sent = FuturesUnordered::new();
    while !stop.load(Ordering::SeqCst) {
        let record = workload.next_record();
        let message = topics::future_record(&topic, &record);
        sent.push(producer.send_result(message).map_err(|(error, _)| error).context("failed to produce")?);
        made.fetch_add(1, Ordering::SeqCst);
        next = (next + pause).max(Instant::now());
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                Some(delivery) = sent.next() => check(delivery)?,
            }
        }
    }
    producer.flush(FLUSH_WITHIN)?;
    while let Some(delivery) = sent.next().await {
        check(delivery)?;
    }
    Ok(())
}

type Delivery = Result<rdkafka::producer::future_producer::OwnedDeliveryResult, futures::channel::oneshot::Canceled>;

fn check(delivery: Delivery) -> Result<()> {
    delivery?.map_err(|(error, _)| error).context("failed to produce")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_events() {
        let records = |seed| {
            let mut workload = Workload::new(seed);
            std::iter::repeat_with(|| workload.next_record()).take(300).collect::<Vec<_>>()
        };
        assert!(records(3) == records(3));
        assert!(records(3) != records(4));
    }

    #[test]
    fn codes_with_two_partitions_have_few_events_and_others_none_chosen() {
        let mut workload = Workload::new(1);
        let records: Vec<_> = std::iter::repeat_with(|| workload.next_record()).take(3_000).collect();
        let split: Vec<_> = records.iter().filter(|record| record.partition.is_some()).collect();
        let codes: BTreeSet<_> = split.iter().map(|record| &record.key).collect();
        assert!(codes.len() > 5);
        assert!(codes.iter().all(|code| split.iter().filter(|record| record.key == **code).count() <= 8));
        assert!(records.iter().filter(|record| codes.contains(&record.key)).all(|record| record.partition.is_some()));
    }
}
