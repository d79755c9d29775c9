//! The database as the protocol sees it: positions, outbox, what was applied; commits are atomic and may be lost from the end.

use std::collections::BTreeMap;

use dosi::{
    fault_injection::{Mutant, is},
    protocol::{
        applying::{Class, Failure, How, Tried, Try},
        position::{Applied, HaltReason},
        unpublished::OutboxSpan,
    },
};

/// A row of the input, by what it does to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    /// Refused for its content.
    Refused,
    /// Fails each time, nobody can say why.
    Unclear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) offset: i64,
    pub(crate) kind: Kind,
}

impl dosi::protocol::applying::Event for Event {
    fn offset(&self) -> i64 {
        self.offset
    }

    fn ods_code(&self) -> Option<&str> {
        Some("FA001")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub Class);

impl Failure for Fault {
    fn class(&self) -> Class {
        self.0
    }

    fn reason(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// What the audit topic is told of an event: its offset, and whether it was dead-lettered.
pub(crate) type Outcome = (i64, bool);
pub(crate) type Row = OutboxSpan<Vec<Outcome>>;

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) positions: BTreeMap<i32, Applied>,
    pub(crate) halted: BTreeMap<i32, String>,
    /// Offsets whose effects are in DoS, in order, by partition.
    pub(crate) effects: BTreeMap<i32, Vec<i64>>,
    pub(crate) dead_letters: BTreeMap<i32, Vec<i64>>,
    /// By partition and start.
    pub(crate) outbox: BTreeMap<(i32, i64), Row>,
}

/// More events than this make too much output for one transaction.
const EVENTS_MAX: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Database {
    pub(crate) now: State,
    /// What stood after each earlier commit, the newest last.
    commits: Vec<State>,
}

impl Database {
    fn commit(&mut self, next: State) {
        self.commits.push(std::mem::replace(&mut self.now, next));
        let most = 8;
        if self.commits.len() > most {
            self.commits.remove(0);
        }
    }

    /// Comes back without its last commits; not without a partition's beginning, which a person would have to settle.
    pub(crate) fn lose_commits(&mut self, count: usize) -> bool {
        let Some(index) = self.commits.len().checked_sub(count) else { return false };
        if self.commits[index].positions.len() < self.now.positions.len() {
            return false;
        }
        self.now = self.commits[index].clone();
        self.commits.truncate(index);
        true
    }

    pub(crate) fn insert_start(&mut self, partition: i32, at: i64) {
        let mut next = self.now.clone();
        next.positions.entry(partition).or_insert(Applied { position: at, start: at });
        self.commit(next);
    }

    pub(crate) fn halt(&mut self, partition: i32, reason: &HaltReason) {
        let mut next = self.now.clone();
        let position = next.positions.get(&partition).map(|row| row.position);
        if position == reason.has_position().then(|| reason.position()) {
            next.halted.insert(partition, reason.line("events", partition));
        }
        self.commit(next);
    }

    /// One transaction: position, effects, outbox.
    pub(crate) fn apply(
        &mut self,
        partition: i32,
        one: &Try<Fault>,
        events: &[Event],
        is_published: bool,
    ) -> Tried<Fault> {
        let Some(row) = self.now.positions.get(&partition) else { return Tried::Fenced };
        let is_elsewhere = row.position != one.from && !is(Mutant::CompareAndSetLeftOut);
        if is_elsewhere || self.now.halted.contains_key(&partition) {
            return Tried::Fenced;
        }
        let is_refused = matches!(one.how, How::Refused { .. });
        let kinds = || events.iter().map(|event| event.kind);
        if !is_refused && kinds().any(|kind| kind == Kind::Refused) {
            return Tried::Failed(Fault(Class::Content));
        }
        if !is_refused && kinds().any(|kind| kind == Kind::Unclear) {
            return Tried::Failed(Fault(Class::Unclear));
        }
        if events.len() > EVENTS_MAX {
            return Tried::TooLarge;
        }
        let mut next = self.now.clone();
        let offsets: Vec<i64> = events.iter().map(|event| event.offset).collect();
        next.positions.insert(partition, Applied { position: one.to, start: row.start });
        let told = if is_refused { &mut next.dead_letters } else { &mut next.effects };
        told.entry(partition).or_default().extend(&offsets);
        if !is_published && !is(Mutant::OutboxSkipped) {
            let records = offsets.into_iter().map(|offset| (offset, is_refused)).collect();
            let row = Row { start: one.from, end: one.to, events: events.len(), bytes: 1, records };
            next.outbox.insert((partition, one.from), row);
        }
        self.commit(next);
        Tried::Applied
    }

    /// The row that covers the offset, and those behind it.
    pub(crate) fn outbox_from(&self, partition: i32, offset: i64) -> Vec<Row> {
        let ours = self.now.outbox.range((partition, 0)..=(partition, i64::MAX));
        ours.filter(|(_, row)| row.end > offset).map(|(_, row)| row.clone()).collect()
    }

    pub(crate) fn delete_published(&mut self, published: &[(i32, i64)]) {
        let mut next = self.now.clone();
        next.outbox.retain(|&(partition, _), row| {
            !published.iter().any(|&(published, offset)| published == partition && row.end <= offset)
        });
        self.commit(next);
    }
}
