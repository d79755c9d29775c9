//! One event and the part of DoS that it concerns: what the core costs, step by step.

use anyhow::{Context, Result};
use chrono::DateTime;
use dosi::domain::batch::{DosState, Effects, EventDecision};
use dosi::postgres::outbox::{self, Output};
use dosi::wire::audit::{AuditEncoder, Envelope};
use dosi::wire::change_event::{Decoded, decode};
use dosi::wire::record::InputRecord;
use serde_json::Value;

use crate::golden_form::{Country, Event, Service};
use crate::serial::{Organisation, by_postcode, input};
use crate::topics::Record;

const TODAY: &str = "2026-11-22";

/// An event, its organisation as it is before, and what encodes the outcome.
#[derive(Clone, Debug)]
pub struct Sample {
    record: InputRecord,
    organisation: Organisation,
    encoder: AuditEncoder,
}

impl Sample {
    pub fn of(country: &Country, event: &Event) -> Result<Self> {
        let body: Value = serde_json::from_str(&event.event)?;
        let code = body["ODSCode"].as_str().context("the event names no code")?;
        let is_its = |service: &&Service| service.odscode.as_ref().is_some_and(|odscode| odscode.starts_with(code));
        let services: Vec<_> = country.services.iter().filter(is_its).collect();
        let organisation =
            Organisation::new(&services, &by_postcode(&country.locations), body["Postcode"].as_str(), TODAY.parse()?);
        let encoder = AuditEncoder::new(1, "local", "dead-letter");
        Ok(Self { record: input(&Record::of_event(code, event)), organisation, encoder })
    }

    pub fn parse(&self) -> Decoded {
        decode(&self.record, Ok(self.record.value.as_deref().unwrap_or_default()))
    }

    /// What the database would read.
    pub fn load(&self, decoded: &Decoded) -> DosState {
        self.organisation.load(decoded)
    }

    pub fn decide(&self, decoded: &Decoded, state: DosState) -> (Vec<EventDecision>, Effects) {
        self.organisation.decide(decoded, state)
    }

    /// The outbox row's payload: all audit records.
    pub fn encode(&self, decoded: &Decoded, decisions: &[EventDecision]) -> Result<Vec<u8>> {
        let envelope = Envelope::of(&self.record, decoded, DateTime::UNIX_EPOCH);
        let mut records = Vec::new();
        for decision in decisions {
            records.extend(self.encoder.encode(&envelope, &decision.reports)?);
        }
        Ok(outbox::encode(&Output { records, received_ms: vec![self.record.timestamp_ms] }))
    }
}
