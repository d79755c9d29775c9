//! What is loaded, what is written, and that the one is the other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::ready,
};

use chrono::NaiveDate;
use dosi::{
    domain::{
        batch::{ChangedColumns, DateWrites, Effects, Mail, RewrittenDate, ServiceWrite},
        history::{HistoryBase, HistoryHead, HistoryWrite},
        matching::Offered,
        opening_times::{DayId, Period},
        service::{Creator, Service, SpecifiedDate, ZCode},
    },
    postgres::{
        Fault,
        apply::{ApplyContext, apply},
        load::{history_heads, locations, lock_sequences, pending_changes, z_code_pairs},
        services::{candidates, complete},
    },
};

use crate::database::{Database, begin, code, loaded, now, services};

/// Service 1 has everything twice, 2 and 4 take turns with days and dates, 3 is in a circle and has none, 4 is no candidate,
/// 5 has a code in lower case.
const SERVICES: &str = "
    INSERT INTO services (id, uid, name, odscode, typeid, statusid, parentid, address, town, postcode, easting, northing,
            latitude, longitude, publicphone, web) VALUES
        (90, '90', 'Top', NULL, -1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (91, '91', 'Middle', NULL, -1, 1, 90, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (1, '1', 'One', 'FA002', 13, 1, 91, 'a$b', 'Town', 'AB1 2CD', 1, -2, 50.1, -0.1, '012', ''),
        (2, '2', 'Two', 'FA002BPS', 148, 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (3, '3', 'Three', 'FA002zz', 137, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (4, '4', 'Four', 'FA002', 13, 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (5, '5', 'Five', 'fa002', 13, 1, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (6, '6', 'Six', 'FA0021', 149, 4, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    UPDATE services SET parentid = 3 WHERE id = 3;
    INSERT INTO servicedayopenings (id, serviceid, dayid) VALUES (1, 1, 1), (2, 1, 1), (3, 1, 2), (4, 1, 8), (5, 1, NULL),
        (20, 2, 1), (21, 4, 1), (22, 2, 2);
    INSERT INTO servicedayopeningtimes (servicedayopeningid, starttime, endtime) VALUES
        (1, '09:00', '13:00'), (2, '09:00', '13:00'), (2, '14:00', '24:00'), (4, '10:00', '09:00'),
        (20, '08:00', '09:00'), (21, '08:00', '10:00'), (22, '08:00', '11:00');
    INSERT INTO servicespecifiedopeningdates (id, serviceid, date) VALUES
        (31, 1, '2026-12-25'), (32, 1, '2026-12-25'), (33, 1, '2026-12-26'), (34, 1, '2027-01-01'), (35, 1, 'infinity'),
        (40, 2, '2026-12-25'), (41, 4, '2026-12-25'), (42, 2, '2026-12-26');
    INSERT INTO servicespecifiedopeningtimes (servicespecifiedopeningdateid, starttime, endtime, isclosed) VALUES
        (31, '00:00', '00:00', true), (32, '10:00', '12:00', false), (34, '10:00', '12:00', false),
        (40, '08:00', '09:00', false), (41, '08:00', '10:00', false), (42, '08:00', '11:00', true);
    INSERT INTO symptomdiscriminators VALUES (1, 'other');
    INSERT INTO servicesgsds (serviceid, sgid, sdid) VALUES (1, 360, 14167), (1, 360, 1);
    SELECT setval('servicedayopenings_id_seq', 100), setval('servicespecifiedopeningdates_id_seq', 100)";

fn period(start: u32, end: u32) -> Period {
    Period { start: start * 3600, end: end * 3600 }
}

fn date(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).expect("a date")
}

async fn load(database: &Database) -> Vec<Service> {
    let mut client = database.client().await;
    let tx = begin(&mut client).await;
    let mut found = services(&tx, &[code("FA002"), code("ZZZZZ")]).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(&code("FA002")).unwrap()
}

#[tokio::test]
async fn a_service_is_read_with_all_that_hangs_on_it() {
    let Some(database) = Database::new().await else { return };
    database.execute(SERVICES).await;
    let found = load(&database).await;
    assert_eq!(found.iter().map(|service| service.id).collect::<Vec<_>>(), [1, 2, 3]);
    let one = &found[0];
    assert_eq!((one.type_name.as_str(), one.status_name.as_str(), one.region.as_str()), ("Pharmacy", "active", "Top"));
    assert_eq!((one.address.as_deref(), one.web.as_deref(), one.easting), (Some("a$b"), Some(""), Some(1)));
    let days = [
        (DayId(1), BTreeSet::from([period(9, 13), period(14, 24)])),
        (DayId(2), BTreeSet::new()),
        (DayId(8), BTreeSet::from([period(10, 9)])),
    ];
    assert_eq!(one.opening, BTreeMap::from(days));
    let open = BTreeSet::from([period(10, 12)]);
    let dates = [
        (date(2026, 12, 25), SpecifiedDate { rows: 2, closed: true, periods: open.clone() }),
        (date(2026, 12, 26), SpecifiedDate { rows: 1, closed: false, periods: BTreeSet::new() }),
        (date(2027, 1, 1), SpecifiedDate { rows: 1, closed: false, periods: open }),
    ];
    assert_eq!(one.specified, BTreeMap::from(dates));
    assert_eq!(one.z_codes, BTreeSet::from([ZCode::PALLIATIVE_CARE]));
    let two = &found[1];
    assert_eq!((two.region.as_str(), two.status_name.as_str(), two.address.as_deref()), ("Two", "closed", None));
    let days = [(DayId(1), BTreeSet::from([period(8, 9)])), (DayId(2), BTreeSet::from([period(8, 11)]))];
    assert_eq!(two.opening, BTreeMap::from(days));
    let open = SpecifiedDate { rows: 1, closed: false, periods: BTreeSet::from([period(8, 9)]) };
    let closed = SpecifiedDate { rows: 1, closed: true, periods: BTreeSet::new() };
    assert_eq!(two.specified, BTreeMap::from([(date(2026, 12, 25), open), (date(2026, 12, 26), closed)]));
    let three = &found[2];
    assert!(three.opening.is_empty() && three.specified.is_empty() && two.z_codes.is_empty());
    assert_eq!(three.region, "Three");
    database.drop().await;
}

/// Section 13, 8: a circle has no top, whether or not the service itself is part of it.
#[tokio::test]
async fn a_service_whose_parents_lead_in_a_circle_is_its_own_region() {
    let Some(database) = Database::new().await else { return };
    database.execute(SERVICES).await;
    let set =
        "INSERT INTO services (id, uid, name, typeid, statusid) VALUES (80, '80', 'P', -1, 1), (81, '81', 'Q', -1, 1);
        UPDATE services SET parentid = 80 WHERE id = 1; UPDATE services SET parentid = 81 WHERE id = 80";
    database.execute(set).await;
    for (circle, parent_of_q) in [("p, q, q", 81), ("p, q, p", 80), ("p, q, itself", 1)] {
        database.execute(&format!("UPDATE services SET parentid = {parent_of_q} WHERE id = 81")).await;
        assert_eq!(load(&database).await[0].region, "One", "{circle}");
    }
    database.execute("UPDATE services SET parentid = NULL WHERE id = 81").await;
    assert_eq!(load(&database).await[0].region, "Q", "no circle");
    database.drop().await;
}

#[tokio::test]
async fn a_closed_service_is_read_where_an_event_has_what_it_stands_for() {
    let Some(database) = Database::new().await else { return };
    database.execute(SERVICES).await;
    database.execute("UPDATE services SET statusid = 3 WHERE id = 6").await;
    let mut client = database.client().await;
    let tx = begin(&mut client).await;
    for (blood_pressure, contraception, ids) in
        [(false, false, vec![1, 3]), (true, false, vec![1, 2, 3]), (false, true, vec![1, 3, 6])]
    {
        let offered = Offered { blood_pressure, contraception };
        let candidates = candidates(&tx, &BTreeMap::from([(code("FA002"), offered)])).await.unwrap();
        let found = complete(&tx, candidates).await.unwrap();
        let found: Vec<i32> = found.services[&code("FA002")].iter().map(|service| service.id).collect();
        assert_eq!(found, ids, "{offered:?}");
    }
    drop(tx);
    drop(client);
    database.drop().await;
}

/// A write that changes nothing.
fn unchanged(service: &Service) -> ServiceWrite {
    let service = service.clone();
    ServiceWrite {
        id: service.id,
        address: service.address,
        town: service.town,
        postcode: service.postcode,
        easting: service.easting,
        northing: service.northing,
        latitude: service.latitude,
        longitude: service.longitude,
        phone: service.phone,
        web: service.web,
        status_id: service.status_id,
        columns: ChangedColumns::default(),
        days: Vec::new(),
        dates: DateWrites::default(),
        z_codes_added: Vec::new(),
        z_codes_removed: Vec::new(),
    }
}

fn context<'a>(heads: &'a HashMap<i32, HistoryHead>, correlation_ids: &'a [&'a str]) -> ApplyContext<'a> {
    ApplyContext { now: now(), heads, correlation_ids }
}

#[tokio::test]
async fn what_is_written_is_what_is_read() {
    let Some(database) = Database::new().await else { return };
    database.execute(SERVICES).await;
    let mut expected = load(&database).await;
    let mut one = unchanged(&expected[0]);
    one.address = Some("ignored, not marked as changed".to_owned());
    one.phone = Some("0999".to_owned());
    one.postcode = Some("ZZ1 1ZZ".to_owned());
    (one.town, one.easting, one.latitude) = (None, Some(7), Some(0.1 + 0.2));
    one.columns = ChangedColumns { phone: true, place: true, ..ChangedColumns::default() };
    one.days = vec![(DayId(1), vec![period(0, 24)]), (DayId(2), vec![]), (DayId(3), vec![period(1, 2), period(3, 4)])];
    one.dates.removed = vec![date(2026, 12, 25), date(2026, 12, 26)];
    one.dates.added = vec![(date(2026, 12, 25), vec![]), (date(2028, 2, 29), vec![period(8, 9), period(10, 11)])];
    one.z_codes_added = vec![ZCode::PALLIATIVE_CARE];
    let mut two = unchanged(&expected[1]);
    (two.status_id, two.columns.status) = (1, true);
    two.z_codes_added = vec![ZCode::BLOOD_PRESSURE];
    two.z_codes_removed = vec![ZCode::CONTRACEPTION];
    let effects = Effects { services: vec![one, two], ..Effects::default() };
    let mut client = database.client().await;
    let tx = begin(&mut client).await;
    apply(&tx, &effects, &context(&HashMap::new(), &[]), ready(Ok(()))).await.unwrap();
    tx.commit().await.unwrap();

    (expected[1].status_id, expected[1].status_name) = (1, "active".to_owned());
    expected[1].z_codes.insert(ZCode::BLOOD_PRESSURE);
    let one = &mut expected[0];
    (one.phone, one.postcode, one.town) = (Some("0999".to_owned()), Some("ZZ1 1ZZ".to_owned()), None);
    (one.easting, one.latitude) = (Some(7), Some(0.1 + 0.2));
    one.opening.insert(DayId(1), BTreeSet::from([period(0, 24)]));
    one.opening.remove(&DayId(2));
    one.opening.insert(DayId(3), BTreeSet::from([period(1, 2), period(3, 4)]));
    one.specified.remove(&date(2026, 12, 26));
    let closed = SpecifiedDate { rows: 1, closed: true, periods: BTreeSet::new() };
    one.specified.insert(date(2026, 12, 25), closed);
    let open = BTreeSet::from([period(8, 9), period(10, 11)]);
    one.specified.insert(date(2028, 2, 29), SpecifiedDate { rows: 1, closed: false, periods: open });
    assert_eq!(load(&database).await, expected);

    let modified = "SELECT string_agg(id || ' ' || modifiedby || ' ' || modifiedtime, ',' ORDER BY id) FROM services";
    let stamp = "DOS_INTEGRATION 2026-06-01 10:30:00+00";
    assert_eq!(database.text(modified).await, format!("1 {stamp},2 {stamp}"));
    let orphans = "SELECT (SELECT count(*) FROM servicedayopeningtimes) || ' ' || (SELECT count(*) FROM servicespecifiedopeningtimes)";
    assert_eq!(database.text(orphans).await, "7 7");
    let midnight =
        "SELECT string_agg(starttime || '-' || endtime || ' ' || isclosed, ',') FROM servicespecifiedopeningtimes
        JOIN servicespecifiedopeningdates AS d ON d.id = servicespecifiedopeningdateid
        WHERE serviceid = 1 AND date = '2026-12-25'";
    assert_eq!(database.text(midnight).await, "00:00:00-00:00:00 true");
    drop(client);
    database.drop().await;
}

/// A date of its own with other periods, two that take turns, a closed one that said hours; and one that somebody replaced meanwhile.
#[tokio::test]
async fn rows_of_dates_are_rewritten_as_they_were_read() {
    let Some(database) = Database::new().await else { return };
    database.execute(SERVICES).await;
    let dates = "DELETE FROM servicespecifiedopeningdates WHERE serviceid = 2;
        INSERT INTO servicespecifiedopeningdates (id, serviceid, date) VALUES
            (901, 2, '2026-12-24'), (902, 2, '2026-12-25'), (903, 2, '2026-12-26'), (904, 2, '2026-12-27'), (905, 3, '2026-12-24');
        INSERT INTO servicespecifiedopeningtimes (id, starttime, endtime, isclosed, servicespecifiedopeningdateid) VALUES
            (801, '09:00', '12:00', false, 901), (802, '13:00', '24:00', false, 901), (803, '08:00', '09:00', false, 902),
            (804, '10:00', '11:00', true, 903), (805, '09:00', '12:00', false, 904), (806, '09:00', '12:00', false, 904),
            (807, '09:00', '12:00', false, 905)";
    database.execute(dates).await;
    let loaded = load(&database).await;
    let doubled = &loaded[1].specified[&date(2026, 12, 27)];
    assert_eq!((doubled.rows, doubled.period_rows(), doubled.periods.len()), (2, None, 1));
    let mut write = unchanged(&loaded[1]);
    let row = |held, date, periods| RewrittenDate { held, date, periods };
    let (p, q) = (Some(period(9, 12)), Some(period(13, 24)));
    write.dates.rewritten = vec![
        row(date(2026, 12, 24), date(2026, 12, 24), vec![(p, q), (q, Some(period(0, 1)))]),
        row(date(2026, 12, 25), date(2026, 12, 26), vec![(Some(period(8, 9)), None)]),
        row(date(2026, 12, 26), date(2026, 12, 25), vec![(None, None)]),
    ];
    write.dates.removed = vec![date(2026, 12, 27)];
    let effects = Effects { services: vec![write], ..Effects::default() };
    let mut client = database.client().await;
    let tx = begin(&mut client).await;
    apply(&tx, &effects, &context(&HashMap::new(), &[]), ready(Ok(()))).await.unwrap();
    tx.commit().await.unwrap();
    let rows = "SELECT string_agg(concat_ws(' ', d.id, d.date, t.id, t.starttime, t.endtime, t.isclosed), ',' ORDER BY t.id)
        FROM servicespecifiedopeningdates AS d JOIN servicespecifiedopeningtimes AS t ON d.id = servicespecifiedopeningdateid
        WHERE serviceid IN (2, 3)";
    let expected = "901 2026-12-24 801 13:00:00 24:00:00 f,901 2026-12-24 802 00:00:00 01:00:00 f,\
                    902 2026-12-26 803 00:00:00 00:00:00 t,903 2026-12-25 804 00:00:00 00:00:00 t,\
                    905 2026-12-24 807 09:00:00 12:00:00 f";
    assert_eq!(database.text(rows).await, expected);

    let mut write = unchanged(&loaded[1]);
    for gone in [vec![(p, q)], vec![]] {
        write.dates.rewritten = vec![row(date(2026, 12, 31), date(2027, 1, 1), gone)];
        let tx = begin(&mut client).await;
        let effects = Effects { services: vec![write.clone()], ..Effects::default() };
        let fault = apply(&tx, &effects, &context(&HashMap::new(), &[]), ready(Ok(()))).await.unwrap_err();
        assert!(matches!(fault, Fault::Contention { .. }), "a row that another writer took away: {fault}");
    }
    drop(client);
    database.drop().await;
}

/// The statements that follow a refused one fail as well; what is told is the refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_refusal_is_the_one_that_is_told() {
    let Some(database) = Database::new().await else { return };
    database.execute(SERVICES).await;
    let mut write = unchanged(&load(&database).await[0]);
    write.address = Some("a".repeat(513));
    write.columns.address = true;
    write.days = vec![(DayId(1), vec![period(1, 2)])];
    write.z_codes_added = vec![ZCode::BLOOD_PRESSURE];
    let effects = Effects { services: vec![write], rejected_changes: vec!["x".to_owned()], ..Effects::default() };
    let mut client = database.client().await;
    for _ in 0..100 {
        let tx = begin(&mut client).await;
        let fault = apply(&tx, &effects, &context(&HashMap::new(), &[]), ready(Ok(()))).await.unwrap_err();
        assert!(matches!(&fault, Fault::Content { sqlstate, .. } if sqlstate == "22001"), "{fault}");
        tx.rollback().await.unwrap();
    }
    drop(client);
    database.drop().await;
}

fn history(service_id: i32, base: HistoryBase) -> HistoryWrite {
    HistoryWrite { service_id, entries: "\"9\": {\"é\": 1}".to_owned(), base }
}

#[tokio::test]
async fn histories_are_put_in_front() {
    let Some(database) = Database::new().await else { return };
    let long = format!("{{\"5\": {{}}, \"4\": \"{}\"}}", "é".repeat(20_000));
    let stored = [
        (1, "{\"5\": {}}"),
        (2, "\u{3000}\n{ \"5\": {} }\u{a0}"),
        (3, " \u{2003}"),
        (4, "[]x"),
        (5, ""),
        (7, &long),
        (8, "{\"5\": é"),
    ];
    let mut client = database.client().await;
    for (id, text) in stored {
        client.execute("INSERT INTO servicehistories VALUES ($1, $2)", &[&id, &text]).await.unwrap();
    }
    let tx = begin(&mut client).await;
    let heads = history_heads(&tx, &[8, 7, 6, 5, 4, 3, 2, 1]).await.unwrap();
    let head = |id| heads.get(&id).map(|head| (head.start.as_str(), head.last));
    assert_eq!(head(1), Some(("{\"5\": {}}", Some('}'))));
    assert_eq!(head(2), Some(("{ \"5\": {} }\u{a0}", Some('}'))));
    assert_eq!((head(3), head(5), head(6)), (Some(("", None)), Some(("", None)), None));
    assert_eq!((head(4), head(8)), (Some(("[]x", Some('x'))), Some(("{\"5\": é", Some('é')))));
    assert_eq!(head(7).map(|(start, last)| (start.chars().count(), last)), Some((200, Some('}'))));
    let object = [1, 2, 7].map(|id| history(id, HistoryBase::Object));
    let fresh = [3, 4, 5, 6].map(|id| history(id, HistoryBase::Fresh));
    let histories = object.into_iter().chain(fresh).collect();
    let effects = Effects { histories, alien_histories: vec![4], ..Effects::default() };
    apply(&tx, &effects, &context(&heads, &[]), ready(Ok(()))).await.unwrap();
    let new = "\"9\": {\"é\": 1}";
    let rows = tx.query("SELECT history FROM servicehistories ORDER BY serviceid", &[]).await.unwrap();
    let texts: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(texts[0], format!("{{{new},\"5\": {{}}}}"));
    assert_eq!(texts[1], format!("{{{new}, \"5\": {{}} }}\u{a0}"));
    assert!(texts[2..6].iter().all(|text| *text == format!("{{{new}}}")));
    assert_eq!(texts[6], format!("{{{new},{}", &long[1..]));
    let kept = tx.query_one("SELECT service_id, history FROM dos_integration.kept_history", &[]).await.unwrap();
    assert_eq!((kept.get(0), kept.get(1)), (4, "[]x"));
    tx.commit().await.unwrap();

    let tx = begin(&mut client).await;
    let effects = Effects { histories: vec![history(6, HistoryBase::Fresh)], ..Effects::default() };
    let fault = apply(&tx, &effects, &context(&HashMap::new(), &[]), ready(Ok(()))).await.unwrap_err();
    assert!(matches!(fault, Fault::Contention { .. }), "a row that came meanwhile is read first: {fault}");
    drop(tx);
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn pending_changes_are_rejected_and_mailed() {
    let Some(database) = Database::new().await else { return };
    database.execute(SERVICES).await;
    let changes =
        "INSERT INTO users (username, firstname, lastname, email, createdtime) VALUES ('u', 'F', 'L', 'e@x', now());
        INSERT INTO changes (id, approvestatus, type, initiatorname, servicename, value, creatorsname, serviceid) VALUES
            ('b', 'PENDING', 'm', 'i', 's', '{}', 'u', 1), ('a', 'PENDING', 'm', 'i', 's', '{}', 'u', 2),
            ('c', 'COMPLETE', 'm', 'i', 's', '{}', 'u', 3), ('d', 'PENDING', 'm', 'i', 's', '{}', 'gone', 1)";
    database.execute(changes).await;
    let mut client = database.client().await;
    let tx = begin(&mut client).await;
    lock_sequences(&tx, &[code("FA002")].into()).await.unwrap();
    let with_pending_changes = loaded(&tx, &[code("FA002")]).await.unwrap().with_pending_changes;
    assert_eq!(with_pending_changes, BTreeSet::from([1, 2]));
    let pending = pending_changes(&tx, &[1, 2, 3]).await.unwrap();
    assert_eq!(pending.iter().map(|change| change.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((pending[0].service_id, pending[0].creator.email.as_deref()), (2, Some("e@x")));
    let creator = Creator { email: None, ..pending[0].creator.clone() };
    let text = |text: &str| text.to_owned();
    let (change_id, service_uid, service_name, changes) = (text("b"), text("1"), text("One\0"), text("[]"));
    let effects = Effects {
        sequences: BTreeMap::from([(code("FA002"), 12)]),
        rejected_changes: vec![text("b")],
        mails: vec![Mail { input: 1, change_id, creator, service_uid, service_name, changes }],
        ..Effects::default()
    };
    apply(&tx, &effects, &context(&HashMap::new(), &["x", "y"]), ready(Ok(()))).await.unwrap();
    assert_eq!(lock_sequences(&tx, &[code("FA002")].into()).await.unwrap()[&code("FA002")], 12);
    tx.commit().await.unwrap();
    let rejected = "SELECT string_agg(concat_ws(' ', id, modifiersname, modifiedtimestamp), ',') FROM changes
        WHERE approvestatus = 'REJECTED'";
    assert_eq!(database.text(rejected).await, "b DOS_INTEGRATION 2026-06-01 10:30:00+00");
    let mails =
        "SELECT string_agg(concat_ws(' ', change_id, service_name, creator_username, correlation_id, attempts), ',')
        FROM dos_integration.mail_queue WHERE creator_email IS NULL AND next_attempt_at <= created_at";
    assert_eq!(database.text(mails).await, "b One\u{fffd} u y 0");
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn locations_and_pairs_are_found() {
    let Some(database) = Database::new().await else { return };
    let rows = "INSERT INTO locations (id, postcode, postaltown, easting) VALUES
        (2, 'AB1 2CD', 'Second', NULL), (1, 'AB12CD', 'First', 1), (3, 'XY1 1XY', NULL, 2), (4, 'AB12CE', 'Other', 3)";
    database.execute(rows).await;
    let mut client = database.client().await;
    let tx = begin(&mut client).await;
    let spellings = ["AB12CD", "AB1 2CD", "XY11XY", "XY1 1XY"].map(str::to_owned);
    let found = locations(&tx, &spellings).await.unwrap();
    let towns: Vec<_> = found["AB12CD"].iter().map(|row| row.town.as_deref()).collect();
    assert_eq!(towns, [Some("First"), Some("Second")]);
    assert_eq!((found.len(), found["XY11XY"][0].easting), (2, Some(2)));
    assert_eq!(z_code_pairs(&tx).await.unwrap(), BTreeSet::from(ZCode::ALL));
    tx.batch_execute("DELETE FROM symptomgroupsymptomdiscriminators WHERE id = 6388").await.unwrap();
    assert!(!z_code_pairs(&tx).await.unwrap().contains(&ZCode::BLOOD_PRESSURE));
    drop(tx);
    drop(client);
    database.drop().await;
}
