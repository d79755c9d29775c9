//! Opening times in minutes since midnight, and their spellings.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Start and end of a period in minutes since midnight.
pub(super) type Minutes = (u32, u32);

/// Periods of Monday to Sunday; a day without any is closed.
pub(super) type Week = [Vec<Minutes>; 7];

/// Bank holidays that lie ahead for years, and two that are long past.
pub(super) const AHEAD: [&str; 6] =
    ["2029-12-25", "2029-12-26", "2030-01-01", "2030-04-19", "2030-04-22", "2030-05-06"];
pub(super) const PAST: [&str; 2] = ["2019-12-25", "2020-01-01"];

const DAY: [&[Minutes]; 5] =
    [&[(540, 1050)], &[(540, 1080)], &[(540, 780), (840, 1080)], &[(510, 1110)], &[(420, 1320)]];
const SATURDAY: [&[Minutes]; 4] = [&[], &[(540, 780)], &[(540, 1020)], &[(540, 720), (780, 1020)]];
const SUNDAY: [&[Minutes]; 3] = [&[], &[], &[(600, 960)]];
const HOLIDAY: [&[Minutes]; 3] = [&[], &[(600, 840)], &[(540, 720), (780, 900)]];

/// The same hours from Monday to Friday, others at the weekend.
pub(super) fn week(rng: &mut StdRng) -> Week {
    let weekday = pick(&DAY, rng);
    let mut week: Week = std::array::from_fn(|_| weekday.clone());
    week[5] = pick(&SATURDAY, rng);
    week[6] = pick(&SUNDAY, rng);
    week
}

/// Other hours for one day.
pub(super) fn change_a_day(week: &mut Week, rng: &mut StdRng) {
    let day = rng.random_range(0..7);
    let before = week[day].clone();
    while week[day] == before {
        week[day] = pick(&DAY, rng);
    }
}

/// Some of the holidays ahead, in order, each open or closed.
pub(super) fn holidays(rng: &mut StdRng) -> Vec<(String, Vec<Minutes>)> {
    let kept = AHEAD.iter().filter(|_| rng.random_bool(0.6)).map(ToString::to_string).collect::<Vec<_>>();
    kept.into_iter().map(|date| (date, pick(&HOLIDAY, rng))).collect()
}

fn pick(among: &[&[Minutes]], rng: &mut StdRng) -> Vec<Minutes> {
    among.choose(rng).map(|periods| periods.to_vec()).unwrap_or_default()
}

/// `09:30`, as NHS.uk writes it.
pub(super) fn short(minutes: u32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `09:30:00`, as DoS holds it.
pub(super) fn long(periods: &[Minutes]) -> Vec<(String, String)> {
    periods.iter().map(|(start, end)| (short(*start) + ":00", short(*end) + ":00")).collect()
}
