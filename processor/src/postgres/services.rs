//! The candidates of rule 3.1, less those that rule 3.3 drops for every event, locked, with all that hangs on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use deadpool_postgres::Transaction;
use futures::join;
use tokio_postgres::Row;

use super::{
    Result,
    load::ods_code,
    opening_times::{self, Places},
    statement::{Params, query},
};
use crate::{
    domain::{
        commissioned_services::z_code_of,
        matching::Offered,
        ods_code::OdsCode,
        service::{Service, ZCode},
    },
    fault_injection::{Mutant, is},
};

/// Locks the candidates in id order and reads their columns as they are once locked: a row that another writer has changed
/// meanwhile is held against the condition again and read anew.
///
/// The prefix search is a range in the column's own collation with a recheck (`LIKE` could not use the plain index). It stands
/// in a subquery of its own for each code (`OFFSET 0`), because the planner takes a join on a range for a ninth of the table.
/// The condition on type and status is a `CASE`, which is evaluated once a row and keeps the planner from the indexes on both: they
/// find half of the table but look narrow without statistics.
pub(super) const CANDIDATES: &str =
    "SELECT k.code, s.id, s.uid, s.name, s.odscode, s.typeid, s.statusid, s.parentid, s.address, s.town,
        s.postcode, s.easting, s.northing, s.latitude, s.longitude, s.publicphone, s.web
    FROM (
        SELECT c.code, c.blood_pressure, c.contraception, x.id
        FROM unnest($1::text[], $2::bool[], $3::bool[]) AS c(code, blood_pressure, contraception) CROSS JOIN LATERAL (
            SELECT id FROM services
            WHERE odscode >= c.code AND odscode <= c.code || repeat('z', 250) AND starts_with(odscode, c.code) OFFSET 0
        ) AS x OFFSET 0
    ) AS k JOIN services AS s ON s.id = k.id
    WHERE starts_with(s.odscode, k.code)
        AND CASE
            WHEN s.statusid = 1 THEN s.typeid IN (13, 131, 132, 134, 137, 148, 149)
            WHEN s.statusid IN (2, 3) THEN s.typeid = 148 AND k.blood_pressure OR s.typeid = 149 AND k.contraception
        END
    ORDER BY s.id FOR NO KEY UPDATE OF s";
const TYPES: &str = "SELECT id, name FROM servicetypes WHERE id = ANY($1)";
const STATUSES: &str = "SELECT id, name FROM servicestatuses WHERE id = ANY($1)";
/// From each parent upwards; a chain that comes back to itself has no top and gives no row.
const REGIONS: &str = "WITH RECURSIVE up(start, parentid, name, path) AS (
        SELECT id, parentid, name, ARRAY[id] FROM services WHERE id = ANY($1)
        UNION ALL
        SELECT up.start, s.parentid, s.name, up.path || s.id FROM up JOIN services AS s ON s.id = up.parentid
        WHERE s.id <> ALL(up.path)
    ) SELECT start, name FROM up WHERE parentid IS NULL";
/// One look-up by the whole unique key for each service and its code, in a subquery of its own (`OFFSET 0`): one discriminator
/// alone belongs to many thousand services, which the planner cannot know without statistics.
const Z_CODES: &str = "SELECT g.serviceid, g.sgid, g.sdid
    FROM unnest($1::int[], $2::int[], $3::int[]) AS w(id, sgid, sdid) CROSS JOIN LATERAL (
        SELECT serviceid, sgid, sdid FROM servicesgsds WHERE serviceid = w.id AND sdid = w.sdid AND sgid = w.sgid OFFSET 0
    ) AS g";

const WITH_PENDING_CHANGES: &str =
    "SELECT serviceid FROM changes WHERE serviceid = ANY($1) AND approvestatus = 'PENDING'";

/// Locks the candidates of these codes, in id order, and reads their own columns.
pub async fn candidates(tx: &Transaction<'_>, codes: &BTreeMap<OdsCode, Offered>) -> Result<Vec<Candidate>> {
    if codes.is_empty() {
        return Ok(Vec::new());
    }
    let texts: Vec<&str> = codes.keys().map(OdsCode::as_str).collect();
    let (blood_pressure, contraception): (Vec<bool>, Vec<bool>) =
        codes.values().map(|offered| (offered.blood_pressure, offered.contraception)).unzip();
    let candidates =
        if is(Mutant::RowsWithoutLock) { CANDIDATES.trim_end_matches("FOR NO KEY UPDATE OF s") } else { CANDIDATES };
    let rows = query(tx, candidates, &[&texts, &blood_pressure, &contraception]).await?;
    rows.iter()
        .map(|row| Ok(Candidate { code: ods_code(row)?, parent_id: row.try_get(7)?, service: bare_service(row)? }))
        .collect()
}

/// A service on its way: locked, its own columns are read, the rest follows.
#[derive(Debug)]
pub struct Candidate {
    code: OdsCode,
    parent_id: Option<i32>,
    service: Service,
}

fn bare_service(row: &Row) -> Result<Service> {
    Ok(Service {
        id: row.try_get(1)?,
        uid: row.try_get(2)?,
        name: row.try_get(3)?,
        ods_code: row.try_get(4)?,
        type_id: row.try_get(5)?,
        type_name: String::new(),
        status_id: row.try_get(6)?,
        status_name: String::new(),
        region: String::new(),
        address: row.try_get(8)?,
        town: row.try_get(9)?,
        postcode: row.try_get(10)?,
        easting: row.try_get(11)?,
        northing: row.try_get(12)?,
        latitude: row.try_get(13)?,
        longitude: row.try_get(14)?,
        phone: row.try_get(15)?,
        web: row.try_get(16)?,
        opening: BTreeMap::new(),
        specified: BTreeMap::new(),
        z_codes: BTreeSet::new(),
    })
}

/// What hangs on candidates.
#[derive(Debug, Default)]
pub struct Complete {
    /// Each list in id order; a code without any is absent.
    pub services: HashMap<OdsCode, Vec<Service>>,
    /// Which candidates have pending changes. They are locked and read when it is known whose matter
    /// ([`super::load::heads_and_pending`]): one that is proposed in between is after this batch.
    pub with_pending_changes: BTreeSet<i32>,
}

/// Reads what hangs on the locked candidates, in two round trips, or three (see [`opening_times::add`]).
pub async fn complete(tx: &Transaction<'_>, mut found: Vec<Candidate>) -> Result<Complete> {
    if found.is_empty() {
        return Ok(Complete::default());
    }
    let ids: Vec<i32> = found.iter().map(|candidate| candidate.service.id).collect();
    let types = distinct(found.iter().map(|candidate| candidate.service.type_id));
    let statuses = distinct(found.iter().map(|candidate| candidate.service.status_id));
    let parents = distinct(found.iter().filter_map(|candidate| candidate.parent_id));
    let asked = found.iter().filter_map(|candidate| Some((candidate.service.id, z_code_of(&candidate.service)?)));
    let (holders, (groups, discriminators)): (Vec<i32>, (Vec<i32>, Vec<i32>)) =
        asked.map(|(id, code)| (id, (code.sgid, code.sdid))).unzip();
    let by_service_and_code: Params = &[&holders, &groups, &discriminators];
    let by_service: Params = &[&ids];
    let (types, statuses, regions, opening_times, z_codes, pending) = join!(
        names(tx, TYPES, &types),
        names(tx, STATUSES, &statuses),
        names(tx, REGIONS, &parents),
        opening_times::rows(tx, &ids),
        query(tx, Z_CODES, by_service_and_code),
        query(tx, WITH_PENDING_CHANGES, by_service),
    );
    // The first failure in the order of sending: those after it only say that the transaction has failed (25P02).
    let (types, statuses, regions) = (types?, statuses?, regions?);
    let (opening_times, z_codes, pending) = (opening_times?, z_codes?, pending?);
    for candidate in &mut found {
        let service = &mut candidate.service;
        service.type_name = types.get(&service.type_id).cloned().unwrap_or_default();
        service.status_name = statuses.get(&service.status_id).cloned().unwrap_or_default();
        let top = candidate.parent_id.and_then(|parent| regions.get(&parent));
        service.region = top.unwrap_or(&service.name).clone();
    }
    let mut services: Vec<&mut Service> = found.iter_mut().map(|candidate| &mut candidate.service).collect();
    let places = (0..).zip(&services).map(|(place, service)| (service.id, place)).collect();
    add_z_codes(&mut services, &places, &z_codes)?;
    opening_times::add(tx, &mut services, &places, &opening_times).await?;
    let mut services = HashMap::<OdsCode, Vec<Service>>::new();
    for candidate in found {
        services.entry(candidate.code).or_default().push(candidate.service);
    }
    let with_pending_changes = pending.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_>>()?;
    Ok(Complete { services, with_pending_changes })
}

fn add_z_codes(services: &mut [&mut Service], places: &Places, rows: &[Row]) -> Result<()> {
    for row in rows {
        if let Some(&place) = places.get(&row.try_get(0)?) {
            services[place].z_codes.insert(ZCode { sgid: row.try_get(1)?, sdid: row.try_get(2)? });
        }
    }
    Ok(())
}

fn distinct(ids: impl Iterator<Item = i32>) -> Vec<i32> {
    ids.collect::<BTreeSet<_>>().into_iter().collect()
}

async fn names(tx: &Transaction<'_>, sql: &str, ids: &[i32]) -> Result<HashMap<i32, String>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    query(tx, sql, &[&ids]).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
