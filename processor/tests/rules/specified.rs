//! Rules 2.7, 5.6, 6.3 and 7.5: specified dates.

use chrono::{DateTime, Utc};
use dosi::domain::{
    audit::Outcome,
    batch::RewrittenDate,
    london::today_in_london,
    service::{Service, SpecifiedDate},
};
use serde_json::{Value, json};

use crate::support::{
    dos::Dos,
    examples::{
        closed_on, date, dos, event, event_with, event_with_times, input, keys, newest_entry, open_on, periods,
        pharmacy, run, updates,
    },
};

const FIELD: &str = "cmsopentimespecified";

fn opened(hours_of: &[(u32, u32)]) -> SpecifiedDate {
    SpecifiedDate { rows: 1, closed: false, periods: periods(hours_of) }
}

fn closed() -> SpecifiedDate {
    SpecifiedDate { rows: 1, closed: true, ..SpecifiedDate::default() }
}

fn holding(dates: &[(&str, SpecifiedDate)]) -> Service {
    let specified = dates.iter().map(|(day, held)| (date(day), held.clone())).collect();
    Service { specified, ..pharmacy(1) }
}

/// Outcome of an event with these specified dates.
fn outcome(service: Service, items: impl IntoIterator<Item = Value>) -> Outcome {
    run(&mut dos([service]), &event_with_times(items)).outcome
}

#[test]
fn rule_2_7_past_dates_are_dropped_and_today_is_not_past() {
    let mut dos = dos([pharmacy(1)]);
    let items = [open_on("Jun 14 2026", "09:00", "10:00"), open_on("Jun 15 2026", "09:00", "10:00")];
    run(&mut dos, &event_with_times(items));
    assert_eq!(dos.services[&1].specified.keys().copied().collect::<Vec<_>>(), [date("2026-06-15")]);
}

#[test]
fn rule_2_7_a_past_date_may_break_rule_2_6_but_not_rule_2_5() {
    let broken = [open_on("Jun 14 2026", "10:00", "09:00"), closed_on("Jun 14 2026")];
    assert_eq!(outcome(pharmacy(1), broken), Outcome::Unchanged);
    let decision = run(&mut dos([pharmacy(1)]), &event_with_times([open_on("Jun 14 2026", "25:00", "26:00")]));
    assert_eq!(keys(&decision), ["INVALID_OPEN_TIMES"]);
}

#[test]
fn rule_2_7_fix_dates_are_grouped_by_date_and_not_by_their_text() {
    let both = [open_on("Dec 24 2026", "09:00", "12:00"), open_on("DEC  24  2026", "13:00", "17:00")];
    let mut dos = dos([pharmacy(1)]);
    run(&mut dos, &event_with_times(both));
    assert_eq!(dos.services[&1].specified[&date("2026-12-24")].periods, periods(&[(9, 12), (13, 17)]));
    let overlap = [open_on("Dec 24 2026", "09:00", "12:00"), open_on("Dec  24 2026", "11:00", "17:00")];
    let decision = run(&mut dos, &event_with_times(overlap));
    assert_eq!(keys(&decision)[0], "INVALID_OPEN_TIMES");
}

#[test]
fn rule_2_7_the_day_begins_at_midnight_in_london_around_both_clock_changes() {
    // Clocks go forward on 29 March 2026 and back on 25 October 2026, both at 01:00 UTC.
    for (now, today) in [
        ("2026-03-28T23:59:59Z", "2026-03-28"),
        ("2026-03-29T00:00:00Z", "2026-03-29"),
        ("2026-03-29T22:59:59Z", "2026-03-29"),
        ("2026-03-29T23:00:00Z", "2026-03-30"),
        ("2026-10-24T22:59:59Z", "2026-10-24"),
        ("2026-10-24T23:00:00Z", "2026-10-25"),
        ("2026-10-25T23:59:59Z", "2026-10-25"),
        ("2026-10-26T00:00:00Z", "2026-10-26"),
    ] {
        let now: DateTime<Utc> = now.parse().unwrap();
        assert_eq!(today_in_london(now), date(today), "{now}");
        let mut dos = Dos { now, ..Dos::on(today_in_london(now)).with([pharmacy(1)]) };
        let (yesterday, day) = (dos.today.pred_opt().unwrap(), dos.today);
        let items = [yesterday, day].map(|date| closed_on(&date.format("%b %d %Y").to_string()));
        run(&mut dos, &event_with_times(items));
        assert_eq!(dos.services[&1].specified.keys().copied().collect::<Vec<_>>(), [day], "{now}");
    }
}

#[test]
fn rule_5_6_an_event_without_specified_dates_clears_them_and_past_dates_are_cleaned_out() {
    let held = holding(&[("2020-01-01", opened(&[(9, 17)])), ("2026-12-25", closed())]);
    let mut emptied = dos([held.clone()]);
    let decision = run(&mut emptied, &event());
    let all = "2020-01-01-09:00-17:00,2026-12-25-closed";
    let (old, removed) = (format!("{FIELD}_existing={all}"), format!("{FIELD}_update=remove={all}"));
    assert_eq!(updates(&decision), [(FIELD, "delete", Some(&*old), Some(&*removed))]);
    assert!(emptied.services[&1].specified.is_empty());
    let mut other = dos([held]);
    let decision = run(&mut other, &event_with_times([closed_on("Dec 25 2026")]));
    let new = format!("{FIELD}_update=remove={all}add=2026-12-25-closed");
    assert_eq!(updates(&decision), [(FIELD, "modify", Some(&*old), Some(&*new))]);
    let entry = json!({
        "changetype": "modify",
        "data": {"remove": ["2020-01-01-32400-61200", "2026-12-25-closed"], "add": ["2026-12-25-closed"]},
        "area": "demographic",
        "previous": ["2020-01-01-32400-61200", "2026-12-25-closed"],
    });
    assert_eq!(newest_entry(&other, 1)[FIELD], entry);
}

#[test]
fn rule_5_6_added_dates_are_told_in_order_of_date_and_time() {
    let items =
        [open_on("Jan 2 2027", "14:00", "15:00"), closed_on("Dec 25 2026"), open_on("Jan 2 2027", "9:00", "10:00")];
    let mut dos = dos([pharmacy(1)]);
    let decision = run(&mut dos, &event_with_times(items));
    let new = format!("{FIELD}_update=add=2026-12-25-closed,2027-01-02-09:00-10:00,2027-01-02-14:00-15:00");
    assert_eq!(updates(&decision), [(FIELD, "add", None, Some(&*new))]);
    assert!(newest_entry(&dos, 1)[FIELD].get("previous").is_none());
}

#[test]
fn rule_5_6_what_is_equal_is_no_change() {
    let held = holding(&[("2026-12-24", opened(&[(9, 12), (13, 17)])), ("2026-12-25", closed())]);
    let items = [
        closed_on("Dec 25 2026"),
        closed_on("Dec 25 2026"),
        open_on("Dec 24 2026", "13:00", "17:00"),
        open_on("Dec 24 2026", "09:00", "12:00"),
    ];
    assert_eq!(outcome(held, items), Outcome::Unchanged);
}

#[test]
fn rule_5_6_a_date_row_without_periods_or_closed_and_open_is_like_no_events() {
    let without_periods = SpecifiedDate { rows: 1, ..SpecifiedDate::default() };
    let both = SpecifiedDate { closed: true, ..opened(&[(9, 17)]) };
    for odd in [without_periods, both] {
        let held = holding(&[("2026-12-24", odd)]);
        assert_eq!(outcome(held.clone(), [closed_on("Dec 24 2026")]), Outcome::Updated);
        assert_eq!(outcome(held.clone(), [open_on("Dec 24 2026", "09:00", "17:00")]), Outcome::Updated);
        let mut dos = dos([held]);
        assert_eq!(run(&mut dos, &event()).outcome, Outcome::Updated);
        assert!(dos.services[&1].specified.is_empty());
    }
}

#[test]
fn rule_6_3_several_rows_of_a_date_are_one_and_a_rewrite_leaves_one() {
    let doubled = SpecifiedDate { rows: 2, ..opened(&[(9, 17)]) };
    let held = holding(&[("2026-12-24", doubled.clone()), ("2026-12-27", closed())]);
    let same = [open_on("Dec 24 2026", "09:00", "17:00"), closed_on("Dec 27 2026")];
    assert_eq!(outcome(held.clone(), same), Outcome::Unchanged);
    let items = [open_on("Dec 24 2026", "09:00", "17:00")];
    let mut dos = dos([held]);
    let (_, effects) = dos.decide(&[input(&event_with_times(items.clone()), 1)]);
    let dates = &effects.services[0].dates;
    assert_eq!((&*dates.removed, dates.added.len()), (&[date("2026-12-24")][..], 0));
    assert_eq!((dates.rewritten[0].held, dates.rewritten[0].date), (date("2026-12-27"), date("2026-12-24")));
    run(&mut dos, &event_with_times(items));
    assert_eq!(dos.services[&1].specified, [(date("2026-12-24"), opened(&[(9, 17)]))].into());
}

#[test]
fn rule_6_3_rows_of_dates_that_stay_equal_stay() {
    let held = holding(&[("2026-12-24", opened(&[(9, 17)])), ("2026-12-25", closed())]);
    let items = [open_on("Dec 24 2026", "09:00", "17:00"), closed_on("Dec 26 2026")];
    let (_, effects) = dos([held]).decide(&[input(&event_with_times(items), 1)]);
    let dates = &effects.services[0].dates;
    assert_eq!((&*dates.removed, &*dates.added), (&[][..], &[][..]));
    let moved = RewrittenDate { held: date("2026-12-25"), date: date("2026-12-26"), periods: vec![(None, None)] };
    assert_eq!(dates.rewritten, [moved]);
}

#[test]
fn rule_6_3_a_date_takes_its_own_row_before_anothers_and_only_one_with_as_many_periods() {
    let held = holding(&[
        ("2026-12-24", opened(&[(9, 17)])),
        ("2026-12-25", opened(&[(9, 12), (13, 17)])),
        ("2026-12-26", opened(&[(9, 12), (13, 17)])),
        ("2026-12-27", closed()),
        ("2026-12-28", SpecifiedDate { rows: 2, ..opened(&[(9, 12), (13, 17)]) }),
    ]);
    let items = [
        open_on("Dec 24 2026", "09:00", "12:00"),
        open_on("Dec 24 2026", "13:00", "18:00"),
        open_on("Dec 26 2026", "09:00", "12:00"),
        open_on("Dec 26 2026", "14:00", "17:00"),
        open_on("Dec 30 2026", "09:00", "10:00"),
        open_on("Dec 31 2026", "09:00", "10:00"),
        open_on("Dec 31 2026", "11:00", "12:00"),
        open_on("Dec 31 2026", "13:00", "14:00"),
    ];
    let mut dos = dos([held]);
    let (_, effects) = dos.decide(&[input(&event_with_times(items.clone()), 1)]);
    let dates = &effects.services[0].dates;
    let rewritten: Vec<_> = dates.rewritten.iter().map(|row| (row.held, row.date, row.periods.len())).collect();
    let expected = [("2026-12-26", "2026-12-26", 1), ("2026-12-25", "2026-12-24", 1), ("2026-12-27", "2026-12-30", 1)];
    assert_eq!(rewritten, expected.map(|(held, is, periods)| (date(held), date(is), periods)));
    assert_eq!(dates.removed, [date("2026-12-24"), date("2026-12-28")]);
    assert_eq!(dates.added.iter().map(|(date, _)| *date).collect::<Vec<_>>(), [date("2026-12-31")]);
    assert_eq!(run(&mut dos, &event_with_times(items)).outcome, Outcome::Updated);
    assert_eq!(dos.services[&1].specified.len(), 4);
}

#[test]
fn blank_standard_openings_still_replace_specified_dates() {
    let held = holding(&[("2026-12-25", closed())]);
    let mut dos = dos([held]);
    let decision = run(&mut dos, &event_with(json!({"OpeningTimes": [closed_on("Dec 26 2026")]})));
    assert_eq!(keys(&decision), ["BLANK_STANDARD_OPENINGS", "SERVICE_UPDATE"]);
    assert_eq!(dos.services[&1].specified, holding(&[("2026-12-26", closed())]).specified);
}

#[test]
fn invalid_opening_times_leave_specified_dates_alone() {
    let held = holding(&[("2020-01-01", closed())]);
    let decision = run(&mut dos([held]), &event_with_times([json!("x")]));
    assert_eq!((decision.outcome, keys(&decision)), (Outcome::Unchanged, vec!["INVALID_OPEN_TIMES"]));
}
