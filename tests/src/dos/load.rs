//! Services and locations into DoS, by `COPY`: a country takes seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use anyhow::{Context, Result};
use futures::SinkExt;
use tokio_postgres::{Client, Transaction};

use super::Dos;
use crate::golden_form::{Change, DAYS, Location, Service, SpecifiedDate};
use crate::planted;

/// DoS's own writers, before dosi came by.
const WRITER: &str = "someone";
const WRITTEN: &str = "2026-01-05 09:00:00+00";
const REGION_TYPE: i32 = -1;
const ACTIVE: i32 = 1;
/// Regions are services too; they get ids below this, which no given service may have.
const REGION_IDS: std::ops::Range<i32> = 1..100;

impl Dos {
    /// Loads services with all that hangs on them, their regions, the creators of their changes, and locations.
    ///
    /// Ids of services are kept. May be called again with services whose ids are not there yet.
    pub async fn load(&mut self, services: &[Service], locations: &[Location]) -> Result<()> {
        let transaction = self.client.transaction().await?;
        transaction.batch_execute("SET LOCAL search_path = pathwaysdos").await?;
        let regions = load_regions(&transaction, services).await?;
        let mut rows = Rows { next: NextIds::read(&transaction).await?, ..Rows::default() };
        for service in services {
            rows.service(service, service.region.as_ref().and_then(|region| regions.get(region)).copied());
        }
        for location in locations {
            rows.location(location);
        }
        rows.copy(&transaction).await?;
        advance_sequences(&transaction).await?;
        transaction.commit().await?;
        analyze(&self.client).await
    }
}

/// As in a database that has been running for a while: the planner knows its tables.
async fn analyze(client: &Client) -> Result<()> {
    client.batch_execute("VACUUM ANALYZE").await.context("failed to analyze")
}

/// Ids of the regions by name, those that were there and those that had to be made.
async fn load_regions(transaction: &Transaction<'_>, services: &[Service]) -> Result<BTreeMap<String, i32>> {
    let there = transaction.query("SELECT name, id FROM services WHERE typeid = $1", &[&REGION_TYPE]).await?;
    let mut regions: BTreeMap<String, i32> = there.iter().map(|row| (row.get(0), row.get(1))).collect();
    let named: BTreeSet<_> = services.iter().filter_map(|service| service.region.clone()).collect();
    let taken: BTreeSet<_> = regions.values().copied().collect();
    let mut free = REGION_IDS.filter(|id| !taken.contains(id));
    for name in named {
        if regions.contains_key(&name) {
            continue;
        }
        let id = free.next().context("more regions than ids for them")?;
        let insert = "INSERT INTO services (id, name, typeid, statusid) VALUES ($1, $2, $3, $4)";
        transaction.execute(insert, &[&id, &name, &REGION_TYPE, &ACTIVE]).await?;
        regions.insert(name, id);
    }
    Ok(regions)
}

/// Next ids of the tables whose rows other rows point to.
#[derive(Default)]
struct NextIds {
    day: i32,
    date: i32,
}

impl NextIds {
    async fn read(transaction: &Transaction<'_>) -> Result<Self> {
        let largest = "SELECT (SELECT coalesce(max(id), 0) FROM servicedayopenings), \
             (SELECT coalesce(max(id), 0) FROM servicespecifiedopeningdates)";
        let row = transaction.query_one(largest, &[]).await?;
        Ok(Self { day: row.get::<_, i32>(0) + 1, date: row.get::<_, i32>(1) + 1 })
    }
}

fn take(next: &mut i32) -> i32 {
    *next += 1;
    *next - 1
}

/// Rows of all tables in the text form of `COPY`.
#[derive(Default)]
struct Rows {
    next: NextIds,
    services: String,
    days: String,
    day_times: String,
    dates: String,
    date_times: String,
    zcodes: String,
    histories: String,
    changes: String,
    creators: BTreeSet<String>,
    locations: String,
}

impl Rows {
    fn service(&mut self, service: &Service, parent: Option<i32>) {
        let cells: &[&dyn Cell] = &[
            &service.id,
            &service.uid,
            &service.name,
            &service.publicname,
            &service.odscode,
            &service.address,
            &service.town,
            &service.postcode,
            &service.publicphone,
            &service.web,
            &service.typeid,
            &service.statusid,
            &parent,
            &service.easting,
            &service.northing,
            &service.latitude,
            &service.longitude,
            &WRITER,
            &WRITTEN,
            &WRITER,
            &WRITTEN,
        ];
        push_row(&mut self.services, cells);
        self.opening(service);
        for date in &service.specified {
            self.specified_date(service.id, date);
        }
        for (sgid, sdid) in &service.zcodes {
            push_row(&mut self.zcodes, &[&service.id, &sgid, &sdid]);
        }
        if let Some(history) = &service.history {
            push_row(&mut self.histories, &[&service.id, &history]);
        }
        for change in &service.changes {
            self.change(service, change);
        }
    }

    fn opening(&mut self, service: &Service) {
        for (day_id, name) in (1..).zip(DAYS) {
            let Some(periods) = service.opening.get(name) else { continue };
            let id = take(&mut self.next.day);
            push_row(&mut self.days, &[&id, &service.id, &day_id]);
            for (start, end) in periods {
                push_row(&mut self.day_times, &[&start, &end, &id]);
            }
        }
    }

    fn specified_date(&mut self, service: i32, date: &SpecifiedDate) {
        let id = take(&mut self.next.date);
        push_row(&mut self.dates, &[&id, &date.date, &service]);
        for (start, end) in &date.periods {
            push_row(&mut self.date_times, &[&start, &end, &false, &id]);
        }
        if date.closed {
            push_row(&mut self.date_times, &[&"00:00:00", &"00:00:00", &true, &id]);
        }
    }

    fn change(&mut self, service: &Service, change: &Change) {
        let cells: &[&dyn Cell] = &[
            &change.id,
            &change.status,
            &"modify",
            &change.creator,
            &service.name,
            &change.value,
            &WRITTEN,
            &change.creator,
            &WRITTEN,
            &change.creator,
            &service.id,
        ];
        push_row(&mut self.changes, cells);
        self.creators.insert(change.creator.clone());
    }

    fn location(&mut self, location: &Location) {
        let cells: &[&dyn Cell] = &[
            &location.postcode,
            &location.easting,
            &location.northing,
            &location.postaltown,
            &location.latitude,
            &location.longitude,
        ];
        push_row(&mut self.locations, cells);
    }

    async fn copy(self, to: &Transaction<'_>) -> Result<()> {
        create_users(to, &self.creators).await?;
        let checked = [
            (
                "services (id, uid, name, publicname, odscode, address, town, postcode, publicphone, web, typeid, statusid, \
                 parentid, easting, northing, latitude, longitude, createdby, createdtime, modifiedby, modifiedtime)",
                self.services,
            ),
            ("servicesgsds (serviceid, sgid, sdid)", self.zcodes),
            ("servicehistories (serviceid, history)", self.histories),
            (
                "changes (id, approvestatus, type, initiatorname, servicename, value, createdtimestamp, creatorsname, \
                 modifiedtimestamp, modifiersname, serviceid)",
                self.changes,
            ),
            ("locations (postcode, easting, northing, postaltown, latitude, longitude)", self.locations),
        ];
        for (table, rows) in checked {
            copy(to, table, rows).await?;
        }
        let made_here = [
            ("servicedayopenings (id, serviceid, dayid)", self.days),
            ("servicedayopeningtimes (starttime, endtime, servicedayopeningid)", self.day_times),
            ("servicespecifiedopeningdates (id, date, serviceid)", self.dates),
            (
                "servicespecifiedopeningtimes (starttime, endtime, isclosed, servicespecifiedopeningdateid)",
                self.date_times,
            ),
        ];
        // Nine rows of ten, and the rows they refer to were all made above: checking each takes most of the time.
        to.batch_execute("SET LOCAL session_replication_role = replica").await?;
        for (table, rows) in made_here {
            copy(to, table, rows).await?;
        }
        Ok(())
    }
}

async fn copy(to: &Transaction<'_>, table: &str, rows: String) -> Result<()> {
    let mut sink = Box::pin(to.copy_in(&format!("COPY {table} FROM STDIN")).await?);
    sink.send(Cursor::new(rows.into_bytes())).await?;
    sink.close().await.with_context(|| format!("failed to load {table}"))?;
    Ok(())
}

/// Made-up people at addresses that can never be anyone's.
async fn create_users(transaction: &Transaction<'_>, names: &BTreeSet<String>) -> Result<()> {
    let insert = "INSERT INTO users (username, firstname, lastname, email, createdtime)
         SELECT name, initcap(split_part(name, '.', 1)), $2, name || '@' || $3, now()
         FROM unnest($1::text[]) AS name ON CONFLICT (username) DO NOTHING";
    let names: Vec<_> = names.iter().collect();
    transaction.execute(insert, &[&names, &planted::FAMILY_NAME, &planted::MAIL_DOMAIN]).await?;
    Ok(())
}

/// After rows with ids of their own: what is inserted next must not meet them.
async fn advance_sequences(transaction: &Transaction<'_>) -> Result<()> {
    for table in ["services", "servicedayopenings", "servicespecifiedopeningdates"] {
        let advance = format!("SELECT setval('{table}_id_seq', greatest((SELECT max(id) FROM {table}), 1))");
        transaction.batch_execute(&advance).await?;
    }
    Ok(())
}

/// A cell in the text form of `COPY`.
trait Cell {
    fn push(&self, row: &mut String);
}

impl Cell for str {
    fn push(&self, row: &mut String) {
        for character in self.chars() {
            match character {
                '\\' => row.push_str("\\\\"),
                '\t' => row.push_str("\\t"),
                '\n' => row.push_str("\\n"),
                '\r' => row.push_str("\\r"),
                other => row.push(other),
            }
        }
    }
}

impl<T: Cell + ?Sized> Cell for &T {
    fn push(&self, row: &mut String) {
        (**self).push(row);
    }
}

impl Cell for String {
    fn push(&self, row: &mut String) {
        self.as_str().push(row);
    }
}

macro_rules! plain_cells {
    ($($plain:ty)*) => {
        $(impl Cell for $plain {
            fn push(&self, row: &mut String) {
                row.push_str(&self.to_string());
            }
        })*
    };
}
plain_cells!(i32 f64 bool);

impl<T: Cell> Cell for Option<T> {
    fn push(&self, row: &mut String) {
        match self {
            Some(cell) => cell.push(row),
            None => row.push_str("\\N"),
        }
    }
}

fn push_row(rows: &mut String, cells: &[&dyn Cell]) {
    for (number, cell) in cells.iter().enumerate() {
        if number > 0 {
            rows.push('\t');
        }
        cell.push(rows);
    }
    rows.push('\n');
}
