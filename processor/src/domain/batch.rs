//! Several events of one partition decided one after the other, each seeing what the one before it did (design: one event's way).
//!
//! Two steps, since history and pending changes are only read where they are needed:
//! [`decide`] holds events against what DoS holds; [`finish`] adds what depends on the histories of services that change
//! and on the pending changes of services that are synchronised. [`Effects`] then says what to write, once for the batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    audit::{Outcome, Report},
    change_event::ChangeEvent,
    history::HistoryWrite,
    ods_code::OdsCode,
    opening_times::{DayId, Period},
    service::{Creator, Location, Service, ZCode},
};
pub use super::{
    decide::{Decided, decide, postcodes_to_look_up},
    finish::{dead_lettered, finish},
};

/// An input record as the wire layer read it (sections 1 and 2).
#[derive(Clone, Debug)]
pub struct Input {
    pub body: InputBody,
    /// Kept to the audit topic; made when the record had none (rule 1.1).
    pub correlation_id: String,
}

/// Accepted for deciding or rejected at the door.
#[derive(Clone, Debug)]
pub enum InputBody {
    Event {
        event: Box<ChangeEvent>,
        sequence_number: i64,
    },
    /// `reason` and `detail` as rule 1.3 and section 13 have them.
    Rejected {
        reason: &'static str,
        detail: String,
    },
}

impl InputBody {
    /// The event, when there is one to decide.
    pub fn event(&self) -> Option<&ChangeEvent> {
        match self {
            Self::Event { event, .. } => Some(event),
            Self::Rejected { .. } => None,
        }
    }
}

/// What DoS holds, as it was read; [`decide`] takes it and goes on from it, event by event.
#[derive(Clone, Debug, Default)]
pub struct DosState {
    /// Largest accepted sequence number; a code without one counts as 0 (rule 1.4).
    pub sequences: HashMap<OdsCode, i64>,
    /// Candidates of rule 3.1 in id order; those that rule 3.3 drops for every event may be missing.
    pub services: HashMap<OdsCode, Vec<Service>>,
    /// By postcode without spaces in upper case; rows in id order. A postcode without a row may be missing.
    pub locations: HashMap<String, Vec<Location>>,
    /// Pairs among [`ZCode::ALL`] that are in `symptomgroupsymptomdiscriminators` (rule 6.4).
    pub z_code_pairs: BTreeSet<ZCode>,
    /// Services for which changes wait for approval (rule 4.1); there may be some that no event reaches.
    pub with_pending_changes: BTreeSet<i32>,
}

/// What the rules need to know besides: the moment and the day.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: DateTime<Utc>,
    /// Today in Europe/London, or `DOSI_TODAY`.
    pub today: NaiveDate,
}

/// One event's decision. `reports` ends with the outcome.
#[derive(Clone, Debug)]
pub struct EventDecision {
    pub reports: Vec<Report>,
    pub outcome: Outcome,
    /// The event goes to the dead-letter topic: reason and detail (rules 1.3, 6.8, 9.2).
    pub dead_letter: Option<DeadLetter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub reason: String,
    pub detail: String,
}

/// What a batch leaves in the database, set-based: one value a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Codes whose largest sequence number rises, with the new one.
    pub sequences: BTreeMap<OdsCode, i64>,
    /// Services that changed, in id order.
    pub services: Vec<ServiceWrite>,
    pub histories: Vec<HistoryWrite>,
    /// Ids of `changes` rows to reject (rule 4.2), in id order.
    pub rejected_changes: Vec<String>,
    pub mails: Vec<Mail>,
    /// Histories that were no JSON object, kept as they were (rule 7.1): service ids.
    pub alien_histories: Vec<i32>,
}

/// Everything to write of one service. Columns hold the value after the batch; those that did not change hold what they held.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceWrite {
    pub id: i32,
    pub address: Option<String>,
    pub town: Option<String>,
    pub postcode: Option<String>,
    pub easting: Option<i32>,
    pub northing: Option<i32>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
    pub phone: Option<String>,
    pub web: Option<String>,
    pub status_id: i32,
    /// Which of the columns above differ from what was loaded.
    pub columns: ChangedColumns,
    /// Days whose rows go, with the periods that take their place (none: no row).
    pub days: Vec<(DayId, Vec<Period>)>,
    pub dates: DateWrites,
    pub z_codes_added: Vec<ZCode>,
    pub z_codes_removed: Vec<ZCode>,
}

/// What becomes of a service's specified dates (rule 6.3). Which row says a date is no concern of anybody's: one that is to go may
/// say another date from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DateWrites {
    /// Dates whose rows all go.
    pub removed: Vec<NaiveDate>,
    pub rewritten: Vec<RewrittenDate>,
    /// Dates that get one row; no periods means closed.
    pub added: Vec<(NaiveDate, Vec<Period>)>,
}

/// A date's one row that says another date, or other periods, from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewrittenDate {
    pub held: NaiveDate,
    pub date: NaiveDate,
    /// Rows of periods that are rewritten: what each said and what it says from now on. `None`: closed, whatever times it said.
    pub periods: Vec<(Option<Period>, Option<Period>)>,
}

/// Groups of columns of `services` that move together.
#[expect(clippy::struct_excessive_bools, reason = "one flag for each group, independent of each other")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangedColumns {
    pub address: bool,
    /// postcode, town, easting, northing, latitude, longitude (rule 5.4)
    pub place: bool,
    pub phone: bool,
    pub web: bool,
    pub status: bool,
}

/// A rejection e-mail to queue (rules 4.2 to 4.4). Personal data: never logged, never audited.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Index into the batch's inputs of the event that caused it.
    pub input: usize,
    pub change_id: String,
    pub creator: Creator,
    pub service_uid: String,
    pub service_name: String,
    /// JSON array of `{"key", "previous", "proposed"}`, texts as in `changes.value`.
    pub changes: String,
}

/// Names the change, never the person (rule 4.3).
impl std::fmt::Debug for Mail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mail").field("change_id", &self.change_id).finish_non_exhaustive()
    }
}
