//! What a batch writes of one service: the difference between the service as loaded and as it is at the end (section 6).

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::{
    batch::{ChangedColumns, DateWrites, RewrittenDate, ServiceWrite},
    decide::Held,
    opening_times::{DayId, Period},
    service::{Service, SpecifiedDate},
};

/// `None` when no event changed the service. One that was changed and changed back is still written: who modified it
/// and when moves with its history (rule 6.1).
pub(super) fn service_write(held: &Held) -> Option<ServiceWrite> {
    let before = held.before.as_deref()?;
    let now = &held.now;
    Some(ServiceWrite {
        id: now.id,
        address: now.address.clone(),
        town: now.town.clone(),
        postcode: now.postcode.clone(),
        easting: now.easting,
        northing: now.northing,
        latitude: now.latitude,
        longitude: now.longitude,
        phone: now.phone.clone(),
        web: now.web.clone(),
        status_id: now.status_id,
        columns: changed_columns(before, now),
        days: days(before, now),
        dates: dates(before, now),
        z_codes_added: now.z_codes.difference(&before.z_codes).copied().collect(),
        z_codes_removed: before.z_codes.difference(&now.z_codes).copied().collect(),
    })
}

fn changed_columns(before: &Service, now: &Service) -> ChangedColumns {
    let texts = |service: &Service| (service.postcode.clone(), service.town.clone());
    let grid = |service: &Service| (service.easting, service.northing);
    // Bits, since a coordinate that is no number equals nothing, not even itself.
    let coordinates = |service: &Service| (service.latitude.map(f64::to_bits), service.longitude.map(f64::to_bits));
    ChangedColumns {
        address: before.address != now.address,
        place: texts(before) != texts(now) || grid(before) != grid(now) || coordinates(before) != coordinates(now),
        phone: before.phone != now.phone,
        web: before.web != now.web,
        status: before.status_id != now.status_id,
    }
}

/// Rule 6.2. A row without periods that was to go is not the same as no row.
fn days(before: &Service, now: &Service) -> Vec<(DayId, Vec<Period>)> {
    DayId::week()
        .filter(|day| before.opening.get(day) != now.opening.get(day))
        .map(|day| (day, now.opening.get(&day).map(periods).unwrap_or_default()))
        .collect()
}

/// Rule 6.3. The rows of a date that stays equal stay, unless they are more than one or say more than one thing. A date that comes
/// takes the row of one that goes and has as many periods, its own before others'.
fn dates(before: &Service, now: &Service) -> DateWrites {
    let mut going: BTreeMap<NaiveDate, &SpecifiedDate> =
        before.specified.iter().filter(|(date, held)| now.specified.get(date) != Some(held)).map(by_date).collect();
    let coming = now.specified.iter().filter(|(date, wanted)| before.specified.get(date) != Some(wanted)).map(by_date);
    let (own, coming): (Vec<_>, Vec<_>) =
        coming.partition(|(date, wanted)| going.get(date).is_some_and(|held| fits(held, wanted)));
    let mut writes = DateWrites::default();
    for (date, wanted) in own {
        writes.rewritten.extend(going.remove(&date).map(|held| rewritten((date, held), (date, wanted))));
    }
    let mut free: BTreeMap<usize, Vec<NaiveDate>> = BTreeMap::new();
    for (&date, held) in &going {
        held.period_rows().into_iter().for_each(|rows| free.entry(rows).or_default().push(date));
    }
    for (date, wanted) in coming {
        let row = wanted.period_rows().and_then(|rows| free.get_mut(&rows)?.pop());
        match row.and_then(|row| going.remove_entry(&row)) {
            Some(held) => writes.rewritten.push(rewritten(held, (date, wanted))),
            None => writes.added.push((date, periods(&wanted.periods))),
        }
    }
    writes.removed = going.into_keys().collect();
    writes
}

fn by_date<'a>((date, of): (&NaiveDate, &'a SpecifiedDate)) -> (NaiveDate, &'a SpecifiedDate) {
    (*date, of)
}

fn fits(held: &SpecifiedDate, wanted: &SpecifiedDate) -> bool {
    held.period_rows().is_some() && held.period_rows() == wanted.period_rows()
}

fn rewritten((held, was): (NaiveDate, &SpecifiedDate), (date, is): (NaiveDate, &SpecifiedDate)) -> RewrittenDate {
    let pairs = period_rows(was).into_iter().zip(period_rows(is));
    // A row that said closed may say any times besides.
    let periods = pairs.filter(|(was, is)| was.is_none() || was != is).collect();
    RewrittenDate { held, date, periods }
}

fn period_rows(date: &SpecifiedDate) -> Vec<Option<Period>> {
    if date.closed { vec![None] } else { date.periods.iter().copied().map(Some).collect() }
}

fn periods(periods: &BTreeSet<Period>) -> Vec<Period> {
    periods.iter().copied().collect()
}
