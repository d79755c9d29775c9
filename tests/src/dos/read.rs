//! What DoS holds, given back in the form in which the golden cases expect it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Dos;
use crate::golden_form::{Service, members};

/// Every service but the regions, in id order, as one object each. Rows of one day are read as one.
const READ: &str = "
SELECT s.id, s.modifiedtime, h.history, json_build_object(
    'id', s.id, 'uid', s.uid, 'name', s.name, 'publicname', s.publicname, 'odscode', s.odscode, 'address', s.address,
    'town', s.town, 'postcode', s.postcode, 'publicphone', s.publicphone, 'web', s.web, 'typeid', s.typeid,
    'statusid', s.statusid, 'easting', s.easting, 'northing', s.northing, 'latitude', s.latitude,
    'longitude', s.longitude, 'modifiedby', s.modifiedby,
    'opening', (
        SELECT coalesce(json_object_agg(day, periods), '{}')
        FROM (
            SELECT lower(d.name) AS day,
                coalesce(json_agg(json_build_array(t.starttime, t.endtime) ORDER BY t.starttime, t.endtime)
                    FILTER (WHERE t.id IS NOT NULL), '[]') AS periods
            FROM servicedayopenings o
            JOIN openingtimedays d ON d.id = o.dayid
            LEFT JOIN servicedayopeningtimes t ON t.servicedayopeningid = o.id
            WHERE o.serviceid = s.id
            GROUP BY d.name
        ) AS days
    ),
    'specified', (
        SELECT coalesce(json_agg(json_build_object('date', date, 'closed', closed, 'periods', periods) ORDER BY date, id), '[]')
        FROM (
            SELECT d.id, d.date, coalesce(bool_or(t.isclosed), false) AS closed,
                coalesce(json_agg(json_build_array(t.starttime, t.endtime) ORDER BY t.starttime, t.endtime)
                    FILTER (WHERE NOT t.isclosed), '[]') AS periods
            FROM servicespecifiedopeningdates d
            LEFT JOIN servicespecifiedopeningtimes t ON t.servicespecifiedopeningdateid = d.id
            WHERE d.serviceid = s.id
            GROUP BY d.id
        ) AS dates
    ),
    'zcodes', (
        SELECT coalesce(json_agg(json_build_array(z.sgid, z.sdid) ORDER BY z.sgid, z.sdid), '[]')
        FROM servicesgsds z WHERE z.serviceid = s.id
    ),
    'changes', (
        SELECT coalesce(json_agg(json_build_array(c.id, c.approvestatus, c.modifiersname) ORDER BY c.id), '[]')
        FROM changes c WHERE c.serviceid = s.id
    )
)::text
FROM services s LEFT JOIN servicehistories h ON h.serviceid = s.id
WHERE s.typeid <> -1
ORDER BY s.id";

/// One service as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct After {
    pub id: i32,
    pub modified_time: Option<DateTime<Utc>>,
    /// The text of `servicehistories.history`.
    pub history: Option<String>,
    /// What golden cases expect, without the parts about history.
    pub fields: Value,
}

impl After {
    /// As in `expect.services`: besides the fields, the `new` parts of the entries of history that were added, and the
    /// keys of the older ones that are still there.
    pub fn in_golden_form(&self, before: &Service) -> Result<Value> {
        let mut form = self.fields.clone();
        form["history_new"] = json!([]);
        let Some(history) = &self.history else { return Ok(form) };
        let old_keys: BTreeSet<String> = match &before.history {
            Some(history) => members(history)?.into_iter().map(|(key, _)| key).collect(),
            None => BTreeSet::new(),
        };
        let (old, new): (Vec<_>, Vec<_>) = members(history)?.into_iter().partition(|(key, _)| old_keys.contains(key));
        form["history_new"] = new.iter().map(|(_, entry)| new_part(entry)).collect::<Result<_>>()?;
        form["history_old_keys"] = old.into_iter().map(|(key, _)| Value::from(key)).collect();
        Ok(form)
    }
}

fn new_part(entry: &RawValue) -> Result<Value> {
    let entry: Value = serde_json::from_str(entry.get())?;
    entry.get("new").cloned().context("an entry of history has no `new`")
}

impl Dos {
    /// Every service but the regions, in id order.
    pub async fn services(&self) -> Result<Vec<After>> {
        self.client.batch_execute("SET search_path = pathwaysdos").await?;
        let rows = self.client.query(READ, &[]).await?;
        let services = rows.iter().map(|row| {
            Ok(After {
                id: row.get(0),
                modified_time: row.get(1),
                history: row.get(2),
                fields: serde_json::from_str(row.get(3))?,
            })
        });
        services.collect()
    }
}
