//! Schema `dos_integration`: made and brought up to date by `dosi migrate`, never by running instances.

use std::time::Duration;

use deadpool_postgres::{Client, GenericClient, Transaction};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Fault, Result};

/// The migrations in order; a version is its place, counted from 1.
const MIGRATIONS: [(&str, &str); 2] = [
    ("processor", include_str!("../../../schemas/dos_integration/0001_processor.sql")),
    ("archive_by_code", include_str!("../../../schemas/dos_integration/0002_archive_by_code.sql")),
];

/// The version this program was written for.
pub const VERSION: usize = MIGRATIONS.len();

/// Key of the advisory lock that lets one migration run at a time ("dosi" in ASCII).
const LOCK_KEY: i64 = 0x646f_7369;

const FRAME: &str = "CREATE SCHEMA dos_integration;
    CREATE TABLE dos_integration.migrations (
        version    int         PRIMARY KEY,
        name       text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

/// Between two attempts at the lock.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What a migration came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Of the schema: higher than [`VERSION`] when a newer program has made it.
    pub version: usize,
    pub applied: usize,
}

/// Applies what is missing, all in one transaction. Safe to run again and beside running instances: a second one waits for the
/// first and finds nothing to do, and a table that is in use for longer than the session's lock time-out is left as it is, for
/// another try.
///
/// The deadline holds until the work begins: for a server that does not answer, and for a migration that is at work. From then
/// on the session's own time-outs bound each statement but the making of an index, which takes as long as the table is large. A
/// server that is gone is noticed by keep-alives; one that freezes in the middle of the work looks like a large table.
pub async fn migrate(client: &mut Client, deadline: Instant) -> Result<Migrated> {
    let begun = timeout_at(deadline, begin(client, deadline)).await;
    let (tx, found) = begun.unwrap_or_else(|_| Err(Fault::no_answer()))?;
    let found = if let Some(version) = found {
        version
    } else {
        tx.batch_execute(FRAME).await?;
        0
    };
    for (version, (name, sql)) in (1_i32..).zip(MIGRATIONS).skip(found) {
        tx.batch_execute(sql).await?;
        let note = "INSERT INTO dos_integration.migrations (version, name) VALUES ($1, $2)";
        tx.execute(note, &[&version, &name]).await?;
    }
    tx.commit().await?;
    Ok(Migrated { version: found.max(VERSION), applied: VERSION.saturating_sub(found) })
}

/// A transaction that holds the lock, and the version it found. The lock is asked for again and again: a wait for it would end
/// with the session's lock time-out, long before an index is made.
async fn begin(client: &mut Client, deadline: Instant) -> Result<(Transaction<'_>, Option<usize>)> {
    let tx = client.transaction().await?;
    while !tx.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK_KEY]).await?.try_get::<_, bool>(0)? {
        if Instant::now() + ASK_AGAIN >= deadline {
            return Err(Fault::contention("a dosi migrate that has not ended"));
        }
        sleep(ASK_AGAIN).await;
    }
    let version = version(&tx).await?;
    Ok((tx, version))
}

/// The version the database is at; `None` without the schema.
pub async fn version<C: GenericClient>(client: &C) -> Result<Option<usize>> {
    // Asked of the catalogue's rows: name look-ups (`to_regclass`) remember across the lock's wait that there was nothing.
    let table = "SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'dos_integration' AND c.relname = 'migrations')";
    if !client.query_one(table, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM dos_integration.migrations";
    let version: i32 = client.query_one(newest, &[]).await?.try_get(0)?;
    Ok(usize::try_from(version).ok())
}
