//! `dos_integration.outbox`: what is applied and not yet known to be published, one row for a batch.

use deadpool_postgres::{GenericClient, Transaction};

use super::{
    Result,
    errors::Fault,
    statement::{execute, query},
};
use crate::wire::record::OutputRecord;

/// First byte of a payload: how the rest is encoded. 1 = postcard of `(Vec<OutputRecord>, Vec<i64>)`.
const PAYLOAD_VERSION: u8 = 1;

/// The records of one batch, between the position it started from and the one it moved to.
#[derive(Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub start: i64,
    pub end: i64,
    /// Input records of the batch.
    pub events: i32,
    /// Bytes of payload.
    pub bytes: usize,
    pub output: Output,
}

/// What a batch made for the outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub records: Vec<OutputRecord>,
    /// When its events were received, milliseconds since the epoch.
    pub received_ms: Vec<i64>,
}

/// Says where it belongs, never what it holds.
impl std::fmt::Debug for OutboxRow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("OutboxRow")
            .field("start", &self.start)
            .field("end", &self.end)
            .field("events", &self.events)
            .field("records", &self.output.records.len())
            .finish_non_exhaustive()
    }
}

/// What one partition has not published yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpublished {
    pub partition: i32,
    pub batches: i64,
    pub events: i64,
    /// Bytes of payload.
    pub bytes: i64,
}

pub(super) const INSERT: &str =
    "INSERT INTO dos_integration.outbox (topic, partition, start_position, end_position, events, payload)
    VALUES ($1, $2, $3, $4, $5, $6)";
/// Begins at the last row that starts at or before the offset, so that published rows before it are not walked over.
/// Sizes come from the row's header: no payload is read that is not sent.
const READ_COVERING: &str = "SELECT start_position, end_position, events, payload FROM (
        SELECT start_position, end_position, events, payload,
            sum(octet_length(payload)) OVER (ORDER BY start_position) - octet_length(payload) AS bytes_before
        FROM (
            SELECT start_position, end_position, events, payload FROM dos_integration.outbox
            WHERE topic = $1 AND partition = $2 AND end_position > $3
                AND start_position >= coalesce((SELECT max(start_position) FROM dos_integration.outbox
                    WHERE topic = $1 AND partition = $2 AND start_position <= $3), $3)
            ORDER BY start_position LIMIT $4
        ) AS next_rows
    ) AS sized
    WHERE bytes_before = 0 OR bytes_before + octet_length(payload) <= $5
    ORDER BY start_position";
/// The bound on the start follows from the one on the end; it is what the index can use.
const DELETE_UP_TO: &str = "DELETE FROM dos_integration.outbox AS o
    USING unnest($2::int[], $3::bigint[]) AS p(partition, published)
    WHERE o.topic = $1 AND o.partition = p.partition AND o.start_position < p.published AND o.end_position <= p.published";
const UNPUBLISHED: &str = "SELECT partition, count(*), sum(events)::bigint, sum(octet_length(payload))::bigint
    FROM dos_integration.outbox WHERE topic = $1 AND partition = ANY($2) GROUP BY partition ORDER BY partition";

/// The payload column of a batch's output.
pub fn encode(output: &Output) -> Vec<u8> {
    let fields = (&output.records, &output.received_ms);
    // Measured first: a payload of megabytes that grows by doubling holds three times its size.
    let size = postcard::experimental::serialized_size(&fields).unwrap_or(0);
    let mut payload = Vec::with_capacity(size + 1);
    payload.push(PAYLOAD_VERSION);
    postcard::to_extend(&fields, payload).expect("plain values are written to memory")
}

/// The output of a payload column.
pub fn decode(payload: &[u8]) -> Result<Output> {
    match payload.split_first() {
        Some((&PAYLOAD_VERSION, rest)) => {
            let fields = postcard::from_bytes(rest).map_err(|_| Fault::unclear("outbox payload not decodable"));
            fields.map(|(records, received_ms)| Output { records, received_ms })
        }
        _ => Err(Fault::unclear("outbox payload of an unknown version")),
    }
}

/// Writes a batch's row; `payload` is [`encode`]'s, made before the transaction so that its size is known.
pub async fn insert(
    tx: &Transaction<'_>,
    topic: &str,
    partition: i32,
    (start, end): (i64, i64),
    events: i32,
    payload: &[u8],
) -> Result<()> {
    execute(tx, INSERT, &[&topic, &partition, &start, &end, &events, &payload]).await?;
    Ok(())
}

/// The row with `start <= offset < end` and those that follow, in order, at most `rows_max` and, but for the first,
/// `bytes_max` together.
pub async fn read_covering<C: GenericClient>(
    client: &C,
    topic: &str,
    partition: i32,
    offset: i64,
    rows_max: i64,
    bytes_max: i64,
) -> Result<Vec<OutboxRow>> {
    let rows = query(client, READ_COVERING, &[&topic, &partition, &offset, &rows_max, &bytes_max]).await?;
    rows.iter()
        .map(|row| {
            let payload: &[u8] = row.try_get(3)?;
            Ok(OutboxRow {
                start: row.try_get(0)?,
                end: row.try_get(1)?,
                events: row.try_get(2)?,
                bytes: payload.len(),
                output: decode(payload)?,
            })
        })
        .collect()
}

/// Deletes what is published: of each partition the rows that end at or before the offset; how many went.
pub async fn delete_up_to<C: GenericClient>(client: &C, topic: &str, published: &[(i32, i64)]) -> Result<u64> {
    if published.is_empty() {
        return Ok(0);
    }
    let (partitions, offsets): (Vec<i32>, Vec<i64>) = published.iter().copied().unzip();
    execute(client, DELETE_UP_TO, &[&topic, &partitions, &offsets]).await
}

/// What is unpublished, of those partitions that have something.
pub async fn unpublished<C: GenericClient>(client: &C, topic: &str, partitions: &[i32]) -> Result<Vec<Unpublished>> {
    let rows = query(client, UNPUBLISHED, &[&topic, &partitions]).await?;
    rows.iter()
        .map(|row| {
            Ok(Unpublished {
                partition: row.try_get(0)?,
                batches: row.try_get(1)?,
                events: row.try_get(2)?,
                bytes: row.try_get(3)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::record::OutputTopic;

    #[test]
    fn records_go_there_and_back() {
        let records = vec![OutputRecord {
            topic: OutputTopic::DeadLetter,
            source_offset: -3,
            key: None,
            value: Some(vec![0, 255]),
            headers: vec![("a".to_owned(), None), ("a".to_owned(), Some(vec![1]))],
        }];
        let output = Output { records, received_ms: vec![7, -1] };
        assert_eq!(decode(&encode(&output)).expect("it decodes"), output);
        assert_eq!(decode(&encode(&Output::default())).expect("it decodes"), Output::default());
    }

    #[test]
    fn what_no_version_wrote_is_refused() {
        for payload in [&[][..], &[0], &[2, 0], &[PAYLOAD_VERSION, 255]] {
            assert!(decode(payload).is_err());
        }
    }
}
