//! `dos_integration.consumer_position`: what has been applied of each partition (design: exactly once).

use std::collections::HashMap;

use deadpool_postgres::{Client, GenericClient, Transaction};

use crate::fault_injection::{Mutant, is};

use super::{
    Result,
    statement::{execute, query},
};

/// Where one partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRow {
    /// Offset of the next record to apply.
    pub position: i64,
    /// Where it began: while `position` equals it, nothing was ever applied.
    pub start: i64,
    /// Why the partition does not go on, naming the repair.
    pub halted_reason: Option<String>,
}

const READ: &str = "SELECT partition, position, start, halted_reason FROM dos_integration.consumer_position
    WHERE topic = $1 AND partition = ANY($2)";
const INSERT_START: &str = "INSERT INTO dos_integration.consumer_position (topic, partition, position, start)
    VALUES ($1, $2, $3, $3) ON CONFLICT (topic, partition) DO NOTHING";
pub(super) const COMPARE_AND_SET: &str =
    "UPDATE dos_integration.consumer_position SET position = $4, updated_at = now()
    WHERE topic = $1 AND partition = $2 AND position = $3 AND halted_reason IS NULL";
/// Of [`Mutant::CompareAndSetLeftOut`].
const SET: &str = "UPDATE dos_integration.consumer_position SET position = $3 WHERE topic = $1 AND partition = $2";
const HALT: &str =
    "INSERT INTO dos_integration.consumer_position AS c (topic, partition, position, start, halted_reason)
    VALUES ($1, $2, $3, $3, $4)
    ON CONFLICT (topic, partition) DO UPDATE SET halted_reason = excluded.halted_reason, updated_at = now()
        WHERE c.position = excluded.position AND $5";
const LOCK: &str = "SELECT position FROM dos_integration.consumer_position
    WHERE topic = $1 AND partition = $2 FOR UPDATE";
const HOLD: &str = "INSERT INTO dos_integration.consumer_position AS c (topic, partition, position, start, halted_reason)
    VALUES ($1, $2, $3, $3, $4)
    ON CONFLICT (topic, partition) DO UPDATE
        SET position = excluded.position, start = excluded.start, halted_reason = excluded.halted_reason, updated_at = now()";
const HOLD_OUTBOX: &str = "DELETE FROM dos_integration.outbox WHERE topic = $1 AND partition = $2";
const LIFT: &str = "UPDATE dos_integration.consumer_position SET halted_reason = NULL, updated_at = now()
    WHERE topic = $1 AND partition = $2 AND position = $3";
/// An empty batch: the row locked and rewritten as it is.
const PROBE: &str = "UPDATE dos_integration.consumer_position SET updated_at = updated_at
    WHERE topic = $1 AND partition = $2";

/// The rows of these partitions; one without a row is absent.
pub async fn read<C: GenericClient>(client: &C, topic: &str, partitions: &[i32]) -> Result<HashMap<i32, PositionRow>> {
    let rows = query(client, READ, &[&topic, &partitions]).await?;
    rows.iter()
        .map(|row| {
            let found =
                PositionRow { position: row.try_get(1)?, start: row.try_get(2)?, halted_reason: row.try_get(3)? };
            Ok((row.try_get(0)?, found))
        })
        .collect()
}

/// Begins a partition at `start`; `false`: it has a row already, which stays.
pub async fn insert_start<C: GenericClient>(client: &C, topic: &str, partition: i32, start: i64) -> Result<bool> {
    Ok(execute(client, INSERT_START, &[&topic, &partition, &start]).await? == 1)
}

/// First statement of a batch's transaction: moves the position, or says that it is not where the lane thought.
pub async fn compare_and_set(tx: &Transaction<'_>, topic: &str, partition: i32, from: i64, to: i64) -> Result<bool> {
    if is(Mutant::CompareAndSetLeftOut) {
        return Ok(execute(tx, SET, &[&topic, &partition, &to]).await? == 1);
    }
    Ok(execute(tx, COMPARE_AND_SET, &[&topic, &partition, &from, &to]).await? == 1)
}

/// Notes why a partition halts; nothing moves its position until a repair ([`hold`], [`lift`]). Only while it stands at
/// `position`, or, unless it `has_row`, where none has been made since: then one is made that stands there.
pub async fn halt<C: GenericClient>(
    client: &C,
    topic: &str,
    partition: i32,
    (position, has_row): (i64, bool),
    reason: &str,
) -> Result<bool> {
    Ok(execute(client, HALT, &[&topic, &partition, &position, &reason, &has_row]).await? == 1)
}

/// First step of a repair: the partition is halted at its new position, and outbox rows that could never be published go;
/// how many. `None`: it does not stand at `standing`, so somebody works on it.
pub async fn hold(
    client: &mut Client,
    topic: &str,
    partition: i32,
    standing: Option<i64>,
    position: i64,
    reason: &str,
) -> Result<Option<u64>> {
    let tx = client.transaction().await?;
    let rows = query(&tx, LOCK, &[&topic, &partition]).await?;
    let found = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
    if found != standing {
        return Ok(None);
    }
    execute(&tx, HOLD, &[&topic, &partition, &position, &reason]).await?;
    let deleted = execute(&tx, HOLD_OUTBOX, &[&topic, &partition]).await?;
    tx.commit().await?;
    Ok(Some(deleted))
}

/// Last step of a repair: the partition goes on.
pub async fn lift<C: GenericClient>(client: &C, topic: &str, partition: i32, position: i64) -> Result<()> {
    execute(client, LIFT, &[&topic, &partition, &position]).await?;
    Ok(())
}

/// Whether the database does its work for a partition: a query and an empty batch that is rolled back.
pub async fn probe(client: &mut Client, topic: &str, partition: i32) -> Result<()> {
    client.simple_query("SELECT 1").await?;
    let tx = client.transaction().await?;
    execute(&tx, PROBE, &[&topic, &partition]).await?;
    Ok(tx.rollback().await?)
}
