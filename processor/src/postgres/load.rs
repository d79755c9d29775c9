//! Set-based reads of a batch's transaction, besides the services themselves (see `services`): sequence numbers, locations,
//! Z code pairs, histories' heads, pending changes. READ COMMITTED: what is locked first is compared as later statements read it.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::Transaction;
use futures::join;
use tokio_postgres::Row;

use super::{
    Fault, Result, position, services,
    statement::{Params, prepare, query},
};
use crate::{
    domain::{
        history::HistoryHead,
        ods_code::OdsCode,
        postcode,
        service::{Creator, Location, PendingChange, ZCode},
    },
    fault_injection::{Mutant, is},
};

/// The characters with the Unicode property `White_Space`, for `btrim` and its kin.
pub(super) const WHITE_SPACE: &str = "\t\n\u{b}\u{c}\r \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\
    \u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";

/// Makes and locks the rows in one walk in code order: the update that never happens locks what is already there. Two
/// statements, one making and one locking, would each be in order but not together; this one also holds for two lanes that
/// meet on a new code, of which the second waits for the first.
const LOCK_SEQUENCES: &str = "INSERT INTO dos_integration.accepted_sequence AS a (ods_code, sequence_number)
    SELECT w.code, 0 FROM unnest($1::text[]) AS w(code) ORDER BY w.code COLLATE \"C\"
    ON CONFLICT (ods_code) DO UPDATE SET sequence_number = a.sequence_number WHERE false";
/// Of [`Mutant::SequenceWithoutLock`].
const MAKE_SEQUENCES: &str = "INSERT INTO dos_integration.accepted_sequence AS a (ods_code, sequence_number)
    SELECT w.code, 0 FROM unnest($1::text[]) AS w(code) ON CONFLICT (ods_code) DO NOTHING";
const SEQUENCES: &str =
    "SELECT ods_code, sequence_number FROM dos_integration.accepted_sequence WHERE ods_code = ANY($1)";

/// Prepares what a batch begins with: joined, these statements then reach the server in the order in which they are written,
/// in one round trip.
pub async fn prepare_first(tx: &Transaction<'_>) -> Result<()> {
    let texts = [position::COMPARE_AND_SET, LOCK_SEQUENCES, SEQUENCES, services::CANDIDATES, Z_CODE_PAIRS];
    prepare(tx, texts).await.map(drop)
}

/// Locks the codes' sequence rows until the transaction ends and gives the largest accepted numbers (rule 1.4).
///
/// `codes` are distinct: one row may not be met twice by one `ON CONFLICT DO UPDATE`.
pub async fn lock_sequences(tx: &Transaction<'_>, codes: &BTreeSet<OdsCode>) -> Result<HashMap<OdsCode, i64>> {
    if codes.is_empty() {
        return Ok(HashMap::new());
    }
    let texts: Vec<&str> = codes.iter().map(OdsCode::as_str).collect();
    let lock = if is(Mutant::SequenceWithoutLock) { MAKE_SEQUENCES } else { LOCK_SEQUENCES };
    let [lock, read] = prepare(tx, [lock, SEQUENCES]).await?;
    let params: Params = &[&texts];
    // Both are waited for: after a failed lock the read fails too, which would hide the reason.
    let (locked, rows) = join!(tx.execute(&lock, params), tx.query(&read, params));
    locked?;
    rows?.iter().map(|row| Ok((ods_code(row)?, row.try_get(1)?))).collect()
}

/// The first column, where a statement gives back a code that it was asked for.
pub(super) fn ods_code(row: &Row) -> Result<OdsCode> {
    OdsCode::parse(row.try_get(0)?).map_err(|_| Fault::unclear("a row of no code that was asked for"))
}

const LOCATIONS: &str = "SELECT postcode, postaltown, easting, northing, latitude, longitude FROM locations
    WHERE postcode = ANY($1) ORDER BY id";

/// Rows of these spellings (rule 5.4), each list in id order, by postcode without spaces in upper case.
pub async fn locations(tx: &Transaction<'_>, spellings: &[String]) -> Result<HashMap<String, Vec<Location>>> {
    let mut found = HashMap::<String, Vec<Location>>::new();
    if spellings.is_empty() {
        return Ok(found);
    }
    for row in query(tx, LOCATIONS, &[&spellings]).await? {
        let location = location(&row)?;
        found.entry(postcode::normal(Some(&location.postcode))).or_default().push(location);
    }
    Ok(found)
}

fn location(row: &Row) -> Result<Location> {
    Ok(Location {
        postcode: row.try_get(0)?,
        town: row.try_get(1)?,
        easting: row.try_get(2)?,
        northing: row.try_get(3)?,
        latitude: row.try_get(4)?,
        longitude: row.try_get(5)?,
    })
}

const Z_CODE_PAIRS: &str = "SELECT p.symptomgroupid, p.symptomdiscriminatorid
    FROM unnest($1::int[], $2::int[]) AS w(sgid, sdid)
    JOIN symptomgroupsymptomdiscriminators AS p ON p.symptomgroupid = w.sgid AND p.symptomdiscriminatorid = w.sdid";

/// The pairs among [`ZCode::ALL`] that DoS knows (rule 6.4).
pub async fn z_code_pairs(tx: &Transaction<'_>) -> Result<BTreeSet<ZCode>> {
    let (groups, discriminators) = z_code_columns(&ZCode::ALL);
    let rows = query(tx, Z_CODE_PAIRS, &[&groups, &discriminators]).await?;
    rows.iter().map(|row| Ok(ZCode { sgid: row.try_get(0)?, sdid: row.try_get(1)? })).collect()
}

/// Groups and discriminators as two columns.
pub(super) fn z_code_columns(codes: &[ZCode]) -> (Vec<i32>, Vec<i32>) {
    codes.iter().map(|code| (code.sgid, code.sdid)).unzip()
}

/// A history is long and stored compressed: its first characters come from its first chunks alone, its last one from the
/// last byte. Counting characters or trimming would walk over all of it (at 27 KB: 17 against 140 and 120 µs), so that is for
/// texts that have white space around them.
const HISTORY_HEADS: &str = "SELECT h.serviceid,
        left(CASE WHEN left(h.history, 1) = '{' THEN h.history ELSE ltrim(h.history, $2) END, $3),
        CASE WHEN h.history = '' THEN ''
            WHEN get_byte(convert_to(h.history, getdatabaseencoding()), octet_length(h.history) - 1) = ascii('}') THEN '}'
            ELSE right(rtrim(h.history, $2), 1) END
    FROM servicehistories AS h WHERE h.serviceid = ANY($1) ORDER BY h.serviceid FOR UPDATE OF h";

/// [`history_heads`] of the services that change and [`pending_changes`] of those that are in step and have any, in one round trip;
/// in none where there are neither.
pub async fn heads_and_pending(
    tx: &Transaction<'_>,
    changed: &[i32],
    to_clear: &[i32],
) -> Result<(HashMap<i32, HistoryHead>, Vec<PendingChange>)> {
    if changed.is_empty() && to_clear.is_empty() {
        return Ok(Default::default());
    }
    prepare(tx, [HISTORY_HEADS, PENDING_CHANGES]).await?;
    let (heads, pending) = join!(history_heads(tx, changed), pending_changes(tx, to_clear));
    // The first failure in the order of sending.
    Ok((heads?, pending?))
}

/// Locks the histories and gives what is needed to go on with them (rule 7.1); a service without a row is absent.
pub async fn history_heads(tx: &Transaction<'_>, service_ids: &[i32]) -> Result<HashMap<i32, HistoryHead>> {
    if service_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let heads =
        if is(Mutant::RowsWithoutLock) { HISTORY_HEADS.trim_end_matches("FOR UPDATE OF h") } else { HISTORY_HEADS };
    let rows = query(tx, heads, &[&service_ids, &WHITE_SPACE, &HistoryHead::CHARS]).await?;
    rows.iter()
        .map(|row| {
            let last: &str = row.try_get(2)?;
            Ok((row.try_get(0)?, HistoryHead { start: row.try_get(1)?, last: last.chars().next() }))
        })
        .collect()
}

const PENDING_CHANGES: &str = "SELECT c.id, c.serviceid, c.value, u.username, u.firstname, u.lastname, u.email
    FROM changes AS c JOIN users AS u ON u.username = c.creatorsname
    WHERE c.serviceid = ANY($1) AND c.approvestatus = 'PENDING' ORDER BY c.id FOR NO KEY UPDATE OF c";

/// Locks the services' pending changes whose creator is known, in id order (rule 4.1).
pub async fn pending_changes(tx: &Transaction<'_>, service_ids: &[i32]) -> Result<Vec<PendingChange>> {
    if service_ids.is_empty() {
        return Ok(Vec::new());
    }
    query(tx, PENDING_CHANGES, &[&service_ids]).await?.iter().map(pending_change).collect()
}

fn pending_change(row: &Row) -> Result<PendingChange> {
    let creator = Creator {
        username: row.try_get(3)?,
        first_name: row.try_get(4)?,
        last_name: row.try_get(5)?,
        email: row.try_get(6)?,
    };
    Ok(PendingChange { id: row.try_get(0)?, service_id: row.try_get(1)?, value: row.try_get(2)?, creator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_unicodes() {
        let all: String = ('\0'..=char::MAX).filter(|char| char.is_whitespace()).collect();
        assert_eq!(WHITE_SPACE, all);
    }
}
