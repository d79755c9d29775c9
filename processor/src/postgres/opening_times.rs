//! Days and specified dates of locked services, with their periods.
//!
//! Most of what a batch reads are these. So they come as columns of one row, since a row costs both sides more than what is in
//! it, and periods are looked up by ranges of ids.

use std::collections::HashMap;

use chrono::NaiveDate;
use deadpool_postgres::Transaction;
use itertools::{Itertools as _, izip};
use tokio_postgres::{Row, types::FromSql};

use super::{Fault, Result, statement::query_one, time_of_day::TimeOfDay};
use crate::domain::{
    opening_times::{DayId, Period},
    service::Service,
};

/// No condition on the day, which has an index of its own that the planner might walk from end to end. Dates outside the
/// calendar's four digits (`infinity` is one) are no date that an event can bring or that can be compared.
const ROWS: &str = "SELECT * FROM
    (SELECT array_agg(serviceid), array_agg(dayid), array_agg(id)
        FROM servicedayopenings WHERE serviceid = ANY($1)) AS days,
    (SELECT array_agg(serviceid), array_agg(date), array_agg(id)
        FROM servicespecifiedopeningdates WHERE serviceid = ANY($1) AND date BETWEEN '0001-01-01' AND '9999-12-31') AS dates";
/// In a subquery of its own for each range (`OFFSET 0`): nothing but the index of the condition can serve it.
const PERIODS: &str = "SELECT * FROM
    (SELECT array_agg(t.servicedayopeningid), array_agg(t.starttime), array_agg(t.endtime)
        FROM unnest($1::int[], $2::int[]) AS days(first, last) CROSS JOIN LATERAL (
            SELECT servicedayopeningid, starttime, endtime FROM servicedayopeningtimes
            WHERE servicedayopeningid BETWEEN days.first AND days.last OFFSET 0
        ) AS t) AS of_days,
    (SELECT array_agg(t.servicespecifiedopeningdateid), array_agg(t.starttime), array_agg(t.endtime), array_agg(t.isclosed)
        FROM unnest($3::int[], $4::int[]) AS dates(first, last) CROSS JOIN LATERAL (
            SELECT servicespecifiedopeningdateid, starttime, endtime, isclosed FROM servicespecifiedopeningtimes
            WHERE servicespecifiedopeningdateid BETWEEN dates.first AND dates.last OFFSET 0
        ) AS t) AS of_dates";
const STILL_THERE: &str = "SELECT (SELECT count(*) FROM servicedayopenings WHERE id = ANY($1))
    + (SELECT count(*) FROM servicespecifiedopeningdates WHERE id = ANY($2))";

/// The rows of these services' days and dates, for [`add`].
pub(super) async fn rows(tx: &Transaction<'_>, service_ids: &[i32]) -> Result<Row> {
    query_one(tx, ROWS, &[&service_ids]).await
}

/// Where a service stands in a list, by its id.
pub(super) type Places = HashMap<i32, usize>;

/// Gives the services their days and dates, and reads what periods these have.
///
/// A writer that replaces a day without touching its service does not wait for the service's lock. When that comes between
/// the two statements, a day seems to have no periods that is gone in truth: rows without periods (England has none) are
/// looked for once more, and one that is gone is contention.
pub(super) async fn add(
    tx: &Transaction<'_>,
    services: &mut [&mut Service],
    places: &Places,
    rows: &Row,
) -> Result<()> {
    let mut days = add_days(services, places, rows)?;
    let mut dates = add_dates(services, places, rows)?;
    if days.is_empty() && dates.is_empty() {
        return Ok(());
    }
    let ((first_day, last_day), (first_date, last_date)) = (ranges(&days), ranges(&dates));
    let periods = query_one(tx, PERIODS, &[&first_day, &last_day, &first_date, &last_date]).await?;
    add_periods_of_days(services, &mut days, &periods)?;
    add_periods_of_dates(services, &mut dates, &periods)?;
    let (days, dates) = (without_periods(&days), without_periods(&dates));
    let expected = days.len() + dates.len();
    if expected > 0 {
        let found: i64 = query_one(tx, STILL_THERE, &[&days, &dates]).await?.try_get(0)?;
        if usize::try_from(found) != Ok(expected) {
            return Err(Fault::contention("opening times were replaced while they were read"));
        }
    }
    Ok(())
}

/// By the id of a day's or a date's row.
type Owners<T> = HashMap<i32, Owner<T>>;

/// Whose periods are those of a row.
struct Owner<T> {
    /// Of the service.
    place: usize,
    /// Which of its days or dates.
    on: T,
    has_periods: bool,
}

impl<T> Owner<T> {
    fn new(place: usize, on: T) -> Self {
        Self { place, on, has_periods: false }
    }
}

/// Rows that were written together have ids that follow each other, and what hangs on them lies together, too: one look-up
/// finds it for all of a range. No range holds an id that is not asked for.
fn ranges<T>(rows: &Owners<T>) -> (Vec<i32>, Vec<i32>) {
    let alone = rows.keys().sorted_unstable().map(|&id| (id, id));
    alone.coalesce(|one, next| if one.1 + 1 == next.0 { Ok((one.0, next.1)) } else { Err((one, next)) }).unzip()
}

fn without_periods<T>(rows: &Owners<T>) -> Vec<i32> {
    rows.iter().filter(|(_, owner)| !owner.has_periods).map(|(&id, _)| id).collect()
}

/// An aggregate over no rows is null.
fn column<'a, T: FromSql<'a>>(row: &'a Row, number: usize) -> Result<Vec<T>> {
    Ok(row.try_get::<_, Option<Vec<T>>>(number)?.unwrap_or_default())
}

/// Several rows of one day are one day (rule 6.2); a row without periods is a day without periods, one without a day is none.
fn add_days(services: &mut [&mut Service], places: &Places, row: &Row) -> Result<Owners<DayId>> {
    let (of, days, ids) = (column(row, 0)?, column::<Option<i32>>(row, 1)?, column(row, 2)?);
    let mut owners = Owners::with_capacity(ids.len());
    for (of, day, id) in izip!(of, days, ids) {
        if let (Some(&place), Some(day)) = (places.get(&of), day.map(DayId)) {
            services[place].opening.entry(day).or_default();
            owners.insert(id, Owner::new(place, day));
        }
    }
    Ok(owners)
}

/// Several rows of one date are one date (rule 6.2), which counts them: one that is read as one may not be rewritten as one.
fn add_dates(services: &mut [&mut Service], places: &Places, row: &Row) -> Result<Owners<NaiveDate>> {
    let (of, dates, ids) = (column(row, 3)?, column(row, 4)?, column(row, 5)?);
    let mut owners = Owners::with_capacity(ids.len());
    for (of, date, id) in izip!(of, dates, ids) {
        if let Some(&place) = places.get(&of) {
            services[place].specified.entry(date).or_default().rows += 1;
            owners.insert(id, Owner::new(place, date));
        }
    }
    Ok(owners)
}

fn add_periods_of_days(services: &mut [&mut Service], days: &mut Owners<DayId>, row: &Row) -> Result<()> {
    let (ids, starts, ends) = (column::<i32>(row, 0)?, column(row, 1)?, column(row, 2)?);
    for (id, start, end) in izip!(ids, starts, ends) {
        if let Some(owner) = days.get_mut(&id) {
            owner.has_periods = true;
            services[owner.place].opening.entry(owner.on).or_default().insert(period(start, end));
        }
    }
    Ok(())
}

fn add_periods_of_dates(services: &mut [&mut Service], dates: &mut Owners<NaiveDate>, row: &Row) -> Result<()> {
    let (ids, starts, ends, closed) = (column::<i32>(row, 3)?, column(row, 4)?, column(row, 5)?, column(row, 6)?);
    for (id, start, end, closed) in izip!(ids, starts, ends, closed) {
        if let Some(owner) = dates.get_mut(&id) {
            owner.has_periods = true;
            let date = services[owner.place].specified.entry(owner.on).or_default();
            let is_new = if closed {
                !std::mem::replace(&mut date.closed, true)
            } else {
                date.periods.insert(period(start, end))
            };
            date.rows += u32::from(!is_new);
        }
    }
    Ok(())
}

fn period(start: TimeOfDay, end: TimeOfDay) -> Period {
    Period { start: start.0, end: end.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_is_asked_for_and_nothing_else() {
        let of = |ids: &[i32]| ranges(&ids.iter().map(|&id| (id, Owner::new(0, ()))).collect());
        assert_eq!(of(&[]), (vec![], vec![]));
        assert_eq!(of(&[7, 3, 5, 4, 9, i32::MAX]), (vec![3, 7, 9, i32::MAX], vec![5, 7, 9, i32::MAX]));
        assert_eq!(of(&[i32::MIN, i32::MIN + 1]), (vec![i32::MIN], vec![i32::MIN + 1]));
    }
}
