//! What became of one organisation: DoS before and after side by side, its history entry, its audit records.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result};
use dosi_tests::audit::Record;
use dosi_tests::dos::After;
use dosi_tests::golden_form::{DAYS, members};
use serde_json::Value;

use crate::table::Table;

const TOLD: [&str; 12] = [
    "name",
    "odscode",
    "statusid",
    "address",
    "town",
    "postcode",
    "easting",
    "northing",
    "publicphone",
    "web",
    "zcodes",
    "modifiedby",
];

/// The service of which there is most to tell: the one with the most changed fields among those that one event changed,
/// so that its newest history entry tells all; the first of several.
pub fn most_changed_service(audit: &[Record]) -> Option<i64> {
    let mut changes: BTreeMap<i64, (u32, BTreeSet<String>)> = BTreeMap::new();
    for record in audit.iter().filter(|record| record.field("report_key") == "SERVICE_UPDATE") {
        let Some(id) = record.field("service_id").as_i64() else { continue };
        let (count, events) = changes.entry(id).or_default();
        *count += 1;
        events.insert(record.field("correlation_id").to_string());
    }
    let told = changes.into_iter().filter(|(_, (_, events))| events.len() == 1);
    told.max_by_key(|(id, (count, _))| (*count, -*id)).map(|(id, _)| id)
}

/// The story of one service.
pub fn tell(service: i64, before: &[After], after: &[After], audit: &[Record]) -> Result<String> {
    let find = |services: &[After]| services.iter().find(|state| i64::from(state.id) == service).cloned();
    let (before, after) =
        (find(before).context("no such service before")?, find(after).context("no such service after")?);
    let mut story = String::new();
    writeln!(story, "Service {} in DoS, before and after (* changed)\n\n{}", service, side_by_side(&before, &after))?;
    writeln!(story, "Its newest history entry\n\n{}\n", newest_entry(&after)?)?;
    let code = after.fields["odscode"].as_str().unwrap_or_default();
    let code = code.get(..5).unwrap_or(code);
    writeln!(story, "Audit records of organisation {code}\n\n{}", audit_table(code, audit))?;
    Ok(story)
}

fn side_by_side(before: &After, after: &After) -> Table {
    let mut table = Table::new(&["", "field", "before", "after"]);
    let mut row = |name: &str, old: &Value, new: &Value| {
        let mark = if old == new { "" } else { "*" };
        table.row([mark, name, &shown(old), &shown(new)]);
    };
    for field in TOLD {
        row(field, &before.fields[field], &after.fields[field]);
    }
    for day in DAYS {
        let (old, new) = (&before.fields["opening"][day], &after.fields["opening"][day]);
        if !(old.is_null() && new.is_null()) {
            row(day, old, new);
        }
    }
    let (old, new) = (by_date(before), by_date(after));
    let dates: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for date in dates {
        let of = |dates: &BTreeMap<String, Value>| dates.get(date).cloned().unwrap_or_default();
        row(date, &of(&old), &of(&new));
    }
    table
}

fn by_date(state: &After) -> BTreeMap<String, Value> {
    let dates = state.fields["specified"].as_array().cloned().unwrap_or_default();
    let named = dates.into_iter().map(|date| {
        let periods = if date["closed"] == true { Value::from("closed") } else { date["periods"].clone() };
        (date["date"].as_str().unwrap_or_default().to_owned(), periods)
    });
    named.collect()
}

/// `09:00-17:30` for a period, `360=14167` for a Z code, nothing for null.
fn shown(value: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
        Some([Value::String(start), Value::String(end)]) => format!("{}-{}", minutes(start), minutes(end)),
        Some([left, right]) => format!("{left}={right}"),
        _ => plain(pair),
    };
    match value {
        Value::Null => String::new(),
        Value::Array(items) => items.iter().map(pair).collect::<Vec<_>>().join(" "),
        other => plain(other),
    }
}

fn minutes(time: &str) -> &str {
    time.get(..5).unwrap_or(time)
}

/// As it stands in DoS, one change a line.
fn newest_entry(state: &After) -> Result<String> {
    let entries = members(state.history.as_deref().unwrap_or("{}"))?;
    let Some((key, entry)) = entries.first() else { return Ok("  none".to_owned()) };
    let mut lines = vec![format!("  \"{key}\":")];
    for (part, value) in members(entry.get())? {
        if part == "new" {
            lines.push("    \"new\":".to_owned());
            lines.extend(members(value.get())?.iter().map(|(key, change)| format!("      \"{key}\": {change}")));
        } else {
            lines.push(format!("    \"{part}\": {value}"));
        }
    }
    Ok(lines.join("\n"))
}

fn audit_table(code: &str, audit: &[Record]) -> Table {
    let mut table = Table::new(&["report key", "service", "field", "action", "previous", "new"]);
    for record in audit.iter().filter(|record| record.key == code) {
        let field = |name| shown(record.field(name));
        let outcome = record.field("report_key") == "CHANGE_EVENT_OUTCOME";
        let (subject, action) =
            if outcome { ("outcome", "services_updated") } else { ("data_field_modified", "action") };
        table.row([
            field("report_key"),
            field("service_uid"),
            field(subject),
            field(action),
            field("previous_value"),
            if record.field("reason").is_null() { field("new_value") } else { field("reason") },
        ]);
    }
    table
}
