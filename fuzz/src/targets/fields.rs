//! Single values of an event and the form they take in DoS. The whole input is tried as each of them.

use chrono::{NaiveDate, Timelike as _};
use dosi::domain::{
    address,
    ods_code::OdsCode,
    opening_times::{DayId, Notation, Period, Written, parse_date, parse_time},
    phone, postcode,
    text::is_blank,
    website,
};

pub(crate) fn run(data: &[u8]) {
    let number = data.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte));
    every_time_is_read(number % 86_400);
    every_date_is_read(number);
    let Ok(text) = std::str::from_utf8(data) else { return };
    time(text);
    date(text);
    ods_code(text);
    phone(text);
    postcode(text);
    website(text);
    address(text);
    if let Some(DayId(day)) = DayId::from_weekday_name(text) {
        assert!((1..=7).contains(&day) && text.to_ascii_lowercase().ends_with("day"));
    }
}

/// Times as they print, with and without what may be left out.
fn spellings_of_time(seconds: u32) -> Vec<String> {
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut spellings = vec![format!("{hour:02}:{minute:02}:{second:02}")];
    if second == 0 {
        spellings.extend([format!("{hour}:{minute:02}"), format!("{hour:02}:{minute:02}")]);
    }
    spellings
}

fn every_time_is_read(seconds: u32) {
    for spelling in spellings_of_time(seconds) {
        assert_eq!(parse_time(&spelling), Some(seconds), "{spelling}");
    }
    let clock = Written(Period { start: seconds, end: 86_399 }, Notation::Clock).to_string();
    let (start, _) = clock.split_once('-').unwrap();
    assert_eq!(parse_time(start), Some(seconds - seconds % 60));
}

fn time(text: &str) {
    if let Some(seconds) = parse_time(text) {
        assert!(spellings_of_time(seconds).iter().any(|spelling| spelling == text), "{text} is read as {seconds}");
        assert!(
            chrono::NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0).is_some_and(|time| time.second() < 60)
        );
    }
}

fn every_date_is_read(number: u32) {
    let Some(date) = NaiveDate::from_yo_opt(1 + i32::try_from(number % 9_999).unwrap(), 1 + number / 9_999 % 366)
    else {
        return;
    };
    for form in ["%b %d %Y", "%b %e %Y", "%b   %-d    %Y"] {
        assert_eq!(parse_date(&date.format(form).to_string()), Some(date), "{form}");
    }
}

/// A date is read only from its three parts, in order, with spaces between them and nowhere else.
fn date(text: &str) {
    let Some(date) = parse_date(text) else { return };
    let parts: Vec<&str> = text.split(' ').filter(|part| !part.is_empty()).collect();
    let [month, day, year] = parts[..] else { panic!("{text} is read as {date}") };
    assert!(month.eq_ignore_ascii_case(&date.format("%b").to_string()));
    assert!([date.format("%d").to_string(), date.format("%-d").to_string()].iter().any(|form| form == day));
    assert!(year == date.format("%Y").to_string() && text.starts_with(month) && text.ends_with(year));
}

fn ods_code(text: &str) {
    match OdsCode::parse(text) {
        Ok(code) => {
            assert!(code.as_str() == text && text.len() == 5 && text.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        Err(faults) => {
            assert!(faults.wrong_length || faults.not_alphanumeric);
            assert_eq!(faults.wrong_length, text.chars().count() != 5);
        }
    }
}

fn phone(text: &str) {
    let number = phone::for_dos(Some(text));
    assert_eq!(number.is_none(), is_blank(text));
    if let Some(number) = number {
        assert!(!number.contains(' ') && number.chars().eq(text.chars().filter(|character| *character != ' ')));
        assert_eq!(phone::for_dos(Some(&number)), Some(number));
    }
}

fn postcode(text: &str) {
    let normal = postcode::normal(Some(text));
    assert_eq!(postcode::normal(Some(&normal)), normal);
    let spellings = postcode::spellings(&normal);
    assert_eq!(spellings.is_empty(), !postcode::can_be_looked_up(&normal));
    assert!(spellings.len() <= 300 && spellings.iter().all(|spelling| postcode::normal(Some(spelling)) == normal));
}

fn website(text: &str) {
    let website = website::for_dos(text);
    assert_eq!(website::for_dos(&website), website, "DoS's own form is left as it is");
    assert!(text.get(..website.len()).is_some_and(|kept| website.eq_ignore_ascii_case(kept)) || text.contains('?'));
    if website::is_valid(&website) {
        let rest = website.trim_start_matches("http://").trim_start_matches("https://");
        let host = rest.split('/').next().unwrap_or_default();
        let is_of_host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        assert!(host.contains('.') && host.bytes().all(is_of_host), "{host}");
    }
}

fn address(text: &str) {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let is_nothing = lines.iter().all(|line| is_blank(&line.replace('\'', "")));
    let address = address::for_dos(&lines);
    assert_eq!(address.is_none(), is_nothing);
    if let Some(address) = address {
        assert!(!address.contains(['\'', '&']));
        let joins = lines.len() - 1 + text.matches('$').count();
        assert_eq!(address.matches('$').count(), joins);
        let letters = |text: &str| text.to_lowercase().replace(['$', '\'', '\n', '\r'], "").replace('&', "and");
        assert_eq!(letters(&address), letters(text));
    }
}
