//! `servicehistories.history` (section 7): new entries are put in front of a text whose older bytes nobody touches.
//! The text is never parsed: numbers in old entries must not change form, nor keys their order.

use std::fmt;

use chrono::{DateTime, Utc};
use itertools::Itertools as _;

use super::{
    audit::ChangeType,
    changes::{KeyChange, KeyValue, Opening, Scalar},
    london,
    opening_times::{Notation, Written},
};

/// Who the entries say it was (rule 7.1).
pub const USER_ID: &str = "DOS_INTEGRATION";

/// Longest key that is read as a number; it leaves room for the next one.
const KEY_DIGITS_MAX: usize = 30;

/// What is known of a history without reading it whole, white space around it left aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryHead {
    /// Its first characters ([`HistoryHead::CHARS`] at most) after leading white space.
    pub start: String,
    /// Its last character before trailing white space; `None` when blank.
    pub last: Option<char>,
}

impl HistoryHead {
    /// Enough for the opening brace and the newest key.
    pub const CHARS: i32 = 200;

    /// The head of a whole text, as the database reads it: what is behind a short text is still there.
    pub fn of(history: &str) -> Self {
        let length = usize::try_from(Self::CHARS).unwrap_or_default();
        let start = history.trim_start().chars().take(length).collect();
        Self { start, last: history.trim_end().chars().next_back() }
    }

    fn is_cut(&self) -> bool {
        i32::try_from(self.start.chars().count()).is_ok_and(|length| length >= Self::CHARS)
    }
}

/// New entries for one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryWrite {
    pub service_id: i32,
    /// `"KEY": {…}` entries, newest first, comma-separated, without braces around them.
    pub entries: String,
    /// What the database puts them in front of.
    pub base: HistoryBase,
}

/// How the stored text goes on after the new entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryBase {
    /// No row, blank, `{}` or an alien text: `{entries}` replaces whatever is there.
    Fresh,
    /// `{entries,` then the old text from behind its opening brace.
    Object,
}

/// What the database's statement makes of the stored text.
pub fn prepended(old: &str, write: &HistoryWrite) -> String {
    match (write.base, old.trim_start().strip_prefix('{')) {
        (HistoryBase::Object, Some(rest)) => format!("{{{},{rest}", write.entries),
        _ => format!("{{{}}}", write.entries),
    }
}

/// What a stored text is to a new entry (rule 7.1, section 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing in it to keep.
    Empty,
    /// `newest`: its first key when that is a number.
    Object { newest: Option<i128> },
    /// Not an object: kept elsewhere as it is.
    Alien,
}

fn kind(head: Option<&HistoryHead>) -> Kind {
    let Some(head) = head else { return Kind::Empty };
    let start = head.start.trim_start();
    if start.is_empty() {
        return Kind::Empty;
    }
    let Some(inside) = start.strip_prefix('{').filter(|_| head.last == Some('}')) else { return Kind::Alien };
    let inside = inside.trim_start();
    match inside.strip_prefix('}') {
        Some(behind) if behind.trim_start().is_empty() && !head.is_cut() => Kind::Empty,
        // Something behind the object's end, or nothing but white space as far as one can see: no place for an entry.
        Some(_) => Kind::Alien,
        None if inside.is_empty() => Kind::Alien,
        None => Kind::Object { newest: first_key(inside) },
    }
}

/// The number that stands as first key; only that key is looked at (section 13, 7.1).
fn first_key(inside: &str) -> Option<i128> {
    let (key, _) = inside.strip_prefix('"')?.split_once('"')?;
    let is_number = key.len() <= KEY_DIGITS_MAX && key.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { key.parse().ok() } else { None }
}

/// The entries that a batch adds to one service's history.
#[derive(Debug)]
pub struct NewHistory {
    service_id: i32,
    base: HistoryBase,
    is_alien: bool,
    newest: Option<i128>,
    /// With their keys, oldest first.
    entries: Vec<(i128, String)>,
}

impl NewHistory {
    /// `head`: of the stored text; `None` when there is no row.
    pub fn begin(service_id: i32, head: Option<&HistoryHead>) -> Self {
        let (base, newest) = match kind(head) {
            Kind::Empty | Kind::Alien => (HistoryBase::Fresh, None),
            Kind::Object { newest } => (HistoryBase::Object, newest),
        };
        Self { service_id, base, is_alien: kind(head) == Kind::Alien, newest, entries: Vec::new() }
    }

    /// What is stored is no JSON object: it is kept elsewhere, and that is reported.
    pub fn is_alien(&self) -> bool {
        self.is_alien
    }

    /// Rule 7.1: the key is the present second, or one more than the newest key when that is not smaller.
    pub fn push(&mut self, entry: String, now: DateTime<Utc>) {
        let present = i128::from(now.timestamp());
        let key = self.newest.map_or(present, |newest| present.max(newest + 1));
        self.entries.push((key, entry));
        self.newest = Some(key);
    }

    pub fn into_write(self) -> HistoryWrite {
        let newest_first = self.entries.iter().rev();
        let entries = newest_first
            .format_with(", ", |(key, entry), write| write(&format_args!("\"{key}\": {entry}")))
            .to_string();
        HistoryWrite { service_id: self.service_id, entries, base: self.base }
    }
}

/// One entry, without its key (rules 7.1 to 7.6).
pub fn entry(changes: &[KeyChange], now: DateTime<Utc>) -> String {
    let changes = changes
        .iter()
        .format_with(", ", |change, write| write(&format_args!("\"{}\": {}", change.key, ChangeJson(change))));
    let who = format!("{{\"userid\": \"{USER_ID}\", \"timestamp\": \"{}\"}}", london::timestamp(now));
    format!("{{\"new\": {{{changes}}}, \"initiator\": {who}, \"approver\": {who}}}")
}

/// One key's value in an entry.
struct ChangeJson<'a>(&'a KeyChange);

/// Rule 7.2: no `previous` for `add`.
impl fmt::Display for ChangeJson<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(KeyChange { change_type, value, .. }) = self;
        write!(out, "{{\"changetype\": \"{}\", \"data\": ", change_type.as_str())?;
        match value {
            KeyValue::Column { new, .. } => write_scalar(new.as_ref(), out)?,
            KeyValue::Openings { removed, added } => write_openings(removed, added, out)?,
            KeyValue::ZCode(code) => {
                let side = if *change_type == ChangeType::Add { "add" } else { "remove" };
                write!(out, "{{\"{side}\": [\"{code}\"]}}")?;
            }
        }
        let area = if matches!(value, KeyValue::ZCode(_)) { "clinical" } else { "demographic" };
        write!(out, ", \"area\": \"{area}\"")?;
        if *change_type != ChangeType::Add {
            out.write_str(", \"previous\": ")?;
            match value {
                KeyValue::Column { previous, .. } => write_scalar(previous.as_ref(), out)?,
                KeyValue::Openings { removed, .. } => write!(out, "[{}]", list(removed, previous_notation))?,
                KeyValue::ZCode(_) => out.write_str("\"\"")?,
            }
        }
        out.write_str("}")
    }
}

fn write_scalar(value: Option<&Scalar>, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        None => out.write_str("null"),
        Some(Scalar::Text(text)) => out.write_str(&serde_json::to_string(text).expect("a text is always JSON")),
        Some(Scalar::Number(number)) => write!(out, "{number}"),
    }
}

/// Rules 7.4 and 7.5: either side is left out when empty.
fn write_openings(removed: &[Opening], added: &[Opening], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let sides = [("remove", removed), ("add", added)].into_iter().filter(|(_, openings)| !openings.is_empty());
    let sides = sides.format_with(", ", |(side, openings), write| {
        write(&format_args!("\"{side}\": [{}]", list(openings, |_| Notation::Seconds)))
    });
    write!(out, "{{{sides}}}")
}

/// Rule 7.4: a weekday's old periods as times of day. Rule 7.5: a date's in the form of the data.
fn previous_notation(opening: &Opening) -> Notation {
    if opening.date.is_some() { Notation::Seconds } else { Notation::Clock }
}

fn list(openings: &[Opening], notation: impl Fn(&Opening) -> Notation) -> impl fmt::Display {
    openings
        .iter()
        .format_with(", ", move |opening, write| write(&format_args!("\"{}\"", Written(*opening, notation(opening)))))
}
