//! A made-up country: organisations with several services each in DoS, which have drifted from what NHS.uk holds, and the
//! change events that NHS.uk sends.
//!
//! The same seed and size always give the same country. Nothing in it is anyone's: names, postcodes and codes are invented,
//! telephone numbers come from the range kept for drama, web addresses end in `.example`, people's in `.invalid`.

mod directory;
mod events;
mod profile;
mod times;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::golden_form::{Country, Event, Location, Service};

use directory::services_of;
use events::{edited, events_of};
use profile::Profile;

/// Organisations of England; DoS has three services for each.
pub const ENGLAND_ORGANISATIONS: u32 = 11_207;

/// A country of this many organisations.
pub fn generate(seed: u64, organisations: u32) -> Country {
    let mut country = Country::default();
    let mut locations = BTreeMap::new();
    let mut arrivals = Vec::new();
    for number in 0..organisations {
        let mut organisation = Organisation::new(seed, number);
        arrivals.extend(events_of(&organisation.profile, &mut organisation.rng));
        locations.insert(organisation.profile.postcode, organisation.location);
        country.services.extend(organisation.services);
    }
    arrivals.sort_by(|left: &(f64, Event), right| left.0.total_cmp(&right.0));
    country.locations = locations.into_values().collect();
    country.events = arrivals.into_iter().map(|(_, event)| event).collect();
    country
}

/// One organisation: what DoS holds of it, and a profile that it goes on editing.
#[derive(Debug)]
pub struct Organisation {
    pub services: Vec<Service>,
    pub location: Location,
    profile: Profile,
    rng: StdRng,
}

impl Organisation {
    pub fn new(seed: u64, number: u32) -> Self {
        // Each its own: a larger country begins with the smaller one.
        let mut rng = StdRng::seed_from_u64(seed ^ (u64::from(number) << 20));
        let profile = Profile::new(number, &mut rng);
        let services = services_of(&profile, &mut rng);
        let location = location(&profile, &mut rng);
        Self { services, location, profile, rng }
    }

    pub fn ods_code(&self) -> &str {
        &self.profile.ods_code
    }

    /// The change event of one more edit; once in a while it is not for us or wrong, as those of [`generate`] are.
    pub fn edit(&mut self) -> Value {
        edited(&mut self.profile, &mut self.rng)
    }
}

/// Spelled as in DoS, now and then without the space; a few rows lack what makes them valid.
fn location(profile: &Profile, rng: &mut StdRng) -> Location {
    let complete = !rng.random_bool(0.005);
    Location {
        postcode: if rng.random_bool(0.1) { profile.postcode.replace(' ', "") } else { profile.postcode.clone() },
        easting: complete.then_some(profile.easting),
        northing: complete.then_some(profile.northing),
        postaltown: Some(profile.town.to_uppercase()),
        latitude: Some(profile.latitude),
        longitude: Some(profile.longitude),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_country_and_a_larger_one_begins_with_it() {
        let small = generate(7, 50);
        let large = generate(7, 80);
        assert_eq!(format!("{:?}", small.events), format!("{:?}", generate(7, 50).events));
        assert_eq!(format!("{:?}", small.services), format!("{:?}", &large.services[..small.services.len()]));
    }

    #[test]
    fn ids_and_codes_are_unique() {
        let country = generate(1, 600);
        let ids: BTreeSet<_> = country.services.iter().map(|service| service.id).collect();
        assert_eq!(ids.len(), country.services.len());
        let codes: BTreeSet<_> = country.services.iter().map(|service| service.odscode.clone()).collect();
        assert_eq!(codes.len(), country.services.len());
    }

    #[test]
    fn events_are_compact_json_of_the_usual_size() {
        let country = generate(1, 600);
        let sizes: Vec<_> = country.events.iter().map(|event| event.event.len()).collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((3_000..6_000).contains(&mean), "mean size {mean}");
        assert!(sizes.iter().all(|size| (1_000..20_000).contains(size)), "{:?}", sizes.iter().max());
        assert!(country.events.len() > 900);
    }
}
