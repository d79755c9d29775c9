//! One batch: the transaction in which its effects, its archive, its output and its position become durable together.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use fail::fail_point;
use futures::join;
use tokio::time::{Instant, timeout};

use super::Shared;
use crate::{
    domain::{
        audit::Outcome,
        batch::{self, DeadLetter, DosState, Effects, EventDecision, Input, Moment},
        history::HistoryHead,
        matching, postcode,
    },
    fault_injection::{Mutant, is},
    kafka::registry::SchemaKind,
    postgres::{
        self, Fault,
        apply::ApplyContext,
        archive,
        database::Lease,
        outbox::{self, Output},
        position,
        services::Complete,
    },
    protocol::unpublished::OutboxSpan,
    telemetry::metrics::Stage,
    wire::{
        audit::Envelope,
        change_event::{self, Decoded, FRAME_BYTES, Undecodable, ValueForm, value_form},
        dead_letter, headers,
        record::{InputRecord, OutputRecord},
    },
};

/// A database that does not answer at all is noticed after this long; its own time-outs are shorter.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(35);

/// SQLSTATE of a statement that was cancelled: by its own time-out, or with the try as a whole.
const CANCELLED: &str = "57014";

/// Most characters of an ODS code in a log line.
const ODS_CODE_CHARS: usize = 40;

/// Bytes that several events may make together; more of them are applied in parts.
const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// For a deliberate defect: long enough for something to happen meanwhile.
const MUTANT_GAP: Duration = Duration::from_millis(100);

/// A record with what was read from it; kept through every retry.
#[derive(Debug)]
pub struct Prepared {
    pub record: InputRecord,
    pub decoded: Decoded,
}

/// The events of one transaction and the positions it moves between.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub from: i64,
    pub to: i64,
    pub events: &'a [Prepared],
    /// It ends at or before the group's offset: the database had lost it, its audit is out (design: beginnings, ends and
    /// edges).
    pub is_published: bool,
    /// The one event of this batch is refused: nothing of it is applied (rule 9.2).
    pub refused: Option<&'a Refusal>,
    /// How long one statement may take, where it is to be shorter than the session's.
    pub statement_timeout: Option<Duration>,
}

/// Why an event is dead-lettered by what the database said of it.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub letter: DeadLetter,
    pub attempts: i32,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Attempt {
    Applied(OutboxSpan<Arc<Output>>),
    /// The position is not where the lane thinks it is: nothing was written.
    Fenced,
    /// Several events make more output than one transaction may carry: nothing was written.
    TooLarge,
}

/// Tries the batch once. On an error nothing was written, or (when the answer to COMMIT was lost) everything was: the
/// next compare-and-set tells. `within`: how long a suspected event's try may take; waiting for a connection is no part of it, and
/// not to get one is no event's fault.
pub async fn attempt(
    shared: &Shared,
    partition: i32,
    batch: Batch<'_>,
    within: Option<Duration>,
) -> Result<Attempt, Fault> {
    let lease = shared.database.lease().await?;
    let result = timeout(within.unwrap_or(ATTEMPT_TIMEOUT), run(shared, lease, partition, batch)).await;
    result.unwrap_or_else(|_| Err(within.map_or_else(Fault::no_answer, |_| Fault::unclear(CANCELLED))))
}

async fn run(shared: &Shared, mut lease: Lease, partition: i32, batch: Batch<'_>) -> Result<Attempt, Fault> {
    let transaction = lease.transaction().await?;
    if let Some(limit) = batch.statement_timeout {
        postgres::pool::limit_statements(&transaction, limit).await?;
    }
    let topic = &shared.topics.change_events;
    let moved = async {
        if !is(Mutant::PositionOutsideTransaction) {
            return position::compare_and_set(&transaction, topic, partition, batch.from, batch.to).await;
        }
        let mut own = shared.database.lease().await?;
        let transaction = own.transaction().await?;
        position::compare_and_set(&transaction, topic, partition, batch.from, batch.to).await?;
        transaction.commit().await?;
        own.give_back();
        Ok(true)
    };
    let Some(decided) = decide(shared, &transaction, batch, moved).await? else {
        shared.metrics.fenced_batches.inc();
        transaction.rollback().await?;
        lease.give_back();
        return Ok(Attempt::Fenced);
    };
    if is(Mutant::SequenceWithoutLock) || is(Mutant::RowsWithoutLock) {
        tokio::time::sleep(MUTANT_GAP).await;
    }
    let Some(span) = write(shared, &transaction, partition, batch, &decided).await? else {
        transaction.rollback().await?;
        lease.give_back();
        return Ok(Attempt::TooLarge);
    };
    let committing = Instant::now();
    if is(Mutant::OffsetBeforeDatabase)
        && let Some(ours) = shared.serving.get(partition)
    {
        shared.serving.lock().protocol.applied(ours.assignment, span.clone());
        shared.publish_now.notify_one();
        tokio::time::sleep(MUTANT_GAP).await;
    }
    fail_point!("database-commit-before");
    transaction.commit().await?;
    fail_point!("database-commit-after");
    shared.metrics.spent(Stage::Commit, committing.elapsed());
    lease.give_back();
    count(shared, batch.events, &decided.decisions);
    Ok(Attempt::Applied(span))
}

/// A batch decided, nothing of it written yet.
#[derive(Default)]
struct DecidedBatch {
    /// When.
    now: DateTime<Utc>,
    decisions: Vec<EventDecision>,
    effects: Effects,
    heads: HashMap<i32, HistoryHead>,
}

/// `None` unless the position has `moved`, which is the transaction's first statement.
async fn decide(
    shared: &Shared,
    transaction: &Transaction<'_>,
    batch: Batch<'_>,
    moved: impl Future<Output = Result<bool, Fault>>,
) -> Result<Option<DecidedBatch>, Fault> {
    if let Some(refusal) = batch.refused {
        let decisions = vec![batch::dead_lettered(refusal.letter.clone(), refusal.attempts)];
        return Ok(moved.await?.then(|| DecidedBatch { now: Utc::now(), decisions, ..DecidedBatch::default() }));
    }
    let loading = Instant::now();
    let inputs: Vec<&Input> = batch.events.iter().map(|event| &event.decoded.input).collect();
    let Some(state) = load(transaction, &inputs, moved).await? else { return Ok(None) };
    let mut loaded = loading.elapsed();

    let deciding = Instant::now();
    // Not before the rows are locked: another writer that was waited for was before this.
    let moment = Moment { now: Utc::now(), today: shared.today() };
    let decided = batch::decide(&inputs, state, moment);
    shared.metrics.spent(Stage::Decide, deciding.elapsed());

    let loading = Instant::now();
    let (changed, to_clear) = (decided.changed_services(), decided.services_to_clear());
    let (heads, pending) = postgres::load::heads_and_pending(transaction, &changed, &to_clear).await?;
    loaded += loading.elapsed();
    shared.metrics.spent(Stage::Load, loaded);
    let (decisions, effects) = batch::finish(decided, &heads, pending);
    Ok(Some(DecidedBatch { now: moment.now, decisions, effects, heads }))
}

/// What DoS holds of the batch's organisations, locked in the order that every lane keeps; `None` unless the position has
/// `moved`. That and the locks are one round trip: a lane that is not where it thought has locked for nothing and lets go.
pub async fn load(
    transaction: &Transaction<'_>,
    inputs: &[&Input],
    moved: impl Future<Output = Result<bool, Fault>>,
) -> Result<Option<DosState>, Fault> {
    let offered = matching::offered(inputs.iter().filter_map(|input| input.body.event()));
    if offered.is_empty() {
        return Ok(moved.await?.then(DosState::default));
    }
    let codes = offered.keys().copied().collect();
    postgres::load::prepare_first(transaction).await?;
    let (moved, sequences, candidates, z_code_pairs) = join!(
        moved,
        postgres::load::lock_sequences(transaction, &codes),
        postgres::services::candidates(transaction, &offered),
        postgres::load::z_code_pairs(transaction),
    );
    if !moved? {
        return Ok(None);
    }
    // The first failure in the order of sending.
    let (sequences, candidates, z_code_pairs) = (sequences?, candidates?, z_code_pairs?);
    let Complete { services, with_pending_changes } = postgres::services::complete(transaction, candidates).await?;
    let mut state = DosState { sequences, services, locations: HashMap::new(), z_code_pairs, with_pending_changes };
    let postcodes = batch::postcodes_to_look_up(inputs, &state);
    if !postcodes.is_empty() {
        let spellings: Vec<String> = postcodes.iter().flat_map(|postcode| postcode::spellings(postcode)).collect();
        state.locations = postgres::load::locations(transaction, &spellings).await?;
    }
    Ok(Some(state))
}

/// Writes what was decided; `None` when that is too much for one transaction.
async fn write(
    shared: &Shared,
    transaction: &Transaction<'_>,
    partition: i32,
    batch: Batch<'_>,
    decided: &DecidedBatch,
) -> Result<Option<OutboxSpan<Arc<Output>>>, Fault> {
    let encoding = Instant::now();
    let now = decided.now;
    let output = produce(shared, batch, now, &decided.decisions)?;
    let payload = outbox::encode(&output);
    shared.metrics.spent(Stage::Encode, encoding.elapsed());
    if payload.len() > OUTPUT_BYTES_MAX && batch.events.len() > 1 {
        return Ok(None);
    }

    let writing = Instant::now();
    let correlation_ids: Vec<&str> =
        batch.events.iter().map(|event| event.decoded.input.correlation_id.as_str()).collect();
    let context = ApplyContext { now, heads: &decided.heads, correlation_ids: &correlation_ids };
    let topic = &shared.topics.change_events;
    let archived: Vec<_> = batch.events.iter().filter_map(archived).collect();
    let events = i32::try_from(batch.events.len()).unwrap_or(i32::MAX);
    let to_outbox = async {
        if batch.is_published || is(Mutant::OutboxSkipped) {
            return Ok(());
        }
        outbox::insert(transaction, topic, partition, (batch.from, batch.to), events, &payload).await
    };
    let beside = async {
        let (archived, kept) = join!(archive::insert(transaction, topic, &archived), to_outbox);
        archived.and(kept)
    };
    postgres::apply::apply(transaction, &decided.effects, &context, beside).await?;
    shared.metrics.spent(Stage::Apply, writing.elapsed());
    let (start, end, events, bytes) = (batch.from, batch.to, batch.events.len(), payload.len());
    Ok(Some(OutboxSpan { start, end, events, bytes, records: Arc::new(output) }))
}

/// The event's row of the archive (rule 1.5); `None` when it names no code.
pub fn archived(event: &Prepared) -> Option<archive::ArchiveRow<'_>> {
    Some(archive::ArchiveRow {
        ods_code: event.decoded.ods_code.as_deref()?,
        sequence_number: event.decoded.sequence_number,
        received_at: DateTime::from_timestamp_millis(event.record.timestamp_ms).unwrap_or_default(),
        event: event.decoded.archive()?,
        correlation_id: &event.decoded.input.correlation_id,
        source_partition: event.record.partition,
        source_offset: event.record.offset,
    })
}

/// The audit and dead-letter records of a batch.
fn produce(
    shared: &Shared,
    batch: Batch<'_>,
    now: DateTime<Utc>,
    decisions: &[EventDecision],
) -> Result<Output, Fault> {
    let mut records = Vec::with_capacity(decisions.iter().map(|decision| decision.reports.len()).sum());
    for (event, decision) in batch.events.iter().zip(decisions) {
        let envelope = Envelope::of(&event.record, &event.decoded, now);
        let audit = shared.encoder.encode(&envelope, &decision.reports);
        records.extend(audit.map_err(|error| Fault::unclear(format!("{error:#}")))?);
        if let Some(letter) = &decision.dead_letter {
            records.push(dead_letter_of(shared, event, letter, batch.refused.map_or(1, |refusal| refusal.attempts)));
        }
    }
    let received_ms = batch.events.iter().map(|event| event.record.timestamp_ms).collect();
    Ok(Output { records, received_ms })
}

fn dead_letter_of(shared: &Shared, event: &Prepared, letter: &DeadLetter, attempts: i32) -> OutputRecord {
    dead_letter::record(&event.record, &event.decoded, letter, attempts, shared.dead_letter_bytes_max)
}

/// Metrics of what is now durable.
fn count(shared: &Shared, events: &[Prepared], decisions: &[EventDecision]) {
    let metrics = &shared.metrics;
    metrics.batch_events.observe(f64::from(u32::try_from(events.len()).unwrap_or(u32::MAX)));
    for (event, decision) in events.iter().zip(decisions) {
        metrics.decided(decision);
        tell(event, decision);
        metrics.event_latency.observe(seconds_since(event.record.timestamp_ms));
    }
}

/// One line for each event whose outcome is durable; what was refused is worth a warning, what changed nothing is for those
/// who look closely.
fn tell(event: &Prepared, decision: &EventDecision) {
    let correlation_id = event.decoded.input.correlation_id.as_str();
    let trace_id = headers::trace_id(&event.record.headers);
    // A code that is refused may be of any length.
    let ods_code = event.decoded.ods_code.as_deref().filter(|code| !code.is_empty());
    let ods_code = ods_code.map(|code| code.chars().take(ODS_CODE_CHARS).collect::<String>());
    let (partition, offset) = (event.record.partition, event.record.offset);
    let outcome = decision.outcome.as_str();
    match (&decision.dead_letter, decision.outcome) {
        (Some(DeadLetter { reason, .. }), _) => {
            tracing::warn!(correlation_id, trace_id, ods_code, partition, offset, outcome, reason, "event refused");
        }
        (None, Outcome::Updated) => {
            tracing::info!(correlation_id, trace_id, ods_code, partition, offset, outcome, "event applied");
        }
        (None, _) => tracing::debug!(correlation_id, trace_id, ods_code, partition, offset, outcome, "event applied"),
    }
}

/// Seconds from a record's timestamp until now; never below 0, whatever the producer's clock said.
pub fn seconds_since(timestamp_ms: i64) -> f64 {
    let elapsed = Utc::now().timestamp_millis().saturating_sub(timestamp_ms).max(0);
    Duration::from_millis(elapsed.unsigned_abs()).as_secs_f64()
}

/// Reads a record; `kind` is what the schema id of its frame names, if it has one.
pub fn decode(record: InputRecord, kind: Option<SchemaKind>) -> Prepared {
    let value = record.value.as_deref().unwrap_or_default();
    let json = match (value_form(value), kind) {
        (None, _) => Err(Undecodable::Frame),
        (Some(ValueForm::Plain), _) => Ok(value),
        (Some(ValueForm::Framed { .. }), Some(SchemaKind::Json)) => Ok(&value[FRAME_BYTES..]),
        (Some(ValueForm::Framed { .. }), Some(SchemaKind::Other)) => Err(Undecodable::OtherFormat),
        (Some(ValueForm::Framed { .. }), Some(SchemaKind::Unknown) | None) => Err(Undecodable::Schema),
        (Some(ValueForm::Framed { .. }), Some(SchemaKind::Avro(schema))) => {
            return Prepared { decoded: change_event::decode_avro(&record, &schema), record };
        }
    };
    Prepared { decoded: change_event::decode(&record, json), record }
}
