//! What a batch writes of one service: the difference between the service as loaded and as it is at the end (section 6).

use std::collections::BTreeSet;

use chrono::NaiveDate;

use super::{
    batch::{ChangedColumns, ServiceWrite},
    decide::Held,
    opening_times::{DayId, Period},
    service::{Service, SpecifiedDate},
};

/// `None` when no event changed the service. One that was changed and changed back is still written: who modified it
/// and when moves with its history (rule 6.1).
pub(super) fn service_write(held: &Held) -> Option<ServiceWrite> {
    let before = held.before.as_deref()?;
    let now = &held.now;
    let (dates_removed, dates_added) = dates(before, now);
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
        dates_removed,
        dates_added,
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

/// Rule 6.3: dates whose rows go, and dates that get one row. The rows of a date that stays equal stay, unless they
/// are more than one or say more than one thing.
fn dates(before: &Service, now: &Service) -> (Vec<NaiveDate>, Vec<(NaiveDate, Vec<Period>)>) {
    let stays = |date: &NaiveDate, held: &SpecifiedDate| now.specified.get(date) == Some(held);
    let removed = before.specified.iter().filter(|(date, held)| !stays(date, held)).map(|(date, _)| *date).collect();
    let added = now
        .specified
        .iter()
        .filter(|(date, held)| before.specified.get(date) != Some(held))
        .map(|(date, held)| (*date, periods(&held.periods)))
        .collect();
    (removed, added)
}

fn periods(periods: &BTreeSet<Period>) -> Vec<Period> {
    periods.iter().copied().collect()
}
