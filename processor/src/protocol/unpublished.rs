//! What of one partition is applied but not yet published, and what may be sent next (design: publishing).
//!
//! Kept apart from Kafka and the database so that its rules can be tried by themselves: only rows whose commit is known,
//! only from exactly the next offset to publish, nothing below the group's offset twice.

use std::collections::VecDeque;

use super::position::GroupOffset;
use crate::fault_injection::{Mutant, is};

/// An outbox row: the output of one batch, from the position it started at to the one it moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSpan<R> {
    pub start: i64,
    pub end: i64,
    pub events: usize,
    pub bytes: usize,
    pub records: R,
}

/// What to send next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<R> {
    /// Everything applied is published, or the group's offset is not known.
    Nothing,
    /// Memory does not hold the row that covers this offset: read it from the outbox.
    ReadOutbox { from: i64 },
    /// These rows, in order; the first covers the next offset to publish.
    Send(Vec<OutboxSpan<R>>),
}

/// The unpublished part of one partition.
#[derive(Debug)]
pub struct Unpublished<R> {
    group: GroupOffset,
    /// The broker told the group's offset: no transaction of ours set it.
    is_told: bool,
    /// The group's offset is known to have been here; it never goes back.
    reached: i64,
    /// The position known to be committed in the database.
    applied: i64,
    rows: VecDeque<OutboxSpan<R>>,
    rows_bytes: usize,
    /// What lies between the group's offset and the position, in memory or in the outbox only.
    backlog: Backlog,
}

/// An amount of unpublished work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Outbox rows.
    pub batches: usize,
    pub events: usize,
    /// Bytes of the rows.
    pub bytes: usize,
}

impl Backlog {
    /// What some rows amount to.
    pub fn of<R>(rows: &[OutboxSpan<R>]) -> Self {
        let sum = |amount: fn(&OutboxSpan<R>) -> usize| rows.iter().map(amount).sum();
        Self { batches: rows.len(), events: sum(|row| row.events), bytes: sum(|row| row.bytes) }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            batches: self.batches + other.batches,
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            batches: self.batches.saturating_sub(other.batches),
            events: self.events.saturating_sub(other.events),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl<R: Clone> Default for Unpublished<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Clone> Unpublished<R> {
    pub fn new() -> Self {
        Self {
            group: GroupOffset::Unknown,
            is_told: false,
            reached: i64::MIN,
            applied: 0,
            rows: VecDeque::new(),
            rows_bytes: 0,
            backlog: Backlog::default(),
        }
    }

    pub fn group(&self) -> GroupOffset {
        self.group
    }

    pub fn applied(&self) -> i64 {
        self.applied
    }

    /// What waits for publishing.
    pub fn backlog(&self) -> Backlog {
        self.backlog
    }

    /// The lane begins at `position`; what memory held belongs to a former life of it.
    pub fn restart(&mut self, position: i64, backlog: Backlog) {
        self.applied = position;
        self.rows.clear();
        self.rows_bytes = 0;
        self.backlog = if self.has_unpublished() { backlog } else { Backlog::default() };
    }

    /// Bytes of the rows that memory holds.
    pub fn held_bytes(&self) -> usize {
        self.rows_bytes
    }

    /// A batch's commit is known. Where memory has no room for the row it is read back from the outbox.
    pub fn applied_row(&mut self, row: OutboxSpan<R>, has_room: bool) {
        self.applied = row.end;
        if !self.has_unpublished() {
            // Applied again after the database had lost it: published long since.
            self.backlog = Backlog::default();
            return;
        }
        self.backlog = self.backlog.plus(Backlog::of(std::slice::from_ref(&row)));
        // Older rows may wait in the outbox: `next` does not send this one before them.
        let follows = self.rows.back().is_none_or(|last| last.end == row.start);
        if follows && has_room {
            self.rows_bytes += row.bytes;
            self.rows.push_back(row);
        }
    }

    /// What the broker says of the group's offset, read outside any transaction of ours; `false` when it says what was before:
    /// a coordinator that has just moved or started may not know yet that its last records are on enough brokers.
    pub fn group_offset_read(&mut self, group: GroupOffset) -> bool {
        if let GroupOffset::At(offset) = group {
            if offset < self.reached {
                return false;
            }
            self.reached = offset;
            self.forget_below(offset);
        }
        self.group = group;
        self.is_told = true;
        true
    }

    /// Whether the broker told the group's offset. It may be out of date: see [`Unpublished::group_offset_read`].
    pub fn is_told(&self) -> bool {
        self.is_told
    }

    /// Somebody may have set the group's offset to any place.
    pub fn forget_reached(&mut self) {
        self.reached = i64::MIN;
    }

    /// A transaction's end is not known.
    pub fn doubt(&mut self) {
        self.group = GroupOffset::Unknown;
    }

    /// A transaction that carried the offset `end` was committed.
    pub fn published(&mut self, end: i64) {
        self.group = GroupOffset::At(end);
        self.is_told = false;
        self.reached = end;
        self.forget_below(end);
    }

    /// What to send next, up to about `bytes_max` (one row at least).
    pub fn next(&self, bytes_max: usize) -> Next<R> {
        let GroupOffset::At(offset) = self.group else { return Next::Nothing };
        if self.applied <= offset {
            return Next::Nothing;
        }
        match self.rows.front() {
            Some(first) if first.start <= offset || is(Mutant::RowNotNext) => {
                Next::Send(up_to(self.rows.iter(), bytes_max))
            }
            _ => Next::ReadOutbox { from: offset },
        }
    }

    fn forget_below(&mut self, offset: i64) {
        while self.rows.front().is_some_and(|row| row.end <= offset) {
            if let Some(row) = self.rows.pop_front() {
                self.rows_bytes -= row.bytes;
                self.backlog = self.backlog.minus(Backlog::of(&[row]));
            }
        }
        if self.applied <= offset {
            self.backlog = Backlog::default();
        }
    }

    /// As [`Unpublished::published`], of rows that were read from the outbox.
    pub fn published_from_outbox(&mut self, end: i64, rows: &[OutboxSpan<R>]) {
        let held_from = self.rows.front().map_or(i64::MAX, |row| row.start);
        for row in rows.iter().filter(|row| row.start < held_from) {
            self.backlog = self.backlog.minus(Backlog::of(std::slice::from_ref(row)));
        }
        self.published(end);
    }

    /// Whether something is applied and not known to be published.
    pub fn has_unpublished(&self) -> bool {
        !matches!(self.group, GroupOffset::At(offset) if offset >= self.applied)
    }
}

/// The first rows, up to about `bytes_max` (one at least).
pub fn up_to<'a, R: Clone + 'a>(rows: impl Iterator<Item = &'a OutboxSpan<R>>, bytes_max: usize) -> Vec<OutboxSpan<R>> {
    let mut bytes = 0;
    let fits = |row: &&OutboxSpan<R>| {
        let first = bytes == 0;
        bytes += row.bytes.max(1);
        first || bytes <= bytes_max
    };
    rows.take_while(fits).cloned().collect()
}

/// The rows of `rows` that go on from exactly `offset`, gaps refused: a row that is not the next one is never sent.
pub fn contiguous_from<R>(rows: Vec<OutboxSpan<R>>, offset: i64) -> Vec<OutboxSpan<R>> {
    if is(Mutant::RowNotNext) {
        return rows;
    }
    let mut next = offset;
    let mut first = true;
    rows.into_iter()
        .take_while(|row| {
            let joins = if first { row.start <= next && next < row.end } else { row.start == next };
            first = false;
            next = row.end;
            joins
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start: i64, end: i64) -> OutboxSpan<()> {
        OutboxSpan { start, end, events: 1, bytes: 10, records: () }
    }

    fn at(offset: i64) -> Unpublished<()> {
        let mut state = Unpublished::new();
        state.restart(offset, Backlog::default());
        state.group_offset_read(GroupOffset::At(offset));
        state
    }

    #[test]
    fn rows_go_out_in_order_from_the_groups_offset() {
        let mut state = at(5);
        assert_eq!(state.next(100), Next::Nothing);
        state.applied_row(row(5, 8), true);
        state.applied_row(row(8, 9), true);
        assert_eq!(state.next(100), Next::Send(vec![row(5, 8), row(8, 9)]));
        assert_eq!(state.next(5), Next::Send(vec![row(5, 8)]));
        state.published(8);
        assert_eq!(state.next(100), Next::Send(vec![row(8, 9)]));
        state.published(9);
        assert_eq!(state.next(100), Next::Nothing);
        assert_eq!(state.backlog(), Backlog::default());
    }

    #[test]
    fn nothing_is_sent_while_the_groups_offset_is_in_doubt() {
        let mut state = at(5);
        state.applied_row(row(5, 8), true);
        state.doubt();
        assert_eq!(state.next(100), Next::Nothing);
        state.group_offset_read(GroupOffset::At(8));
        assert_eq!(state.next(100), Next::Nothing);
    }

    #[test]
    fn what_memory_may_not_hold_is_read_from_the_outbox() {
        let mut state = at(5);
        for start in 5..9 {
            state.applied_row(row(start, start + 1), start < 7);
        }
        state.published(7);
        assert_eq!(state.next(100), Next::ReadOutbox { from: 7 });
        assert_eq!(state.backlog(), Backlog { batches: 2, events: 2, bytes: 20 });
        // A later row must not be taken for the next one.
        state.applied_row(row(9, 10), true);
        assert_eq!(state.next(100), Next::ReadOutbox { from: 7 });
    }

    #[test]
    fn a_successor_reads_what_its_predecessor_left() {
        let mut state = Unpublished::new();
        state.restart(20, Backlog { batches: 1, events: 3, bytes: 30 });
        state.applied_row(row(20, 21), true);
        state.group_offset_read(GroupOffset::At(12));
        assert_eq!(state.next(100), Next::ReadOutbox { from: 12 });
        // Once it has caught up it goes on from memory.
        state.published_from_outbox(20, &[row(12, 20)]);
        assert_eq!(state.next(100), Next::Send(vec![row(20, 21)]));
        assert_eq!(state.backlog().events, 3);
    }

    #[test]
    fn what_is_applied_again_below_the_groups_offset_is_no_backlog() {
        let mut state = Unpublished::new();
        state.group_offset_read(GroupOffset::At(100));
        state.restart(0, Backlog { batches: 9, events: 9, bytes: 9 });
        state.applied_row(row(0, 50), true);
        assert_eq!((state.backlog(), state.next(100)), (Backlog::default(), Next::Nothing));
        state.applied_row(row(50, 120), true);
        assert_eq!(state.next(100), Next::Send(vec![row(50, 120)]));
    }

    #[test]
    fn only_rows_that_go_on_exactly_are_sent() {
        assert_eq!(contiguous_from(vec![row(5, 8), row(8, 9)], 6), vec![row(5, 8), row(8, 9)]);
        assert_eq!(contiguous_from(vec![row(6, 8)], 5), vec![]);
        assert_eq!(contiguous_from(vec![row(5, 8), row(9, 10)], 5), vec![row(5, 8)]);
    }
}
