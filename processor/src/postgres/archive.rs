//! `dos_integration.change_event_archive`: every event that names an ODS code (rule 1.5).
//!
//! A dead-lettered event's transaction writes here too, so no row may be refused: texts lose their NULs, times outside
//! what the server knows are moved to its edge, and a code that is no code is cut to what an index entry holds.

use std::borrow::Cow;

use chrono::{DateTime, TimeZone as _, Utc};
use deadpool_postgres::Transaction;

use super::{Result, statement::execute};

/// Characters of a code that are kept; a valid one has five.
const ODS_CODE_CHARS_MAX: usize = 64;

/// One event as it was received, without `Staff`.
#[derive(Clone)]
pub struct ArchiveRow<'a> {
    pub ods_code: &'a str,
    pub sequence_number: Option<i64>,
    /// The record's timestamp.
    pub received_at: DateTime<Utc>,
    pub event: &'a str,
    pub correlation_id: &'a str,
    pub source_partition: i32,
    pub source_offset: i64,
}

/// Says which record it is, never what it holds.
impl std::fmt::Debug for ArchiveRow<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ArchiveRow")
            .field("source_partition", &self.source_partition)
            .field("source_offset", &self.source_offset)
            .finish_non_exhaustive()
    }
}

pub(super) const INSERT: &str = "INSERT INTO dos_integration.change_event_archive
    (ods_code, sequence_number, received_at, event, correlation_id, source_topic, source_partition, source_offset)
    SELECT w.ods_code, w.sequence_number, w.received_at, w.event, w.correlation_id, $1::text, w.partition, w.source_offset
    FROM unnest($2::text[], $3::bigint[], $4::timestamptz[], $5::text[], $6::text[], $7::int[], $8::bigint[])
        AS w(ods_code, sequence_number, received_at, event, correlation_id, partition, source_offset)
    ON CONFLICT DO NOTHING";

/// Archives a batch's events; one that is there already stays.
pub async fn insert(tx: &Transaction<'_>, topic: &str, rows: &[ArchiveRow<'_>]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let codes: Vec<_> = rows.iter().map(|row| code(row.ods_code)).collect();
    let sequences: Vec<_> = rows.iter().map(|row| row.sequence_number).collect();
    let received: Vec<_> = rows.iter().map(|row| within_range(row.received_at)).collect();
    let events: Vec<_> = rows.iter().map(|row| without_nul(row.event)).collect();
    let correlations: Vec<_> = rows.iter().map(|row| without_nul(row.correlation_id)).collect();
    let partitions: Vec<_> = rows.iter().map(|row| row.source_partition).collect();
    let offsets: Vec<_> = rows.iter().map(|row| row.source_offset).collect();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&topic, &codes, &sequences, &received, &events, &correlations, &partitions, &offsets];
    execute(tx, INSERT, &params).await?;
    Ok(())
}

/// Text that the server takes: U+FFFD stands for U+0000, which no text column can hold.
pub(super) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

fn code(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(ODS_CODE_CHARS_MAX) {
        Some((end, _)) => without_nul(&text[..end]),
        None => without_nul(text),
    }
}

/// A record's timestamp is whatever its producer wrote; the server knows years up to 294276 and back to 4713 BC.
fn within_range(time: DateTime<Utc>) -> DateTime<Utc> {
    let earliest = Utc.timestamp_nanos(0) - chrono::TimeDelta::days(1969 * 365);
    let latest = earliest + chrono::TimeDelta::days(9_000 * 365);
    time.clamp(earliest, latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_cut_on_a_character_and_loses_its_nuls() {
        assert_eq!(code("FA002"), "FA002");
        assert_eq!(code("F\u{0}002"), "F\u{fffd}002");
        assert_eq!(code(&"é".repeat(100)), "é".repeat(64));
    }

    #[test]
    fn an_impossible_time_moves_to_the_edge() {
        let now = Utc.timestamp_nanos(1_700_000_000_000_000_000);
        assert_eq!(within_range(now), now);
        assert!(within_range(DateTime::<Utc>::MAX_UTC) < DateTime::<Utc>::MAX_UTC);
        assert!(within_range(DateTime::<Utc>::MIN_UTC) > DateTime::<Utc>::MIN_UTC);
    }
}
