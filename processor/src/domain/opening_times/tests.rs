use super::*;

fn date(year: i32, month: u32, day: u32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month, day)
}

fn text(text: &str) -> ItemText<'_> {
    ItemText::Text(Cow::Borrowed(text))
}

fn standard(from: &'static str, to: &'static str) -> ItemFields<'static> {
    ItemFields {
        opening_time_type: text("General"),
        weekday: text("Monday"),
        additional_opening_date: ItemText::Empty,
        is_open: Some(true),
        opening_time: text(from),
        closing_time: text(to),
    }
}

fn specified(date: &'static str) -> ItemFields<'static> {
    ItemFields {
        opening_time_type: text("Additional"),
        additional_opening_date: text(date),
        is_open: Some(false),
        ..ItemFields::default()
    }
}

fn item(on: OpeningDay, start: u32, end: u32) -> OpeningItem {
    OpeningItem { on, period: Some(Period { start, end }) }
}

const MONDAY: OpeningDay = OpeningDay::Weekday(DayId(1));

fn christmas() -> OpeningDay {
    OpeningDay::Date(date(2026, 12, 25).unwrap())
}

fn read(items: &[OpeningItem]) -> Option<OpeningHours> {
    hours(&EventOpeningTimes::Items(items.to_vec()), date(2026, 6, 15).unwrap())
}

#[test]
fn times_are_h_mm_or_hh_mm_or_hh_mm_ss() {
    for (time, seconds) in
        [("9:00", 32_400), ("09:00", 32_400), ("09:00:05", 32_405), ("0:00", 0), ("00:00:00", 0), ("23:59:59", 86_399)]
    {
        assert_eq!(parse_time(time), Some(seconds), "{time}");
    }
    for time in [
        "",
        "9",
        "24:00",
        "24:00:00",
        "23:60",
        "23:59:60",
        "9:00:00",
        "009:00",
        "9:0",
        "09:0",
        "09:00:0",
        "09:00:00:00",
        " 09:00",
        "09:00 ",
        "-1:00",
        "+9:00",
        "0a:00",
        "٠٩:٠٠",
        ":00",
        "09:",
        "09.00",
        "0900",
    ] {
        assert_eq!(parse_time(time), None, "{time}");
    }
}

#[test]
fn dates_are_in_any_spacing_and_any_case_of_the_month() {
    for (text, expected) in [
        ("Dec 24 2021", date(2021, 12, 24)),
        ("Jan  1 2030", date(2030, 1, 1)),
        ("JAN 01   2030", date(2030, 1, 1)),
        ("sep 9 2026", date(2026, 9, 9)),
        ("Feb 29 2028", date(2028, 2, 29)),
        ("Feb 29 2000", date(2000, 2, 29)),
        ("Jan 1 0001", date(1, 1, 1)),
    ] {
        assert_eq!(parse_date(text), expected, "{text}");
        assert!(expected.is_some());
    }
    for text in [
        "",
        "Feb 29 2026",
        "Feb 29 2100",
        "Sept 9 2026",
        "September 9 2026",
        "Dec 32 2026",
        "Dec 0 2026",
        "Jan 001 2030",
        "Jan 1 30",
        "Jan 1 20300",
        "Jan1 2030",
        "Jan 12030",
        " Jan 1 2030",
        "Jan 1 2030 ",
        "Jan\t1 2030",
        "Jan 1\u{a0}2030",
        "1 Jan 2030",
        "2030-01-01",
        "Jan 1, 2030",
        "Jän 1 2030",
        "Jan 1 0000",
        "Jan +1 2030",
        "é",
        "日本語 1 2030",
    ] {
        assert_eq!(parse_date(text), None, "{text}");
    }
}

#[test]
fn a_standard_item_has_a_weekday_and_no_date() {
    let open = |on| Some(OpeningItem { on, period: Some(Period { start: 32_400, end: 61_200 }) });
    assert_eq!(read_item(&standard("9:00", "17:00")), open(MONDAY));
    let shouted =
        ItemFields { opening_time_type: text("GENERAL"), weekday: text("sUNDAY"), ..standard("9:00", "17:00") };
    assert_eq!(read_item(&shouted), open(OpeningDay::Weekday(DayId(7))));
    for wrong in [
        ItemFields { weekday: text("Mon"), ..standard("9:00", "17:00") },
        ItemFields { weekday: text(" Monday"), ..standard("9:00", "17:00") },
        ItemFields { weekday: ItemText::Empty, ..standard("9:00", "17:00") },
        ItemFields { weekday: text("BankHoliday"), ..standard("9:00", "17:00") },
        ItemFields { additional_opening_date: text("Dec 24 2026"), ..standard("9:00", "17:00") },
        ItemFields { additional_opening_date: text(" "), ..standard("9:00", "17:00") },
        ItemFields { additional_opening_date: ItemText::Other, ..standard("9:00", "17:00") },
        ItemFields { opening_time_type: text("Surgery"), ..standard("9:00", "17:00") },
        ItemFields { opening_time_type: ItemText::Empty, ..standard("9:00", "17:00") },
        ItemFields { is_open: None, ..standard("9:00", "17:00") },
        standard("9:00", "24:00"),
        ItemFields { closing_time: ItemText::Empty, ..standard("9:00", "17:00") },
    ] {
        assert_eq!(read_item(&wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_closed_item_has_no_times_and_blank_is_not_empty() {
    let closed = ItemFields {
        opening_time: ItemText::Empty,
        closing_time: ItemText::Empty,
        is_open: Some(false),
        ..standard("", "")
    };
    assert_eq!(read_item(&closed), Some(OpeningItem { on: MONDAY, period: None }));
    for opening_time in [text(" "), text("09:00"), ItemText::Other] {
        assert_eq!(read_item(&ItemFields { opening_time, ..closed.clone() }), None);
    }
    assert_eq!(read_item(&ItemFields { is_open: Some(false), ..standard("09:00", "17:00") }), None);
    assert_eq!(read_item(&ItemFields { is_open: Some(true), ..closed }), None);
}

#[test]
fn a_specified_item_has_a_date_and_its_weekday_does_not_matter() {
    let expected = Some(OpeningItem { on: christmas(), period: None });
    assert_eq!(read_item(&specified("Dec 25 2026")), expected);
    assert_eq!(read_item(&ItemFields { weekday: text("nonsense"), ..specified("dec  25  2026") }), expected);
    assert_eq!(read_item(&ItemFields { additional_opening_date: ItemText::Empty, ..specified("") }), None);
    assert_eq!(read_item(&specified("Dec 25 26")), None);
}

#[test]
fn a_period_starts_before_it_ends() {
    assert!(read(&[item(MONDAY, 100, 101)]).is_some());
    assert_eq!(read(&[item(MONDAY, 100, 100)]), None);
    assert_eq!(read(&[item(MONDAY, 101, 100)]), None);
    assert_eq!(read(&[item(MONDAY, 0, 0)]), None, "midnight to midnight");
    assert!(read(&[item(MONDAY, 0, 86_399)]).is_some());
}

#[test]
fn periods_of_a_day_neither_overlap_nor_touch_in_whatever_order_they_come() {
    for on in [MONDAY, christmas()] {
        assert!(read(&[item(on, 50, 60), item(on, 10, 20), item(on, 30, 40)]).is_some());
        assert_eq!(read(&[item(on, 20, 30), item(on, 10, 20)]), None, "touching");
        assert_eq!(read(&[item(on, 10, 20), item(on, 19, 30)]), None);
        assert_eq!(read(&[item(on, 10, 90), item(on, 20, 30)]), None, "one within the other");
        assert_eq!(read(&[item(on, 10, 20), item(on, 10, 20)]), None, "the same twice");
    }
    assert!(read(&[item(MONDAY, 10, 20), item(OpeningDay::Weekday(DayId(2)), 10, 20)]).is_some());
}

#[test]
fn a_day_is_never_both_closed_and_open() {
    for on in [MONDAY, christmas()] {
        let closed = OpeningItem { on, period: None };
        assert_eq!(read(&[item(on, 10, 20), closed]), None);
        assert_eq!(read(&[closed, item(on, 10, 20)]), None);
        assert!(read(&[closed, closed]).is_some());
    }
}

#[test]
fn any_breach_makes_opening_times_as_a_whole_invalid() {
    assert_eq!(read(&[item(MONDAY, 10, 20), item(christmas(), 20, 10)]), None);
    assert_eq!(hours(&EventOpeningTimes::Invalid, date(2026, 1, 1).unwrap()), None);
    let nothing = read(&[]).unwrap();
    assert!(nothing.week.is_empty() && nothing.dates.is_empty());
}
