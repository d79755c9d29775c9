//! What a batch changes in DoS: a fixed number of statements in at most two round trips, whatever the batch's size. Statements
//! that have nothing to do are left out.
//!
//! The rows are locked by the reads (`services`, `load`), and a service's children belong to who holds the service, so nothing
//! here waits for another writer that keeps to the same order.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use deadpool_postgres::Transaction;
use futures::join;
use tokio_postgres::types::ToSql;

use super::{
    Fault, Result, archive,
    load::{WHITE_SPACE, z_code_columns},
    mail_queue, outbox,
    statement::{execute, prepare, query},
    time_of_day::TimeOfDay,
};
use crate::domain::{
    batch::{Effects, RewrittenDate, ServiceWrite},
    history::{HistoryBase, HistoryHead, HistoryWrite},
    opening_times::{DayId, Period},
    service::ZCode,
};

/// Who dosi is in DoS (rules 4.2, 6.1).
const MODIFIER: &str = "DOS_INTEGRATION";

/// What the writes need besides the effects.
#[derive(Clone, Copy, Debug)]
pub struct ApplyContext<'a> {
    /// The batch's moment.
    pub now: DateTime<Utc>,
    /// What [`super::load::history_heads`] gave in this transaction: services that are in it have a history row.
    pub heads: &'a HashMap<i32, HistoryHead>,
    /// Correlation ids of the batch's inputs, by index.
    pub correlation_ids: &'a [&'a str],
}

/// Only columns that changed are written; the others keep what the row holds.
const SERVICES: &str = "UPDATE services AS s SET
        address = CASE WHEN w.has_address THEN w.address ELSE s.address END,
        postcode = CASE WHEN w.has_place THEN w.postcode ELSE s.postcode END,
        town = CASE WHEN w.has_place THEN w.town ELSE s.town END,
        easting = CASE WHEN w.has_place THEN w.easting ELSE s.easting END,
        northing = CASE WHEN w.has_place THEN w.northing ELSE s.northing END,
        latitude = CASE WHEN w.has_place THEN w.latitude ELSE s.latitude END,
        longitude = CASE WHEN w.has_place THEN w.longitude ELSE s.longitude END,
        publicphone = CASE WHEN w.has_phone THEN w.phone ELSE s.publicphone END,
        web = CASE WHEN w.has_web THEN w.web ELSE s.web END,
        statusid = CASE WHEN w.has_status THEN w.statusid ELSE s.statusid END,
        modifiedby = $17, modifiedtime = $18
    FROM unnest($1::int[], $2::bool[], $3::bool[], $4::bool[], $5::bool[], $6::bool[], $7::text[], $8::text[], $9::text[],
            $10::int[], $11::int[], $12::float8[], $13::float8[], $14::text[], $15::text[], $16::int[])
        AS w(id, has_address, has_place, has_phone, has_web, has_status, address, postcode, town,
            easting, northing, latitude, longitude, phone, web, statusid)
    WHERE s.id = w.id";
/// Their times go by cascade. `+ 0` keeps the planner from the index on the day, which finds a seventh of the table: without
/// statistics it looks as good as the one on the service.
const DELETE_DAYS: &str =
    "DELETE FROM servicedayopenings AS d USING unnest($1::int[], $2::int[]) AS w(serviceid, dayid)
    WHERE d.serviceid = w.serviceid AND d.dayid + 0 = w.dayid";
const INSERT_DAYS: &str = "INSERT INTO servicedayopenings (serviceid, dayid)
    SELECT w.serviceid, w.dayid FROM unnest($1::int[], $2::int[]) AS w(serviceid, dayid) RETURNING id, serviceid, dayid";
const INSERT_DAY_TIMES: &str = "INSERT INTO servicedayopeningtimes (servicedayopeningid, starttime, endtime)
    SELECT w.parent, w.starttime, w.endtime FROM unnest($1::int[], $2::time[], $3::time[]) AS w(parent, starttime, endtime)";
/// A date that comes takes the row of one that goes, where as many periods hang on both: nothing is cascaded, and no
/// foreign key is looked up (a row deleted and one inserted took 1.6 times as long in a bare loop). A closed date has one row, whatever times it says.
const REWRITE_DATE_TIMES: &str = "UPDATE servicespecifiedopeningtimes AS t
    SET starttime = w.starttime, endtime = w.endtime, isclosed = w.isclosed
    FROM unnest($1::int[], $2::date[], $3::time[], $4::time[], $5::time[], $6::time[], $7::bool[])
            AS w(serviceid, date, held_start, held_end, starttime, endtime, isclosed)
        JOIN servicespecifiedopeningdates AS d ON d.serviceid = w.serviceid AND d.date = w.date
    WHERE t.servicespecifiedopeningdateid = d.id
        AND (w.held_start IS NULL OR t.starttime = w.held_start AND t.endtime = w.held_end)";
const MOVE_DATES: &str = "UPDATE servicespecifiedopeningdates AS d SET date = w.date
    FROM unnest($1::int[], $2::date[], $3::date[]) AS w(serviceid, held, date)
    WHERE d.serviceid = w.serviceid AND d.date = w.held";
const DELETE_DATES: &str = "DELETE FROM servicespecifiedopeningdates AS d
    USING unnest($1::int[], $2::date[]) AS w(serviceid, date) WHERE d.serviceid = w.serviceid AND d.date = w.date";
const INSERT_DATES: &str = "INSERT INTO servicespecifiedopeningdates (serviceid, date)
    SELECT w.serviceid, w.date FROM unnest($1::int[], $2::date[]) AS w(serviceid, date) RETURNING id, serviceid, date";
const INSERT_DATE_TIMES: &str = "INSERT INTO servicespecifiedopeningtimes
        (servicespecifiedopeningdateid, starttime, endtime, isclosed)
    SELECT w.parent, w.starttime, w.endtime, w.isclosed
    FROM unnest($1::int[], $2::time[], $3::time[], $4::bool[]) AS w(parent, starttime, endtime, isclosed)";
const INSERT_Z_CODES: &str = "INSERT INTO servicesgsds (serviceid, sgid, sdid)
    SELECT w.serviceid, w.sgid, w.sdid FROM unnest($1::int[], $2::int[], $3::int[]) AS w(serviceid, sgid, sdid)
    ON CONFLICT (serviceid, sdid, sgid) DO NOTHING";
const DELETE_Z_CODES: &str = "DELETE FROM servicesgsds AS g
    USING unnest($1::int[], $2::int[], $3::int[]) AS w(serviceid, sgid, sdid)
    WHERE g.serviceid = w.serviceid AND g.sgid = w.sgid AND g.sdid = w.sdid";
const KEEP_HISTORIES: &str = "INSERT INTO dos_integration.kept_history (service_id, kept_at, history)
    SELECT h.serviceid, $2, h.history FROM servicehistories AS h WHERE h.serviceid = ANY($1)";
/// New entries go in front of what stands behind the old opening brace. `right(…, -1)` leaves out one character without
/// counting the others (at 27 KB it halves the statement's time).
const UPDATE_HISTORIES: &str = "UPDATE servicehistories AS h SET history = CASE
        WHEN NOT w.goes_on THEN '{' || w.entries || '}'
        WHEN left(h.history, 1) = '{' THEN '{' || w.entries || ',' || right(h.history, -1)
        ELSE '{' || w.entries || ',' || right(ltrim(h.history, $4), -1) END
    FROM unnest($1::int[], $2::text[], $3::bool[]) AS w(serviceid, entries, goes_on) WHERE h.serviceid = w.serviceid";
const INSERT_HISTORIES: &str = "INSERT INTO servicehistories (serviceid, history)
    SELECT w.serviceid, '{' || w.entries || '}' FROM unnest($1::int[], $2::text[]) AS w(serviceid, entries)
    ON CONFLICT (serviceid) DO NOTHING";
const REJECT_CHANGES: &str = "UPDATE changes SET approvestatus = 'REJECTED', modifiersname = $2, modifiedtimestamp = $3
    WHERE id = ANY($1)";
const RAISE_SEQUENCES: &str = "UPDATE dos_integration.accepted_sequence AS a SET sequence_number = w.sequence_number
    FROM unnest($1::text[], $2::bigint[]) AS w(code, sequence_number)
    WHERE a.ods_code = w.code AND a.sequence_number < w.sequence_number";

/// What the one period of a closed date says besides (rule 6.3).
const MIDNIGHT: Period = Period { start: 0, end: 0 };

/// The children to write for parents whose ids the database gives.
type DayKey = (i32, i32);
type DateKey = (i32, NaiveDate);

/// Every statement of [`apply`], and those that go beside.
const STATEMENTS: [&str; 19] = [
    SERVICES,
    DELETE_DAYS,
    INSERT_DAYS,
    INSERT_DAY_TIMES,
    REWRITE_DATE_TIMES,
    MOVE_DATES,
    DELETE_DATES,
    INSERT_DATES,
    INSERT_DATE_TIMES,
    INSERT_Z_CODES,
    DELETE_Z_CODES,
    KEEP_HISTORIES,
    UPDATE_HISTORIES,
    INSERT_HISTORIES,
    REJECT_CHANGES,
    RAISE_SEQUENCES,
    mail_queue::INSERT,
    archive::INSERT,
    outbox::INSERT,
];

/// Writes the effects. Everything is prepared before anything is sent, so the joined statements arrive in the order in which
/// they stand here: alien histories are kept before they are replaced, old rows go or move before new ones come. `beside` are those
/// that fill archive and outbox, sent with the first of these.
pub async fn apply(
    tx: &Transaction<'_>,
    effects: &Effects,
    context: &ApplyContext<'_>,
    beside: impl Future<Output = Result<()>>,
) -> Result<()> {
    prepare(tx, STATEMENTS).await?;
    // Boxed: so many futures side by side are too large for the caller's own.
    Box::pin(write(tx, effects, context, beside)).await
}

async fn write(
    tx: &Transaction<'_>,
    effects: &Effects,
    context: &ApplyContext<'_>,
    beside: impl Future<Output = Result<()>>,
) -> Result<()> {
    let writes = &effects.services;
    let (
        kept,
        updated,
        inserted,
        services,
        days_gone,
        dates_gone,
        dates_moved,
        dates_rewritten,
        codes_gone,
        codes,
        changes,
        sequences,
        mails,
        days,
        dates,
        beside,
    ) = join!(
        keep_histories(tx, &effects.alien_histories, context.now),
        update_histories(tx, &effects.histories, context.heads),
        insert_histories(tx, &effects.histories, context.heads),
        update_services(tx, writes, context.now),
        delete_days(tx, writes),
        delete_dates(tx, writes),
        move_dates(tx, writes),
        rewrite_date_times(tx, writes),
        z_codes(tx, DELETE_Z_CODES, writes, |write| &write.z_codes_removed),
        z_codes(tx, INSERT_Z_CODES, writes, |write| &write.z_codes_added),
        reject_changes(tx, &effects.rejected_changes, context.now),
        raise_sequences(tx, effects),
        mail_queue::insert(tx, &effects.mails, context.correlation_ids, context.now),
        insert_days(tx, writes),
        insert_dates(tx, writes),
        beside,
    );
    in_order([
        kept,
        updated,
        inserted,
        services,
        days_gone,
        dates_gone,
        dates_moved,
        dates_rewritten,
        codes_gone,
        codes,
        changes,
        sequences,
        mails,
    ])?;
    let (days, dates) = (days?, dates?);
    beside?;
    let (day_times, date_times) = join!(insert_day_times(tx, writes, &days), insert_date_times(tx, writes, &dates));
    in_order([day_times, date_times])
}

/// The first failure in the order of sending. Whatever follows a failed statement fails too (25P02) and may be heard of first,
/// so joined statements are all waited for.
fn in_order<const N: usize>(results: [Result<()>; N]) -> Result<()> {
    results.into_iter().collect()
}

/// One value a row, from all rows.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

async fn update_services(tx: &Transaction<'_>, writes: &[ServiceWrite], now: DateTime<Utc>) -> Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let params: [&(dyn ToSql + Sync); 18] = [
        &column(writes, |write| write.id),
        &column(writes, |write| write.columns.address),
        &column(writes, |write| write.columns.place),
        &column(writes, |write| write.columns.phone),
        &column(writes, |write| write.columns.web),
        &column(writes, |write| write.columns.status),
        &column(writes, |write| write.address.as_deref()),
        &column(writes, |write| write.postcode.as_deref()),
        &column(writes, |write| write.town.as_deref()),
        &column(writes, |write| write.easting),
        &column(writes, |write| write.northing),
        &column(writes, |write| write.latitude),
        &column(writes, |write| write.longitude),
        &column(writes, |write| write.phone.as_deref()),
        &column(writes, |write| write.web.as_deref()),
        &column(writes, |write| write.status_id),
        &MODIFIER,
        &now,
    ];
    execute(tx, SERVICES, &params).await?;
    Ok(())
}

async fn delete_days(tx: &Transaction<'_>, writes: &[ServiceWrite]) -> Result<()> {
    let keys = writes.iter().flat_map(|write| write.days.iter().map(|(day, _)| (write.id, day.0)));
    let (services, days): (Vec<i32>, Vec<i32>) = keys.unzip();
    if !services.is_empty() {
        execute(tx, DELETE_DAYS, &[&services, &days]).await?;
    }
    Ok(())
}

/// Days that have periods, each with them.
fn open_days(writes: &[ServiceWrite]) -> impl Iterator<Item = (DayKey, &[Period])> {
    let days = |write: &'_ ServiceWrite| write.id;
    writes.iter().flat_map(move |write| {
        let open = write.days.iter().filter(|(_, periods)| !periods.is_empty());
        open.map(move |(DayId(day), periods)| ((days(write), *day), periods.as_slice()))
    })
}

/// One row for each open day; the ids they were given.
async fn insert_days(tx: &Transaction<'_>, writes: &[ServiceWrite]) -> Result<BTreeMap<DayKey, i32>> {
    let (services, days): (Vec<i32>, Vec<i32>) = open_days(writes).map(|(key, _)| key).unzip();
    if services.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = query(tx, INSERT_DAYS, &[&services, &days]).await?;
    rows.iter().map(|row| Ok(((row.try_get(1)?, row.try_get(2)?), row.try_get(0)?))).collect()
}

async fn insert_day_times(tx: &Transaction<'_>, writes: &[ServiceWrite], ids: &BTreeMap<DayKey, i32>) -> Result<()> {
    let mut times = Times::default();
    for (key, periods) in open_days(writes) {
        times.extend(parent_of(ids, &key)?, periods);
    }
    if !times.parents.is_empty() {
        execute(tx, INSERT_DAY_TIMES, &[&times.parents, &times.starts, &times.ends]).await?;
    }
    Ok(())
}

async fn delete_dates(tx: &Transaction<'_>, writes: &[ServiceWrite]) -> Result<()> {
    let keys = writes.iter().flat_map(|write| write.dates.removed.iter().map(|date| (write.id, *date)));
    let (services, dates): (Vec<i32>, Vec<NaiveDate>) = keys.unzip();
    if !services.is_empty() {
        execute(tx, DELETE_DATES, &[&services, &dates]).await?;
    }
    Ok(())
}

/// A writer that does not hold the service may have replaced a date since it was read.
const DATES_REPLACED: &str = "specified dates were replaced meanwhile";

/// By the dates that they have now: a writer that deletes a date locks it before its periods, too.
async fn rewrite_date_times(tx: &Transaction<'_>, writes: &[ServiceWrite]) -> Result<()> {
    let rows: Vec<_> = rewritten_dates(writes)
        .flat_map(|(id, date)| {
            date.periods.iter().map(move |(was, is)| (id, date.date, *was, is.unwrap_or(MIDNIGHT), is))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let params: [&(dyn ToSql + Sync); 7] = [
        &column(&rows, |row| row.0),
        &column(&rows, |row| row.1),
        &column(&rows, |row| row.2.map(|was| TimeOfDay(was.start))),
        &column(&rows, |row| row.2.map(|was| TimeOfDay(was.end))),
        &column(&rows, |row| TimeOfDay(row.3.start)),
        &column(&rows, |row| TimeOfDay(row.3.end)),
        &column(&rows, |row| row.4.is_none()),
    ];
    all_written(execute(tx, REWRITE_DATE_TIMES, &params).await?, rows.len(), DATES_REPLACED)
}

async fn move_dates(tx: &Transaction<'_>, writes: &[ServiceWrite]) -> Result<()> {
    let moved = rewritten_dates(writes).filter(|(_, date)| date.held != date.date);
    let (services, (held, dates)): (Vec<i32>, (Vec<NaiveDate>, Vec<NaiveDate>)) =
        moved.map(|(id, date)| (id, (date.held, date.date))).unzip();
    if services.is_empty() {
        return Ok(());
    }
    all_written(execute(tx, MOVE_DATES, &[&services, &held, &dates]).await?, services.len(), DATES_REPLACED)
}

fn rewritten_dates(writes: &[ServiceWrite]) -> impl Iterator<Item = (i32, &RewrittenDate)> {
    writes.iter().flat_map(|write| write.dates.rewritten.iter().map(|date| (write.id, date)))
}

fn added_dates(writes: &[ServiceWrite]) -> impl Iterator<Item = (DateKey, &[Period])> {
    writes
        .iter()
        .flat_map(|write| write.dates.added.iter().map(move |(date, periods)| ((write.id, *date), periods.as_slice())))
}

/// One row for each date; the ids they were given.
async fn insert_dates(tx: &Transaction<'_>, writes: &[ServiceWrite]) -> Result<BTreeMap<DateKey, i32>> {
    let (services, dates): (Vec<i32>, Vec<NaiveDate>) = added_dates(writes).map(|(key, _)| key).unzip();
    if services.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = query(tx, INSERT_DATES, &[&services, &dates]).await?;
    rows.iter().map(|row| Ok(((row.try_get(1)?, row.try_get(2)?), row.try_get(0)?))).collect()
}

/// A closed date has one period 00:00–00:00 that says so (rule 6.3).
async fn insert_date_times(tx: &Transaction<'_>, writes: &[ServiceWrite], ids: &BTreeMap<DateKey, i32>) -> Result<()> {
    let mut times = Times::default();
    let mut closed = Vec::new();
    for (key, periods) in added_dates(writes) {
        times.extend(parent_of(ids, &key)?, if periods.is_empty() { &[MIDNIGHT] } else { periods });
        closed.resize(times.parents.len(), periods.is_empty());
    }
    if !closed.is_empty() {
        let params: [&(dyn ToSql + Sync); 4] = [&times.parents, &times.starts, &times.ends, &closed];
        execute(tx, INSERT_DATE_TIMES, &params).await?;
    }
    Ok(())
}

/// Rows of a table of periods, column by column.
#[derive(Default)]
struct Times {
    parents: Vec<i32>,
    starts: Vec<TimeOfDay>,
    ends: Vec<TimeOfDay>,
}

impl Times {
    fn extend(&mut self, parent: i32, periods: &[Period]) {
        self.parents.extend(periods.iter().map(|_| parent));
        self.starts.extend(periods.iter().map(|period| TimeOfDay(period.start)));
        self.ends.extend(periods.iter().map(|period| TimeOfDay(period.end)));
    }
}

fn parent_of<K: Ord>(ids: &BTreeMap<K, i32>, key: &K) -> Result<i32> {
    ids.get(key).copied().ok_or_else(|| Fault::unclear("an inserted row was not given back"))
}

/// Adds or removes, by the statement given.
async fn z_codes(
    tx: &Transaction<'_>,
    sql: &str,
    writes: &[ServiceWrite],
    codes: impl Fn(&ServiceWrite) -> &Vec<ZCode>,
) -> Result<()> {
    let services: Vec<i32> = writes.iter().flat_map(|write| codes(write).iter().map(|_| write.id)).collect();
    if services.is_empty() {
        return Ok(());
    }
    let all: Vec<ZCode> = writes.iter().flat_map(|write| codes(write).iter().copied()).collect();
    let (groups, discriminators) = z_code_columns(&all);
    execute(tx, sql, &[&services, &groups, &discriminators]).await?;
    Ok(())
}

async fn keep_histories(tx: &Transaction<'_>, alien: &[i32], now: DateTime<Utc>) -> Result<()> {
    if !alien.is_empty() {
        execute(tx, KEEP_HISTORIES, &[&alien, &now]).await?;
    }
    Ok(())
}

const HISTORY_REPLACED: &str = "a service history was made or removed meanwhile";

/// Histories that have a row, which this transaction has locked (rule 7.1).
async fn update_histories(
    tx: &Transaction<'_>,
    histories: &[HistoryWrite],
    heads: &HashMap<i32, HistoryHead>,
) -> Result<()> {
    let there: Vec<_> = histories.iter().filter(|write| heads.contains_key(&write.service_id)).collect();
    if there.is_empty() {
        return Ok(());
    }
    let params: [&(dyn ToSql + Sync); 4] = [
        &column(&there, |write| write.service_id),
        &column(&there, |write| write.entries.as_str()),
        &column(&there, |write| write.base == HistoryBase::Object),
        &WHITE_SPACE,
    ];
    all_written(execute(tx, UPDATE_HISTORIES, &params).await?, there.len(), HISTORY_REPLACED)
}

/// Histories that had no row. If another writer has made one since, it must be read first: the batch is done again.
async fn insert_histories(
    tx: &Transaction<'_>,
    histories: &[HistoryWrite],
    heads: &HashMap<i32, HistoryHead>,
) -> Result<()> {
    let new: Vec<_> = histories.iter().filter(|write| !heads.contains_key(&write.service_id)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let services = column(&new, |write| write.service_id);
    let entries = column(&new, |write| write.entries.as_str());
    all_written(execute(tx, INSERT_HISTORIES, &[&services, &entries]).await?, new.len(), HISTORY_REPLACED)
}

/// Whether as many rows were written as there were when they were read; `or` says what another writer must have done if not.
fn all_written(written: u64, expected: usize, or: &'static str) -> Result<()> {
    if usize::try_from(written) == Ok(expected) { Ok(()) } else { Err(Fault::contention(or)) }
}

async fn reject_changes(tx: &Transaction<'_>, ids: &[String], now: DateTime<Utc>) -> Result<()> {
    if !ids.is_empty() {
        execute(tx, REJECT_CHANGES, &[&ids, &MODIFIER, &now]).await?;
    }
    Ok(())
}

async fn raise_sequences(tx: &Transaction<'_>, effects: &Effects) -> Result<()> {
    let codes: Vec<&str> = effects.sequences.keys().map(crate::domain::ods_code::OdsCode::as_str).collect();
    let numbers: Vec<i64> = effects.sequences.values().copied().collect();
    if !codes.is_empty() {
        execute(tx, RAISE_SEQUENCES, &[&codes, &numbers]).await?;
    }
    Ok(())
}
