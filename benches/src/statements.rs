//! What PostgreSQL says of the statements it executed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::Client;

use crate::figures::{Figures, shown};
use crate::table::Table;

const RESET: &str = "SELECT pg_stat_statements_reset(), pg_current_wal_insert_lsn()::text";
/// This database's, without those that ask: sums, and the server's whole log since a place in it.
const TOTALS: &str = "SELECT coalesce(sum(total_exec_time), 0) / 1000, coalesce(sum(calls), 0)::float8,
        (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::float8
    FROM pg_stat_statements AS s JOIN pg_database AS d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query !~ 'pg_stat_|pg_xact_commit_timestamp'";
const BY_TEXT: &str = "SELECT regexp_replace(left(query, 60), '\\s+', ' ', 'g'), calls, rows, total_exec_time / 1000
    FROM pg_stat_statements AS s JOIN pg_database AS d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query !~ 'pg_stat_|pg_xact_commit_timestamp' ORDER BY total_exec_time DESC LIMIT $1";

const SESSIONS_END_WITHIN: Duration = Duration::from_secs(10);

pub const LOG_BYTES: &str = "WAL bytes an event";
/// So many statements take nearly all the time.
pub const DEAREST: i64 = 16;

/// Counting since [`Counting::begin`].
#[derive(Debug)]
pub struct Counting {
    log: String,
}

/// What was executed meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Executed {
    /// Sum of `total_exec_time`: neither the client's time nor planning, nor the flush of a commit.
    pub seconds: f64,
    pub statements: f64,
    /// Bytes of write-ahead log of the whole server.
    pub log_bytes: f64,
}

impl Counting {
    pub async fn begin(client: &Client) -> Result<Self> {
        Ok(Self { log: client.query_one(RESET, &[]).await?.get(1) })
    }

    pub async fn executed(&self, client: &Client) -> Result<Executed> {
        let row = client.query_one(TOTALS, &[&self.log]).await?;
        Ok(Executed { seconds: row.get(0), statements: row.get(1), log_bytes: row.get(2) })
    }
}

impl Executed {
    pub fn add_to(&self, figures: &mut Figures, events: f64) {
        figures.add("statements' execution time", self.seconds, "s");
        figures.add("statements an event", self.statements / events, "");
        figures.add(LOG_BYTES, self.log_bytes / events, "");
    }
}

/// Statements with their calls, rows and time, the dearest first, at most so many.
pub async fn table(client: &Client, most: i64) -> Result<Table> {
    let mut table = Table::new(&["calls", "rows", "seconds", "statement"]);
    for row in client.query(BY_TEXT, &[&most]).await? {
        let [calls, rows]: [i64; 2] = [row.get(1), row.get(2)];
        table.row([calls.to_string(), rows.to_string(), shown(row.get(3)), row.get(0)]);
    }
    Ok(table)
}

/// When the rows of a table were committed, in seconds since 1970: the first and the last. The server notes the time when it
/// begins to write a commit to its log; what it takes to reach the disk comes on top.
pub async fn first_and_last_commit(client: &Client, table: &str) -> Result<(f64, f64)> {
    let read = format!(
        "SELECT extract(epoch FROM min(at))::float8, extract(epoch FROM max(at))::float8
        FROM (SELECT pg_xact_commit_timestamp(xmin) AS at FROM {table}) AS commits"
    );
    let row = client.query_one(&read, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Returns when no other session of this database is left: what they did is told, and their processor time is their parent's.
pub async fn sessions_ended(client: &Client) -> Result<()> {
    let others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let deadline = Instant::now() + SESSIONS_END_WITHIN;
    while client.query_one(others, &[]).await?.try_get::<_, i64>(0)? > 0 {
        if Instant::now() > deadline {
            bail!("other sessions have not ended");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Rows written, changed and deleted in all tables of this database since it was made, by cascade too; those of sessions that
/// have ended.
pub async fn rows_written(client: &Client) -> Result<f64> {
    let sum = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::float8 FROM pg_stat_user_tables";
    Ok(client.query_one(sum, &[]).await?.try_get(0)?)
}
