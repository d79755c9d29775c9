//! The floor: what PostgreSQL alone needs to store England's end state, set-based, over one connection.
//!
//! Everything is computed beforehand: dosi's core decides batch after batch on a database of its own, and what each batch
//! leaves is kept. Then the clock starts, and the same is written to another copy by the statements that dosi itself writes
//! with: no locks, no reads, no decisions, no positions, no Kafka.

use std::collections::HashMap;
use std::future::ready;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use dosi::domain::audit::Outcome;
use dosi::domain::batch::{self, Effects, EventDecision, Input, Moment};
use dosi::domain::history::HistoryHead;
use dosi::pipeline::batch::{Prepared, archived, load};
use dosi::postgres::apply::{ApplyContext, apply};
use dosi::postgres::outbox::{self, Output};
use dosi::postgres::pool::{PoolSettings, build};
use dosi::postgres::{self, Client, Transaction, archive};
use dosi::wire::audit::{AuditEncoder, Envelope};
use dosi::wire::change_event::decode;
use dosi::wire::dead_letter;
use dosi::wire::record::InputRecord;
use dosi_tests::serial::input;
use dosi_tests::topics::Record;

use crate::ground::TODAY;

const TOPIC: &str = "floor";
/// 2026-11-22 12:00:00 UTC
const NOW_MS: i64 = 1_795_348_800_000;
const DEAD_LETTER_BYTES_MAX: usize = 1_000_000;

/// Rows are made where dosi makes them while it locks them, and raised where it raises them after its decisions: here both
/// at once, which is all that must be stored.
const STORE_SEQUENCES: &str = "INSERT INTO dos_integration.accepted_sequence (ods_code, sequence_number)
    SELECT * FROM unnest($1::text[], $2::bigint[])
    ON CONFLICT (ods_code) DO UPDATE SET sequence_number = excluded.sequence_number";

/// All that some events leave, batch by batch.
#[derive(Debug, Default)]
pub struct Floor {
    batches: Vec<Writes>,
    outcomes: Vec<Outcome>,
}

/// What one batch leaves.
#[derive(Debug)]
struct Writes {
    /// Without the sequence numbers, which stand by themselves.
    effects: Effects,
    sequences: (Vec<String>, Vec<i64>),
    heads: HashMap<i32, HistoryHead>,
    events: Vec<Prepared>,
    payload: Vec<u8>,
}

impl Floor {
    /// Decides the events in batches on this database, which afterwards holds DoS as they leave it.
    pub async fn prepare(url: &str, records: &[Record], batch_events: usize) -> Result<Self> {
        let mut client = connect(url).await?;
        let encoder = AuditEncoder::new(1, "local", "dead-letter");
        let mut floor = Self::default();
        let mut numbered = (0..).zip(records);
        loop {
            let events: Vec<_> =
                numbered.by_ref().take(batch_events).map(|(offset, record)| prepared(offset, record)).collect();
            if events.is_empty() {
                return Ok(floor);
            }
            let transaction = client.transaction().await?;
            let (decisions, writes) = decide(&transaction, &encoder, events).await?;
            writes.store_in_dos(&transaction).await?;
            transaction.commit().await?;
            floor.outcomes.extend(decisions.iter().map(|decision| decision.outcome));
            floor.batches.push(writes);
        }
    }

    /// What became of each event.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Writes everything; the database is another copy of the one that was prepared with.
    pub async fn store(&self, url: &str) -> Result<()> {
        let mut client = connect(url).await?;
        let mut start = 0;
        for writes in &self.batches {
            let transaction = client.transaction().await?;
            writes.store_in_dos(&transaction).await?;
            start = writes.store_beside_dos(&transaction, start).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

/// One connection with the settings of dosi's own.
async fn connect(url: &str) -> Result<Client> {
    let settings = PoolSettings { url: url.to_owned(), password: None, schema: "pathwaysdos".to_owned(), size: 1 };
    Ok(build(&settings)?.get().await?)
}

/// As dosi's consumer would hand it on.
fn prepared(offset: i64, record: &Record) -> Prepared {
    let record = InputRecord { offset, timestamp_ms: NOW_MS, ..input(record) };
    let decoded = decode(&record, Ok(record.value.as_deref().unwrap_or_default()));
    Prepared { record, decoded }
}

async fn decide(
    transaction: &Transaction<'_>,
    encoder: &AuditEncoder,
    events: Vec<Prepared>,
) -> Result<(Vec<EventDecision>, Writes)> {
    let inputs: Vec<&Input> = events.iter().map(|event| &event.decoded.input).collect();
    let state = load(transaction, &inputs, ready(Ok(true))).await?.context("no position was to move")?;
    let decided = batch::decide(&inputs, state, Moment { now: now(), today: TODAY.parse()? });
    let (changed, to_clear) = (decided.changed_services(), decided.services_to_clear());
    let (heads, pending) = postgres::load::heads_and_pending(transaction, &changed, &to_clear).await?;
    let (decisions, mut effects) = batch::finish(decided, &heads, pending);
    let sequences = std::mem::take(&mut effects.sequences);
    let sequences = sequences.into_iter().map(|(code, number)| (code.as_str().to_owned(), number)).unzip();
    let payload = outbox::encode(&output(encoder, &events, &decisions)?);
    Ok((decisions, Writes { effects, sequences, heads, events, payload }))
}

fn output(encoder: &AuditEncoder, events: &[Prepared], decisions: &[EventDecision]) -> Result<Output> {
    let mut records = Vec::new();
    for (Prepared { record, decoded }, decision) in events.iter().zip(decisions) {
        records.extend(encoder.encode(&Envelope::of(record, decoded, now()), &decision.reports)?);
        let letter = decision.dead_letter.as_ref();
        records.extend(letter.map(|letter| dead_letter::record(record, decoded, letter, 1, DEAD_LETTER_BYTES_MAX)));
    }
    Ok(Output { records, received_ms: events.iter().map(|event| event.record.timestamp_ms).collect() })
}

impl Writes {
    async fn store_in_dos(&self, transaction: &Transaction<'_>) -> Result<()> {
        let (codes, numbers) = &self.sequences;
        let statement = transaction.prepare_cached(STORE_SEQUENCES).await?;
        transaction.execute(&statement, &[codes, numbers]).await?;
        let correlation_ids: Vec<&str> =
            self.events.iter().map(|event| event.decoded.input.correlation_id.as_str()).collect();
        let context = ApplyContext { now: now(), heads: &self.heads, correlation_ids: &correlation_ids };
        Ok(apply(transaction, &self.effects, &context, ready(Ok(()))).await?)
    }

    /// Archive and outbox; where the next batch starts.
    async fn store_beside_dos(&self, transaction: &Transaction<'_>, start: i64) -> Result<i64> {
        let rows: Vec<_> = self.events.iter().filter_map(archived).collect();
        archive::insert(transaction, TOPIC, &rows).await?;
        let events = i32::try_from(self.events.len())?;
        let end = start + i64::from(events);
        outbox::insert(transaction, TOPIC, 0, (start, end), events, &self.payload).await?;
        Ok(end)
    }
}

/// The moment of every batch.
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(NOW_MS).context("no such moment").unwrap_or_default()
}
