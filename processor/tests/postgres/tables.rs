//! Positions, outbox, archive.

use chrono::{DateTime, Utc};
use dosi::{
    postgres::{
        Fault,
        archive::{self, ArchiveRow},
        outbox::{self, OutboxRow, Output},
        pool::limit_statements,
        position::{self, PositionRow},
    },
    wire::record::{OutputRecord, OutputTopic},
};

use crate::database::{Database, begin, now};

const TOPIC: &str = "events";

#[tokio::test]
async fn a_position_moves_only_from_where_it_is() {
    let Some(database) = Database::new().await else { return };
    let mut client = database.client().await;
    assert!(position::read(&client, TOPIC, &[0, 1]).await.unwrap().is_empty());
    assert!(position::insert_start(&client, TOPIC, 0, 5).await.unwrap());
    assert!(!position::insert_start(&client, TOPIC, 0, 9).await.unwrap());
    let tx = begin(&mut client).await;
    assert!(position::compare_and_set(&tx, TOPIC, 0, 5, 8).await.unwrap());
    assert!(!position::compare_and_set(&tx, TOPIC, 0, 5, 9).await.unwrap());
    assert!(!position::compare_and_set(&tx, TOPIC, 1, 0, 9).await.unwrap());
    tx.commit().await.unwrap();
    assert!(!position::halt(&client, TOPIC, 0, (7, true), "it moved meanwhile").await.unwrap());
    assert!(!position::halt(&client, TOPIC, 0, (8, false), "it was begun meanwhile").await.unwrap());
    assert!(position::halt(&client, TOPIC, 0, (8, true), "why").await.unwrap());
    assert!(position::halt(&client, TOPIC, 1, (4, false), "never begun").await.unwrap());
    let halted = PositionRow { position: 8, start: 5, halted_reason: Some("why".to_owned()) };
    assert_eq!(position::read(&client, TOPIC, &[0, 1]).await.unwrap()[&0], halted);
    let tx = begin(&mut client).await;
    assert!(!position::compare_and_set(&tx, TOPIC, 0, 8, 9).await.unwrap(), "a halted partition does not move");
    tx.rollback().await.unwrap();
    assert_eq!(position::hold(&mut client, TOPIC, 0, Some(7), 3, "held").await.unwrap(), None, "it moved meanwhile");
    assert_eq!(position::hold(&mut client, TOPIC, 0, Some(8), 3, "held").await.unwrap(), Some(0));
    let held = PositionRow { position: 3, start: 3, halted_reason: Some("held".to_owned()) };
    assert_eq!(position::read(&client, TOPIC, &[0]).await.unwrap()[&0], held);
    position::lift(&client, TOPIC, 0, 3).await.unwrap();
    let rows = position::read(&client, TOPIC, &[0, 1]).await.unwrap();
    assert_eq!(rows[&0], PositionRow { position: 3, start: 3, halted_reason: None });
    assert_eq!(rows[&1], PositionRow { position: 4, start: 4, halted_reason: Some("never begun".to_owned()) });
    drop(client);
    database.drop().await;
}

fn record(offset: i64) -> OutputRecord {
    OutputRecord {
        topic: OutputTopic::Audit,
        source_offset: offset,
        key: Some(b"FA002".to_vec()),
        value: Some(vec![7; 100]),
        headers: vec![("a".to_owned(), None)],
    }
}

#[tokio::test]
async fn the_outbox_gives_back_what_follows_an_offset() {
    let Some(database) = Database::new().await else { return };
    let mut client = database.client().await;
    let rows: Vec<OutboxRow> = [(0, 10), (10, 11), (11, 30), (30, 31)]
        .map(|(start, end)| {
            let output = Output { records: vec![record(start)], received_ms: vec![7] };
            OutboxRow { start, end, events: 2, bytes: outbox::encode(&output).len(), output }
        })
        .into();
    let payload = outbox::encode(&rows[0].output);
    let tx = begin(&mut client).await;
    for row in &rows {
        let payload = outbox::encode(&row.output);
        outbox::insert(&tx, TOPIC, 3, (row.start, row.end), row.events, &payload).await.unwrap();
    }
    tx.commit().await.unwrap();
    let size = i64::try_from(payload.len()).unwrap();
    let client = &client;
    let read = |offset, most, bytes| async move {
        let read = outbox::read_covering(client, TOPIC, 3, offset, most, bytes).await.unwrap();
        read.iter().map(|row| row.start).collect::<Vec<_>>()
    };
    assert_eq!(outbox::read_covering(client, TOPIC, 3, 0, 9, 9_999).await.unwrap(), rows);
    assert_eq!(read(5, 9, 9_999).await, [0, 10, 11, 30]);
    assert_eq!(read(10, 2, 9_999).await, [10, 11]);
    assert_eq!(read(10, 9, 2 * size + 1).await, [10, 11]);
    assert_eq!(read(10, 9, 1).await, [10]);
    assert!(read(31, 9, 9_999).await.is_empty());
    let unpublished = outbox::unpublished(client, TOPIC, &[3]).await.unwrap();
    assert_eq!(unpublished, [outbox::Unpublished { partition: 3, batches: 4, events: 8, bytes: 4 * size }]);
    assert_eq!(outbox::delete_up_to(client, TOPIC, &[(3, 29), (4, 99)]).await.unwrap(), 2);
    assert_eq!(read(0, 9, 9_999).await, [11, 30]);
    assert_eq!(read(11, 9, 9_999).await, [11, 30]);
    database.drop().await;
}

#[tokio::test]
async fn the_archive_refuses_nothing() {
    let Some(database) = Database::new().await else { return };
    let mut client = database.client().await;
    let long = "é\0".repeat(5_000);
    let row = |offset, received_at| ArchiveRow {
        ods_code: &long,
        sequence_number: None,
        received_at,
        event: "{\"a\":\"\\u0000\"}\0",
        correlation_id: "\0",
        source_partition: 0,
        source_offset: offset,
    };
    let rows = [row(1, DateTime::<Utc>::MAX_UTC), row(2, DateTime::<Utc>::MIN_UTC), row(3, now()), row(3, now())];
    for _ in 0..2 {
        let tx = begin(&mut client).await;
        archive::insert(&tx, TOPIC, &rows).await.unwrap();
        tx.commit().await.unwrap();
    }
    let kept = "SELECT count(*) || ' ' || max(length(ods_code)) || ' ' || max(event) FROM dos_integration.change_event_archive";
    assert_eq!(database.text(kept).await, "3 64 {\"a\":\"\\u0000\"}\u{fffd}");
    drop(client);
    database.drop().await;
}

/// Rule 1.5: what leads back to the record.
#[tokio::test]
async fn an_archived_event_names_its_record() {
    let Some(database) = Database::new().await else { return };
    let row = ArchiveRow {
        ods_code: "FA002",
        sequence_number: Some(-7),
        received_at: now() - chrono::TimeDelta::days(400),
        event: "{}",
        correlation_id: "c-1",
        source_partition: 3,
        source_offset: 42,
    };
    let mut client = database.client().await;
    let tx = begin(&mut client).await;
    archive::insert(&tx, TOPIC, &[row]).await.unwrap();
    tx.commit().await.unwrap();
    let kept = "SELECT concat_ws(' ', ods_code, sequence_number, received_at, event, correlation_id, source_topic,
        source_partition, source_offset) FROM dos_integration.change_event_archive";
    assert_eq!(database.text(kept).await, "FA002 -7 2025-04-27 10:30:00+00 {} c-1 events 3 42");
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_nobodys_fault_yet() {
    let Some(database) = Database::new().await else { return };
    let mut client = database.client().await;
    let tx = begin(&mut client).await;
    limit_statements(&tx, std::time::Duration::from_millis(20)).await.unwrap();
    let fault = Fault::from(tx.batch_execute("SELECT pg_sleep(10)").await.unwrap_err());
    assert_eq!(fault, Fault::Unclear { kind: "57014".to_owned() });
    drop(tx);
    database
        .execute("INSERT INTO users (username, firstname, lastname, createdtime) VALUES ('u', 'f', 'l', now())")
        .await;
    let refused = client.batch_execute("UPDATE users SET phone = repeat('secret', 99)").await.unwrap_err();
    let fault = Fault::from(refused);
    assert!(matches!(&fault, Fault::Content { sqlstate, .. } if sqlstate == "22001"), "{fault}");
    assert!(!format!("{fault} {fault:?}").contains("secret"));
    drop(client);
    database.drop().await;
}
