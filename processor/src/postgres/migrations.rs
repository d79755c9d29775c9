//! Schema `dos_integration`: made and brought up to date by `dosi migrate`, never by running instances.

use deadpool_postgres::{Client, GenericClient};

use super::Result;

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

/// Applies what is missing, all in one transaction; gives how many. Safe to run again and beside running instances:
/// a second one waits for the first and finds nothing to do, and a table that is in use for longer than the session's
/// lock time-out is left as it is, for another try.
pub async fn migrate(client: &mut Client) -> Result<usize> {
    if version(client).await? >= Some(VERSION) {
        return Ok(0);
    }
    let tx = client.transaction().await?;
    tx.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK_KEY})")).await?;
    let applied = if let Some(version) = version(&tx).await? {
        version
    } else {
        tx.batch_execute(FRAME).await?;
        0
    };
    for (version, (name, sql)) in (1_i32..).zip(MIGRATIONS).skip(applied) {
        tx.batch_execute(sql).await?;
        let note = "INSERT INTO dos_integration.migrations (version, name) VALUES ($1, $2)";
        tx.execute(note, &[&version, &name]).await?;
    }
    tx.commit().await?;
    Ok(VERSION.saturating_sub(applied))
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
