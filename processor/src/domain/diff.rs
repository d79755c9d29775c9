//! Holds an event against one service (section 5).

use std::collections::{BTreeSet, HashMap};

use chrono::NaiveDate;
use itertools::Itertools as _;

use super::{
    address,
    change_event::ChangeEvent,
    changes::Change,
    commissioned_services::{Commissioned, palliative_care_change, status_change},
    opening_times::{DayId, Notation, OpeningHours, Period, Written, hours},
    phone, postcode,
    service::{Location, Service, SpecifiedDate, ZCode, status},
    text::{is_blank, is_blank_or_null},
    website,
};

/// An event in DoS's own forms, made once for all its services.
#[derive(Debug)]
pub struct Profile<'a> {
    event: &'a ChangeEvent,
    /// In the form of [`website::for_dos`]; `None` when blank.
    website: Option<String>,
    phone: Option<String>,
    address: Option<String>,
    /// In the form of [`postcode::normal`].
    postcode: String,
    /// The complete row of `locations` for that postcode.
    location: Option<&'a Location>,
    /// `None` when the opening times are invalid (rules 2.5, 2.6).
    pub hours: Option<OpeningHours>,
}

impl<'a> Profile<'a> {
    /// `locations` as in [`super::batch::DosState`].
    pub fn of(event: &'a ChangeEvent, today: NaiveDate, locations: &'a HashMap<String, Vec<Location>>) -> Self {
        let postcode = postcode::normal(event.organisation.postcode.as_deref());
        let location = locations.get(&postcode).and_then(|rows| postcode::complete(rows, &postcode));
        Self {
            event,
            website: event.website.as_deref().filter(|website| !is_blank(website)).map(website::for_dos),
            phone: phone::for_dos(event.phone.as_deref()),
            address: address::for_dos(&event.address_lines),
            postcode,
            location,
            hours: hours(&event.opening_times, today),
        }
    }
}

/// What an event changes on a service, and what there is to tell besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    pub changes: Vec<Change>,
    pub notices: Vec<Notice>,
}

/// Something about a service that is reported and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    InvalidPostcode,
    /// The day's periods, `10:00-14:00,15:00-17:00`.
    BankHoliday(String),
    BlankStandardOpenings,
    /// `GENERIC_CHANGE_EVENT_ERROR`
    Error {
        reason: &'static str,
        info: Option<String>,
    },
}

/// Section 5 for one service. `z_code_pairs`: rule 6.4.
pub fn compare(profile: &Profile<'_>, service: &Service, z_code_pairs: &BTreeSet<ZCode>) -> Difference {
    let mut difference = Difference::default();
    difference.website(profile, service);
    difference.phone(profile, service);
    difference.address_and_postcode(profile, service);
    difference.bank_holiday(service);
    if let Some(hours) = &profile.hours {
        difference.weekdays(hours, service);
        difference.specified_dates(hours, service);
    }
    difference.palliative_care(profile.event, service, z_code_pairs);
    difference.commissioned_status(profile.event, service, z_code_pairs);
    difference
}

impl Difference {
    /// Rule 5.1.
    fn website(&mut self, profile: &Profile<'_>, service: &Service) {
        match &profile.website {
            None if is_blank_or_null(service.web.as_deref()) => {}
            None => self.changes.push(Change::Website(String::new())),
            Some(website) if service.web.as_ref() == Some(website) => {}
            Some(website) if website::is_valid(website) => self.changes.push(Change::Website(website.clone())),
            Some(_) => self.error("Website is not valid", profile.event.website.clone()),
        }
    }

    /// Rule 5.2.
    fn phone(&mut self, profile: &Profile<'_>, service: &Service) {
        match &profile.phone {
            None if is_blank_or_null(service.phone.as_deref()) => {}
            None => self.changes.push(Change::Phone(String::new())),
            Some(phone) if service.phone.as_ref() == Some(phone) => {}
            Some(phone) => self.changes.push(Change::Phone(phone.clone())),
        }
    }

    /// Rules 5.3 and 5.4: a postcode that is not valid keeps the address from changing too.
    fn address_and_postcode(&mut self, profile: &Profile<'_>, service: &Service) {
        if profile.postcode != postcode::normal(service.postcode.as_deref()) {
            let Some(location) = profile.location else {
                return self.notices.push(Notice::InvalidPostcode);
            };
            self.changes.push(Change::Place(location.clone()));
        }
        match &profile.address {
            None => self.error("Address is blank", None),
            Some(address) if service.address.as_ref() == Some(address) => {}
            Some(address) => self.changes.push(Change::Address(address.clone())),
        }
    }

    /// Rule 5.5, first part: told whatever the event's times are.
    fn bank_holiday(&mut self, service: &Service) {
        if let Some(periods) = service.opening.get(&DayId::BANK_HOLIDAY).filter(|periods| !periods.is_empty()) {
            let periods = periods.iter().map(|period| Written(*period, Notation::Clock)).join(",");
            self.notices.push(Notice::BankHoliday(periods));
        }
    }

    /// Rule 5.5, second part.
    fn weekdays(&mut self, hours: &OpeningHours, service: &Service) {
        if hours.week.is_empty() {
            return self.notices.push(Notice::BlankStandardOpenings);
        }
        let closed = BTreeSet::new();
        for day in DayId::week() {
            let wanted = hours.week.get(&day).unwrap_or(&closed);
            if service.opening.get(&day).unwrap_or(&closed) != wanted {
                self.changes.push(Change::Weekday(day, wanted.clone()));
            }
        }
    }

    /// Rule 5.6.
    fn specified_dates(&mut self, hours: &OpeningHours, service: &Service) {
        let is_same = hours.dates.len() == service.specified.len()
            && hours
                .dates
                .iter()
                .zip(&service.specified)
                .all(|((date, periods), (held_date, held))| date == held_date && is_same_date(held, periods));
        if !is_same {
            self.changes.push(Change::SpecifiedDates(hours.dates.clone()));
        }
    }

    /// Rules 5.7 and 6.4.
    fn palliative_care(&mut self, event: &ChangeEvent, service: &Service, z_code_pairs: &BTreeSet<ZCode>) {
        let what = Commissioned::PalliativeCare;
        match palliative_care_change(event.palliative_care, service) {
            None => {}
            Some(_) if !z_code_pairs.contains(&what.z_code()) => self.error(what.z_code_missing(), None),
            Some(true) => self.changes.push(Change::ZCodeAdded(what.z_code())),
            Some(false) => self.changes.push(Change::ZCodeRemoved(what.z_code())),
        }
    }

    /// Rules 5.8 and 6.5: the status changes whether or not the Z code can be added; switched off, the Z code stays.
    fn commissioned_status(&mut self, event: &ChangeEvent, service: &Service, z_code_pairs: &BTreeSet<ZCode>) {
        let Some(what) = Commissioned::of_type(service.type_id) else { return };
        let Some(new) = status_change(event.offers(what), service) else { return };
        self.changes.push(Change::Status(new));
        if new != status::ACTIVE || service.z_codes.contains(&what.z_code()) {
            return;
        }
        if z_code_pairs.contains(&what.z_code()) {
            self.changes.push(Change::ZCodeAdded(what.z_code()));
        } else {
            self.error(what.z_code_missing(), None);
        }
    }

    fn error(&mut self, reason: &'static str, info: Option<String>) {
        self.notices.push(Notice::Error { reason, info });
    }
}

/// A date row without periods, or one both closed and open, is like no event's (section 13, 5.6).
fn is_same_date(held: &SpecifiedDate, wanted: &BTreeSet<Period>) -> bool {
    held.closed == held.periods.is_empty() && held.periods == *wanted
}
