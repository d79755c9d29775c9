//! What NHS.uk holds of one organisation.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::times::{Minutes, Week, holidays, week};

const OWNERS: [&str; 16] = [
    "Ashdown",
    "Birchfield",
    "Cobblers",
    "Dunmore",
    "Eastgate",
    "Fernhill",
    "Greenway",
    "Hollin",
    "Kestrel",
    "Larkspur",
    "Millbrook",
    "Northam",
    "Oakley",
    "Priory",
    "Quayside",
    "Riverside",
];
const STREETS: [&str; 12] = [
    "High Street",
    "Station Road",
    "Church Lane",
    "Market Place",
    "Mill Road",
    "The Parade",
    "Victoria Road",
    "Park View",
    "London Road",
    "Bridge Street",
    "Orchard Way",
    "Castle Hill",
];
const TOWNS: [(&str, &str, &str); 12] = [
    ("Aldermouth", "Westshire", "QA"),
    ("Brackenford", "Westshire", "QB"),
    ("Carrowby", "Northshire", "QC"),
    ("Dunswick", "Northshire", "QD"),
    ("Elmsworth", "Midshire", "QE"),
    ("Farrowdale", "Midshire", "QF"),
    ("Gatherstone", "Eastshire", "QG"),
    ("Hazelport", "Eastshire", "QH"),
    ("Inchmere", "Southshire", "QJ"),
    ("Kingsbarrow", "Southshire", "QK"),
    ("Linfold", "Centralshire", "QL"),
    ("Marlbeck", "Centralshire", "QM"),
];
const REGIONS: [&str; 6] =
    ["North Region", "South Region", "East Region", "West Region", "Midlands Region", "Central Region"];
const PARENTS: [(&str, &str); 4] = [
    ("Q01", "Kestrel Holdings Ltd"),
    ("Q02", "Riverside Chemists Group"),
    ("Q03", "Northam And Oakley Ltd"),
    ("Q04", "Independent Pharmacies Of Midshire"),
];

const BASE_36: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Codes of one letter and four of 36 characters.
const CODES: u32 = 36_u32.pow(4);
/// Shares no factor with [`CODES`], so that every number up to it has a code of its own.
const CODE_STEP: u32 = 1_000_003;

/// One organisation as it would like to be known.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub number: u32,
    pub ods_code: String,
    pub name: String,
    pub sub_type: &'static str,
    pub lines: [String; 2],
    pub town: &'static str,
    pub county: &'static str,
    pub postcode: String,
    pub easting: i32,
    pub northing: i32,
    pub latitude: f64,
    pub longitude: f64,
    pub phone: String,
    pub website: Option<String>,
    pub region: &'static str,
    pub parent: Option<(&'static str, &'static str)>,
    pub week: Week,
    pub holidays: Vec<(String, Vec<Minutes>)>,
    pub blood_pressure: bool,
    pub contraception: bool,
    /// `None` when the organisation never maintained its urgent care services (5.7).
    pub palliative_care: Option<bool>,
}

impl Profile {
    pub(super) fn new(number: u32, rng: &mut StdRng) -> Self {
        let (town, county, area) = one_of(&TOWNS, rng);
        let name = format!("{} Pharmacy", one_of(&OWNERS, rng));
        let easting = rng.random_range(300_000..600_000);
        let northing = rng.random_range(100_000..500_000);
        let website = format!("https://www.{}.example/branch/{number}", name.to_lowercase().replace(' ', "-"));
        Self {
            number,
            ods_code: ods_code(number),
            sub_type: if rng.random_bool(0.02) { "DistanceSelling" } else { "Community" },
            lines: [
                format!("{} {}", rng.random_range(1..200), one_of(&STREETS, rng)),
                format!("Unit {}", rng.random_range(1..9)),
            ],
            town,
            county,
            postcode: format!("{area}{} {}{}", 1 + number % 99, rng.random_range(1..10), two_letters(number / 99)),
            easting,
            northing,
            latitude: 50.0 + f64::from(northing) / 100_000.0,
            longitude: f64::from(easting) / 100_000.0 - 5.0,
            phone: phone(rng),
            website: rng.random_bool(0.8).then_some(website),
            region: one_of(&REGIONS, rng),
            parent: rng.random_bool(0.7).then(|| one_of(&PARENTS, rng)),
            week: week(rng),
            holidays: holidays(rng),
            blood_pressure: rng.random_bool(0.6),
            contraception: rng.random_bool(0.4),
            palliative_care: rng.random_bool(0.7).then(|| rng.random_bool(0.2)),
            name,
        }
    }
}

/// A number of the range that is kept for drama and never given to anyone.
pub(super) fn phone(rng: &mut StdRng) -> String {
    format!("01632960{:03}", rng.random_range(0..1000))
}

fn ods_code(number: u32) -> String {
    let mut rest = u32::try_from(u64::from(number) * u64::from(CODE_STEP) % u64::from(CODES)).unwrap_or_default();
    let mut code = String::from("F");
    for _ in 0..4 {
        code.push(char::from(BASE_36[(rest % 36) as usize]));
        rest /= 36;
    }
    code
}

fn two_letters(number: u32) -> String {
    [number / 26 % 26, number % 26].iter().map(|letter| char::from(BASE_36[*letter as usize])).collect()
}

fn one_of<T: Copy>(among: &[T], rng: &mut StdRng) -> T {
    *among.choose(rng).expect("the lists of names are not empty")
}
