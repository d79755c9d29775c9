//! Statements, prepared once a connection.

use deadpool_postgres::GenericClient;
use futures::future::join_all;
use tokio_postgres::{Row, Statement, types::ToSql};

use super::Result;

/// Parameters of one statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs a statement of this connection's cache and collects its rows.
pub(super) async fn query<C: GenericClient>(client: &C, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, params).await?)
}

/// Runs a statement of this connection's cache that gives exactly one row.
pub(super) async fn query_one<C: GenericClient>(client: &C, sql: &str, params: Params<'_>) -> Result<Row> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query_one(&statement, params).await?)
}

/// Runs a statement of this connection's cache; the number of rows it touched.
pub(super) async fn execute<C: GenericClient>(client: &C, sql: &str, params: Params<'_>) -> Result<u64> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, params).await?)
}

/// Prepares several statements before any of them runs. A prepared statement is sent when its future is first polled, so
/// joined futures then reach the server in the order in which they are written, in one round trip.
pub(super) async fn prepare<C: GenericClient, const N: usize>(client: &C, sql: [&str; N]) -> Result<[Statement; N]> {
    let prepared = join_all(sql.map(|text| client.prepare_cached(text))).await;
    let statements = prepared.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(statements.try_into().unwrap_or_else(|_| unreachable!("one statement was prepared for each text")))
}
