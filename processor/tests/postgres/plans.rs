//! Every statement of a batch reads the rows it needs and no others: on a database that was never analysed and on one that was,
//! with plans made while the tables were empty, with generic plans, for batches of 1 and of 500, among 60,000 services.

use std::{collections::BTreeMap, future::ready, time::Instant};

use chrono::NaiveDate;
use dosi::{
    domain::{
        batch::{ChangedColumns, DateWrites, Effects, Mail, RewrittenDate, ServiceWrite},
        history::{HistoryBase, HistoryWrite},
        ods_code::OdsCode,
        opening_times::{DayId, Period},
        service::{PendingChange, Service, ZCode},
    },
    postgres::{
        Client, Transaction,
        apply::{ApplyContext, apply},
        archive::{self, ArchiveRow},
        load::{history_heads, locations, lock_sequences, pending_changes, z_code_pairs},
        outbox, position,
    },
};

use crate::database::{Database, begin, code, now, services};

const TOPIC: &str = "events";

/// Tables that grow with the country; a scan of one of them is a fault.
const LARGE: [&str; 12] = [
    "services",
    "servicedayopenings",
    "servicedayopeningtimes",
    "servicespecifiedopeningdates",
    "servicespecifiedopeningtimes",
    "servicesgsds",
    "servicehistories",
    "changes",
    "locations",
    "accepted_sequence",
    "change_event_archive",
    "outbox",
];

/// 15,000 organisations with four services each, whose days' and dates' ids are scattered, a day of each without periods;
/// 200,000 postcodes; nothing is analysed by itself. Triggers are off while it is loaded: the rows are right by construction.
const COUNTRY: &str = "
    DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname IN ('pathwaysdos', 'dos_integration') AND c.relkind = 'r'
        LOOP EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', t); END LOOP;
    END $$;
    SET session_replication_role = replica;
    INSERT INTO users (username, firstname, lastname, createdtime) VALUES ('u', 'f', 'l', now());
    INSERT INTO services (id, uid, name, odscode, typeid, statusid) VALUES (1, 1, 'Top', NULL, -1, 1);
    INSERT INTO services (id, uid, name, odscode, typeid, statusid, parentid, postcode, address, modifiedtime)
        SELECT g, g, 'Service', 'F' || lpad((g / 4)::text, 4, '0') || (ARRAY['', 'BPS', 'CON', 'M06'])[g % 4 + 1],
            (ARRAY[13, 148, 149, 132])[g % 4 + 1], 1, 1, 'AB1 2CD', 'address', now() FROM generate_series(4, 39999) AS g;
    INSERT INTO services (id, uid, name, odscode, typeid, statusid, parentid)
        SELECT g, g, 'Practice', 'Y' || lpad((g / 4)::text, 5, '0'), 100, 1, 1 FROM generate_series(40000, 60000) AS g;
    INSERT INTO servicedayopenings (id, serviceid, dayid)
        SELECT (s * 7 + d)::bigint * 7919 % 1000003, s, d FROM generate_series(4, 60000) AS s, generate_series(1, 7) AS d;
    INSERT INTO servicedayopeningtimes (starttime, endtime, servicedayopeningid)
        SELECT '09:00', '17:00', id FROM servicedayopenings WHERE dayid < 7;
    INSERT INTO servicespecifiedopeningdates (id, serviceid, date)
        SELECT (s * 2 + d)::bigint * 7919 % 1000003, s, date '2027-01-01' + d
        FROM generate_series(4, 60000) AS s, generate_series(0, 1) AS d;
    INSERT INTO servicespecifiedopeningtimes (starttime, endtime, isclosed, servicespecifiedopeningdateid)
        SELECT '09:00', '17:00', false, id FROM servicespecifiedopeningdates;
    INSERT INTO servicesgsds (serviceid, sgid, sdid) SELECT s, 360, 14167 FROM generate_series(4, 60000) AS s;
    INSERT INTO servicehistories SELECT s, '{\"1\": {}}' FROM generate_series(4, 60000, 2) AS s;
    INSERT INTO changes (id, approvestatus, type, initiatorname, servicename, value, creatorsname, serviceid)
        SELECT s, CASE WHEN s % 3 = 0 THEN 'PENDING' ELSE 'COMPLETE' END, 'm', 'i', 's', '{}', 'u', s
        FROM generate_series(4, 60000) AS s;
    INSERT INTO locations (postcode) SELECT 'AB' || g FROM generate_series(1, 200000) AS g;
    INSERT INTO dos_integration.accepted_sequence SELECT 'F' || lpad(g::text, 4, '0'), 1 FROM generate_series(1, 9000) AS g;
    INSERT INTO dos_integration.outbox (topic, partition, start_position, end_position, events, payload)
        SELECT 'events', g % 12, g, g + 12, 1, '' FROM generate_series(1000000, 1030000) AS g;
    INSERT INTO dos_integration.change_event_archive
        SELECT 'F0001', g, now(), '', '', 'old', 0, g FROM generate_series(1, 50000) AS g;
    SELECT setval('servicedayopenings_id_seq', 2000000), setval('servicespecifiedopeningdates_id_seq', 2000000)";

fn write_of(service: &Service) -> ServiceWrite {
    let open = vec![Period { start: 3_600, end: 7_200 }, Period { start: 10_000, end: 86_400 }];
    let date = |day| NaiveDate::from_ymd_opt(2027, 1, day).expect("a date");
    ServiceWrite {
        id: service.id,
        address: Some("new".to_owned()),
        town: None,
        postcode: None,
        easting: None,
        northing: None,
        latitude: None,
        longitude: None,
        phone: None,
        web: None,
        status_id: 1,
        columns: ChangedColumns { address: true, ..ChangedColumns::default() },
        days: (1..=6).map(|day| (DayId(day), open.clone())).collect(),
        dates: DateWrites {
            removed: vec![date(1)],
            rewritten: vec![rewritten(service, date(2), date(4))],
            added: vec![(date(1), vec![]), (date(3), open)],
        },
        z_codes_added: vec![ZCode::CONTRACEPTION],
        z_codes_removed: vec![ZCode::PALLIATIVE_CARE],
    }
}

/// Of two dates the one that the service has becomes the other, open when it was closed.
fn rewritten(service: &Service, one: NaiveDate, other: NaiveDate) -> RewrittenDate {
    let (held, date) = if service.specified.contains_key(&one) { (one, other) } else { (other, one) };
    let was = service.specified[&held].periods.first().copied();
    let is = was.is_none().then_some(Period { start: 32_400, end: 61_200 });
    RewrittenDate { held, date, periods: vec![(was, is)] }
}

fn effects_of(codes: &[OdsCode], services: &[&Service], pending: &[PendingChange], known: &[i32]) -> Effects {
    let history = |id: &i32| HistoryWrite {
        service_id: *id,
        entries: "\"2\": {}".to_owned(),
        base: if known.contains(id) { HistoryBase::Object } else { HistoryBase::Fresh },
    };
    let ids: Vec<i32> = services.iter().map(|service| service.id).collect();
    let mail = |change: &PendingChange| Mail {
        input: 0,
        change_id: change.id.clone(),
        creator: change.creator.clone(),
        service_uid: String::new(),
        service_name: String::new(),
        changes: String::new(),
    };
    Effects {
        sequences: codes.iter().map(|code| (*code, 5)).collect::<BTreeMap<_, _>>(),
        services: services.iter().map(|service| write_of(service)).collect(),
        histories: ids.iter().map(history).collect(),
        rejected_changes: pending.iter().map(|change| change.id.clone()).collect(),
        mails: pending.iter().map(mail).collect(),
        alien_histories: known.to_vec(),
    }
}

/// One batch of these codes, from the position to the outbox; how many services it changed.
async fn batch(tx: &Transaction<'_>, codes: &[OdsCode], from: i64) -> usize {
    position::compare_and_set(tx, TOPIC, 0, from, from + 1).await.unwrap();
    lock_sequences(tx, &codes.iter().copied().collect()).await.unwrap();
    let loaded = services(tx, codes).await.unwrap();
    let found: Vec<&Service> = loaded.values().flatten().collect();
    let ids: Vec<i32> = found.iter().map(|service| service.id).collect();
    let spellings: Vec<String> = ids.iter().map(|id| format!("AB{id}")).collect();
    locations(tx, &spellings).await.unwrap();
    z_code_pairs(tx).await.unwrap();
    let heads = history_heads(tx, &ids).await.unwrap();
    let pending = pending_changes(tx, &ids).await.unwrap();
    let known: Vec<i32> = ids.iter().copied().filter(|id| heads.contains_key(id)).collect();
    let effects = effects_of(codes, &found, &pending, &known);
    apply(tx, &effects, &ApplyContext { now: now(), heads: &heads, correlation_ids: &["c"] }, ready(Ok(())))
        .await
        .unwrap();
    let row = |(offset, code): (i64, &OdsCode)| ArchiveRow {
        ods_code: "F0001",
        sequence_number: Some(offset),
        received_at: now(),
        event: "{}",
        correlation_id: if code.as_str() == "F0001" { "a" } else { "b" },
        source_partition: 0,
        source_offset: from * 1_000 + offset,
    };
    let rows: Vec<ArchiveRow<'_>> = (0..).zip(codes).map(row).collect();
    archive::insert(tx, TOPIC, &rows).await.unwrap();
    outbox::insert(tx, TOPIC, 0, (from, from + 1), 1, &outbox::encode(&outbox::Output::default())).await.unwrap();
    outbox::read_covering(tx, "none", 0, from, 10, 1_000).await.unwrap();
    outbox::delete_up_to(tx, TOPIC, &[(0, from + 1), (1, 0)]).await.unwrap();
    found.len()
}

/// What this transaction read: rows by scans of large tables, and rows by index.
async fn rows_read(tx: &Transaction<'_>) -> (i64, i64) {
    let read = "SELECT coalesce(sum(seq_tup_read) FILTER (WHERE relname = ANY($1)), 0)::bigint,
        coalesce(sum(idx_tup_fetch), 0)::bigint
        FROM pg_stat_xact_all_tables WHERE schemaname IN ('pathwaysdos', 'dos_integration')";
    let row = tx.query_one(read, &[&LARGE.as_slice()]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Every statement the session has prepared, explained with the plan it runs with: no large table is scanned, with the
/// planner's preferences as the session has them, and services are locked in id order.
async fn assert_plans_use_indexes(client: &Client) {
    let prepared = "SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements
        WHERE statement ~* '^(SELECT|INSERT|UPDATE|DELETE|WITH)' AND statement !~ 'pg_'";
    let mut explained = Vec::new();
    for row in client.query(prepared, &[]).await.unwrap() {
        let (name, statement, params): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
        let nulls = vec!["NULL"; usize::try_from(params).unwrap()].join(", ");
        let nulls = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        let plan = client.simple_query(&format!("EXPLAIN (COSTS OFF) EXECUTE \"{name}\"{nulls}")).await.unwrap();
        let lines = plan.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let scanned = text.split("Seq Scan on ").skip(1).filter_map(|rest| rest.split_whitespace().next());
        assert!(!scanned.into_iter().any(|table| LARGE.contains(&table)), "{statement}\n{text}");
        let sorted = !statement.ends_with("FOR NO KEY UPDATE OF s") || text.contains("Sort Key: s.id");
        assert!(sorted, "services are locked in no order:\n{text}");
        explained.push(statement);
    }
    assert!(explained.len() >= 28, "only {} statements were explained", explained.len());
    for part in [
        "servicedayopenings WHERE serviceid",
        "servicedayopeningtimes WHERE servicedayopeningid BETWEEN",
        "servicedayopenings WHERE id",
    ] {
        let spaced = |statement: &String| statement.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_explained = explained.iter().any(|statement| spaced(statement).contains(part));
        assert!(is_explained, "{part} was not explained");
    }
}

#[tokio::test]
async fn a_batch_reads_what_it_needs_whatever_the_statistics() {
    let Some(database) = Database::new().await else { return };
    let mut early = database.client().await;
    // Plans are made now, while every table is empty, and kept.
    for _ in 0..7 {
        let tx = begin(&mut early).await;
        position::insert_start(&tx, TOPIC, 0, 0).await.unwrap();
        assert_eq!(batch(&tx, &[code("F0001")], 0).await, 0);
        tx.rollback().await.unwrap();
    }
    crate::database::run(&database.config(), &format!("SET search_path = pathwaysdos; {COUNTRY}")).await;
    let late = database.client().await;
    for (mut client, start, analyse) in
        [(early, 10, ""), (late, 3_000, ""), (database.client().await, 6_000, "ANALYZE")]
    {
        client.batch_execute(analyse).await.unwrap();
        for size in [500, 1] {
            let codes: Vec<OdsCode> = (0..size).map(|n| code(&format!("F{:04}", start + n))).collect();
            // Else what the session did a moment ago counts as this transaction's.
            client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
            let tx = begin(&mut client).await;
            let began = Instant::now();
            let found = batch(&tx, &codes, 0).await;
            let (scanned, fetched) = rows_read(&tx).await;
            eprintln!(
                "{size} events, {found} services: {fetched} rows by index, {scanned} by scan, {:?}",
                began.elapsed()
            );
            assert_eq!(found, codes.len() * 4);
            assert_eq!(scanned, 0);
            assert!(fetched < 150 * i64::try_from(found).unwrap(), "{fetched} rows fetched for {found} services");
            tx.commit().await.unwrap();
        }
        assert_plans_use_indexes(&client).await;
    }
    database.drop().await;
}
