//! The database: statements, rows, log.

use std::time::{Duration, Instant};

use dosi_tests::country::generate;
use dosi_tests::dos::Dos;
use dosi_tests::program::Dosi;
use dosi_tests::stack::Addresses;
use dosi_tests::topics::{self, Record};
use tokio_postgres::Client;

use crate::{ORGANISATIONS, SEED};

const WITHIN: Duration = Duration::from_secs(60);

// Counted: 41.8 statements (a start and an end spread over 13 batches among them), 58.7 rows read, 11.1 written, 7,434 bytes.
const STATEMENTS_A_BATCH_MAX: f64 = 46.0;
const ROWS_READ_AN_EVENT_MAX: f64 = 70.0;
const ROWS_WRITTEN_AN_EVENT_MAX: f64 = 12.5;
const LOG_BYTES_AN_EVENT_MAX: f64 = 8_500.0;

/// Each statement of dosi with its calls, and the log that it wrote.
const STATEMENTS: &str = "SELECT query, calls, wal_bytes::float8 FROM pg_stat_statements AS s
    JOIN pg_database AS d ON d.oid = s.dbid JOIN pg_roles AS r ON r.oid = s.userid
    WHERE d.datname = current_database() AND r.rolname = 'dosi'";
const ROWS: &str =
    "SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::float8, sum(n_tup_ins + n_tup_upd + n_tup_del)::float8,
        sum(n_tup_ins) FILTER (WHERE relname = 'change_event_archive')::float8
    FROM pg_stat_user_tables";

#[tokio::test]
#[expect(clippy::cast_precision_loss, reason = "some hundred")]
async fn an_event_costs_the_database_what_it_did() {
    let addresses = Addresses::from_env().unwrap();
    let country = generate(SEED, ORGANISATIONS);
    let mut dos = Dos::create(&addresses).await.unwrap();
    dos.load(&country.services, &country.locations).await.unwrap();
    let dosi = Dosi::new(&addresses, dos.url()).with("DOSI_TODAY", "2026-11-22");
    dosi.set_up().unwrap();
    let records: Vec<_> = country.events.iter().map(|event| Record::of(event).unwrap()).collect();
    topics::produce(&addresses, dosi.input_topic(), &records).await.unwrap();
    let client = dos.client();
    client.batch_execute("CREATE EXTENSION pg_stat_statements; SELECT pg_stat_reset()").await.unwrap();
    let (read_before, written_before, _) = rows(client).await;

    let ended = dosi.start(&["run", "--exit-at-end"]).unwrap().wait().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);

    let events = records.len() as f64;
    let statements = client.query(STATEMENTS, &[]).await.unwrap();
    let statements: Vec<(String, i64, f64)> =
        statements.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let batches =
        statements.iter().find(|(text, ..)| text.starts_with("INSERT INTO dos_integration.outbox")).unwrap().1;
    let (read, written) = rows_of(client, events).await;
    let calls: i64 = statements.iter().map(|(_, calls, _)| calls).sum();
    let log: f64 = statements.iter().map(|(.., log)| log).sum();
    let (calls, read, written, log) = (
        calls as f64 / batches as f64,
        (read - read_before) / events,
        (written - written_before) / events,
        log / events,
    );
    eprintln!(
        "{events} events in {batches} batches: {calls:.1} statements a batch, {read:.1} rows read, {written:.1} written and \
         {log:.0} bytes of log an event"
    );
    assert!(5.0 * (batches as f64) < events, "{batches} batches are too many to tell batches from events");
    // Whatever a batch's size, a statement runs once in it; looks at positions and the outbox's end come on top.
    for (text, calls, _) in &statements {
        assert!(*calls <= batches + 20 || !is_of_a_batch(text), "{calls} times in {batches} batches: {text}");
    }
    assert!(calls < STATEMENTS_A_BATCH_MAX, "{calls} statements a batch");
    assert!(read < ROWS_READ_AN_EVENT_MAX, "{read} rows read an event");
    assert!(written < ROWS_WRITTEN_AN_EVENT_MAX, "{written} rows written an event");
    assert!(log < LOG_BYTES_AN_EVENT_MAX, "{log} bytes of log an event");
    dos.remove(&addresses).await.unwrap();
}

/// Asking for positions and beginning and ending transactions is not.
fn is_of_a_batch(text: &str) -> bool {
    ["INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|verb| text.starts_with(verb))
        || text.starts_with("SELECT") && !text.contains("consumer_position")
}

async fn rows(client: &Client) -> (f64, f64, f64) {
    let row = client.query_one(ROWS, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

/// Sessions tell of their rows a moment after their last transaction.
async fn rows_of(client: &Client, events: f64) -> (f64, f64) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let (read, written, archived) = rows(client).await;
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'dosi'";
        let sessions: i64 = client.query_one(sessions, &[]).await.unwrap().get(0);
        if sessions == 0 && archived >= events {
            return (read, written);
        }
        assert!(Instant::now() < deadline, "{archived} of {events} events are archived, {sessions} sessions are left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
