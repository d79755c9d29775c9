//! What PostgreSQL says of the statements it executed.

use anyhow::Result;
use tokio_postgres::Client;

use crate::figures::Figures;

const RESET: &str = "SELECT pg_stat_statements_reset(), pg_current_wal_insert_lsn()::text";
/// This database's, without those that ask: sums, and the server's whole log since a place in it.
const TOTALS: &str = "SELECT coalesce(sum(total_exec_time), 0) / 1000, coalesce(sum(calls), 0)::float8,
        (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::float8
    FROM pg_stat_statements AS s JOIN pg_database AS d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query !~ 'pg_stat_statements'";
const BY_TEXT: &str = "SELECT regexp_replace(left(query, 200), '\\s+', ' ', 'g'), calls, total_exec_time / 1000
    FROM pg_stat_statements AS s JOIN pg_database AS d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query !~ 'pg_stat_statements' ORDER BY total_exec_time DESC";

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
        figures.add("WAL bytes an event", self.log_bytes / events, "");
    }
}

/// Each statement with its calls and seconds, the dearest first.
pub async fn by_text(client: &Client) -> Result<Vec<(String, i64, f64)>> {
    let rows = client.query(BY_TEXT, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// When rows of the archive were committed, in seconds since 1970: the first and the last. The server notes the time when it
/// begins to write a commit to its log; what it takes to reach the disk comes on top.
pub async fn first_and_last_commit(client: &Client) -> Result<(f64, f64)> {
    let read = "SELECT extract(epoch FROM min(at))::float8, extract(epoch FROM max(at))::float8
        FROM (SELECT pg_xact_commit_timestamp(xmin) AS at FROM dos_integration.change_event_archive) AS commits";
    let row = client.query_one(read, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
