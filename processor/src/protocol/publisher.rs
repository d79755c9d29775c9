//! What an instance publishes: the partitions that it serves and the one Kafka transaction under way for them
//! (design: publishing, rebalancing).
//!
//! Lanes say what is applied, the rebalance callback says what comes and goes, and the publisher's loop asks what to do
//! next. All of them share one [`Publisher`] under one lock, so that a transaction never carries a partition that was given
//! up before it began.

mod served;

use std::collections::BTreeMap;

use self::served::{Errand, Served};
use super::{
    position::{GroupOffset, HaltReason},
    unpublished::{Backlog, Next, OutboxSpan, Unpublished, contiguous_from, up_to},
};
use crate::fault_injection::{Mutant, is};

/// A transaction that fails again and again shrinks to this part of its bounds.
const SHARES_MAX: usize = 64;

/// How much is carried and held.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most that one transaction carries of one partition, and of all, in bytes of outbox rows.
    pub partition_bytes: usize,
    pub transaction_bytes: usize,
    /// Outbox rows of all partitions that memory keeps.
    pub held_bytes: usize,
}

/// One assignment of a partition: what was meant for an earlier one is not taken for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assignment {
    pub partition: i32,
    number: u64,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Open a producer with the instance's transactional id, which ends what the former one left open:
    /// [`Publisher::producer_opened`].
    OpenProducer,
    /// Ask the broker for the group's offset, beside everything else: [`Publisher::group_offset_read`].
    AskGroupOffset(Assignment),
    /// Read the outbox from the row that covers this offset on: [`Publisher::outbox_read`].
    ReadOutbox { assignment: Assignment, from: i64 },
    /// Ask the broker once more: the outbox has no row for this offset. [`Publisher::group_offset_confirmed`]
    ConfirmGroupOffset { assignment: Assignment, from: i64 },
    /// Write down why the partition halts: [`Publisher::halt_written`].
    Halt(Assignment, HaltReason),
    /// [`Publisher::begin`] a transaction with this producer.
    Publish { producer: u64 },
}

/// What one transaction carries.
#[derive(Clone, Debug)]
pub struct Transaction<R> {
    pub number: u64,
    pub loads: Vec<Load<R>>,
}

/// What it carries of one partition.
#[derive(Clone, Debug)]
pub struct Load<R> {
    pub assignment: Assignment,
    /// The group's offset before: records below it are published already.
    pub from: i64,
    /// The group's offset after.
    pub to: i64,
    pub spans: Vec<OutboxSpan<R>>,
    /// `from` is what the broker told. It may have been out of date: once it has taken the new offset, which it does no sooner
    /// than all before it are on enough brokers, it is asked again; if the answer differs, the transaction must not commit.
    pub is_told: bool,
    /// The spans came from the outbox, not from memory.
    read_back: bool,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Committed,
    /// Nothing of it is to be seen, the group's offsets are as before.
    Aborted,
    /// Not known, or its producer is of no more use: a new one is opened, and the committed offset decides.
    InDoubt,
}

/// What the outbox holds of a partition from an offset on.
#[derive(Clone, Debug)]
pub struct OutboxRead<R> {
    pub rows: Vec<OutboxSpan<R>>,
    /// The position, read before the rows, unless the partition is halted or has none.
    pub position: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Producer {
    Missing,
    Opening,
    /// The how many-th.
    Open(u64),
}

/// The publishing side of one instance.
#[derive(Debug)]
pub struct Publisher<R> {
    bounds: Bounds,
    /// What brokers do not take in the time of one transaction is sent in more of them: each carries one of so many shares of
    /// its bounds.
    shares: usize,
    served: BTreeMap<i32, Served<R>>,
    producer: Producer,
    in_flight: Option<Transaction<R>>,
    /// Of [`Mutant::PartitionsOutsideLock`].
    looked_at: Vec<Load<R>>,
    /// Offsets known to be committed, up to which outbox rows may go.
    clearable: BTreeMap<i32, i64>,
    assignments: u64,
    transactions: u64,
    producers: u64,
    rounds: usize,
}

impl<R: Clone> Publisher<R> {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            shares: 1,
            served: BTreeMap::new(),
            producer: Producer::Missing,
            in_flight: None,
            looked_at: Vec::new(),
            clearable: BTreeMap::new(),
            assignments: 0,
            transactions: 0,
            producers: 0,
            rounds: 0,
        }
    }

    pub fn assign(&mut self, partition: i32) -> Assignment {
        self.assignments += 1;
        let number = self.assignments;
        let served = Served { number, unpublished: Unpublished::new(), start_to_commit: None, errand: Errand::None };
        self.served.insert(partition, served);
        Assignment { partition, number }
    }

    /// From now on no transaction takes anything of these up.
    pub fn revoke(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.served.remove(partition);
        }
    }

    /// Whether the transaction under way carries any of these.
    pub fn carries_any(&self, partitions: &[i32]) -> bool {
        let loads = self.in_flight.iter().flat_map(|transaction| &transaction.loads);
        loads.into_iter().any(|load| partitions.contains(&load.assignment.partition))
    }

    fn served(&mut self, assignment: Assignment) -> Option<&mut Served<R>> {
        self.served.get_mut(&assignment.partition).filter(|served| served.number == assignment.number)
    }

    /// What is known of a partition, while it is served.
    pub fn unpublished(&self, assignment: Assignment) -> Option<&Unpublished<R>> {
        let served = self.served.get(&assignment.partition)?;
        (served.number == assignment.number).then_some(&served.unpublished)
    }

    pub fn group_offset(&self, assignment: Assignment) -> GroupOffset {
        self.unpublished(assignment).map_or(GroupOffset::Unknown, Unpublished::group)
    }

    /// A lane begins at this position; what an earlier life of it left unpublished lies in the outbox.
    pub fn restart(&mut self, assignment: Assignment, position: i64, backlog: Backlog) {
        if let Some(served) = self.served(assignment) {
            served.unpublished.restart(position, backlog);
        }
    }

    /// A batch's commit is known.
    pub fn applied(&mut self, assignment: Assignment, span: OutboxSpan<R>) {
        let has_room = self.held_bytes() + span.bytes <= self.bounds.held_bytes;
        if let Some(served) = self.served(assignment) {
            served.unpublished.applied_row(span, has_room);
        }
    }

    /// A batch that moves the position to `to` needs no outbox row: its audit is out.
    pub fn is_published(&self, assignment: Assignment, to: i64) -> bool {
        matches!(self.group_offset(assignment), GroupOffset::At(offset) if to <= offset)
    }

    /// The group's offset may have been changed by somebody else (a repair): it is asked for again.
    pub fn doubt(&mut self, assignment: Assignment) {
        if let Some(served) = self.served(assignment) {
            served.unpublished.forget_reached();
            served.doubt();
        }
    }

    /// The group is to get this offset before anything is applied; `None`: no longer.
    pub fn commit_start(&mut self, assignment: Assignment, start: Option<i64>) {
        if let Some(served) = self.served(assignment) {
            served.start_to_commit = start;
        }
    }

    /// Another look at every partition, each in turn the first: what one transaction does not take of a long backlog is not
    /// always the same partitions'.
    pub fn round(&mut self) {
        self.rounds = self.rounds.wrapping_add(1);
        for served in self.served.values_mut().filter(|served| matches!(served.errand, Errand::Resting)) {
            served.errand = Errand::None;
        }
    }

    /// What to do next; `None`: wait for lanes, answers or the transaction's end.
    pub fn next_work(&mut self) -> Option<Work> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut bytes = 0;
        let mut is_loaded = false;
        let (partition_bytes, transaction_bytes) = self.carried_bytes();
        for partition in self.order() {
            let has_producer = matches!(self.producer, Producer::Open(_));
            let load = self.load_of(partition);
            bytes += load.as_ref().map_or(0, Load::bytes);
            is_loaded |= load.is_some();
            let Some(served) = self.served.get_mut(&partition) else { continue };
            let assignment = Assignment { partition, number: served.number };
            if let Some(work) = served.errand_begins(assignment) {
                return Some(work);
            }
            let is_free = matches!(served.errand, Errand::None);
            let is_asked_for = is_free && served.unpublished.group() == GroupOffset::Unknown;
            // What a former producer of ours might still have sent can no longer come after the answer.
            if is_asked_for && has_producer {
                served.errand = Errand::AskingGroupOffset;
                return Some(Work::AskGroupOffset(assignment));
            }
            if bytes < transaction_bytes
                && is_free
                && let Next::ReadOutbox { from } = served.unpublished.next(partition_bytes)
            {
                served.errand = Errand::ReadingOutbox;
                return Some(Work::ReadOutbox { assignment, from });
            }
        }
        match self.producer {
            // Whether or not there is a use for it yet: finding the coordinator takes as long as joining the group.
            Producer::Missing => {
                self.producer = Producer::Opening;
                Some(Work::OpenProducer)
            }
            Producer::Open(producer) if is_loaded => {
                if is(Mutant::PartitionsOutsideLock) {
                    self.looked_at = self.order().into_iter().filter_map(|partition| self.load_of(partition)).collect();
                }
                Some(Work::Publish { producer })
            }
            _ => None,
        }
    }

    /// The most that a transaction carries now of one partition, and of all.
    fn carried_bytes(&self) -> (usize, usize) {
        // Never nothing: one row at least is carried.
        let share = |bytes: usize| (bytes / self.shares).max(1);
        (share(self.bounds.partition_bytes), share(self.bounds.transaction_bytes))
    }

    fn order(&self) -> Vec<i32> {
        let mut partitions: Vec<i32> = self.served.keys().copied().collect();
        let first = self.rounds.checked_rem(partitions.len()).unwrap_or(0);
        partitions.rotate_left(first);
        partitions
    }

    /// What a transaction would carry of the partition now.
    fn load_of(&self, partition: i32) -> Option<Load<R>> {
        let served = self.served.get(&partition)?;
        let assignment = Assignment { partition, number: served.number };
        let (partition_bytes, _) = self.carried_bytes();
        let load = |from, spans: Vec<OutboxSpan<R>>, read_back| {
            let to = spans.last().map(|span| span.end)?;
            Some(Load { assignment, from, to, spans, is_told: served.unpublished.is_told(), read_back })
        };
        match (served.unpublished.group(), &served.errand) {
            (GroupOffset::Missing, _) => {
                let start = served.start_to_commit?;
                Some(Load { assignment, from: start, to: start, spans: Vec::new(), is_told: false, read_back: false })
            }
            (GroupOffset::At(from), Errand::RowsRead(rows)) => {
                load(from, contiguous_from(up_to(rows.iter(), partition_bytes), from), true)
            }
            (GroupOffset::At(from), _) => match served.unpublished.next(partition_bytes) {
                Next::Send(spans) => load(from, contiguous_from(spans, from), false),
                Next::Nothing | Next::ReadOutbox { .. } => None,
            },
            (GroupOffset::Unknown, _) => None,
        }
    }

    /// Begins a transaction with what is there now, from the partitions served now; `None` when there is nothing, or the
    /// producer is not the one in use any more.
    pub fn begin(&mut self, producer: u64) -> Option<Transaction<R>> {
        if self.in_flight.is_some() || self.producer != Producer::Open(producer) {
            return None;
        }
        let mut loads: Vec<Load<R>> = Vec::new();
        let mut bytes = 0;
        let (_, transaction_bytes) = self.carried_bytes();
        for partition in self.order() {
            if bytes >= transaction_bytes {
                break;
            }
            if let Some(load) = self.load_of(partition) {
                bytes += load.bytes();
                loads.push(load);
            }
        }
        if is(Mutant::PartitionsOutsideLock) {
            loads.clone_from(&self.looked_at);
        } else if loads.is_empty() {
            return None;
        }
        if is(Mutant::RowDeletedEarly) {
            self.clearable.extend(loads.iter().map(|load| (load.assignment.partition, load.to)));
        }
        self.transactions += 1;
        let transaction = Transaction { number: self.transactions, loads };
        self.in_flight = Some(transaction.clone());
        Some(transaction)
    }

    /// The transaction's end; gives it back unless it was not the one under way.
    pub fn ended(&mut self, number: u64, ended: Ended) -> Option<Transaction<R>> {
        let transaction = self.in_flight.take_if(|transaction| transaction.number == number)?;
        if ended == Ended::InDoubt {
            self.producer = Producer::Missing;
        }
        self.shares = match ended {
            Ended::Committed => (self.shares / 2).max(1),
            Ended::Aborted | Ended::InDoubt => (self.shares * 2).min(SHARES_MAX),
        };
        for load in &transaction.loads {
            if ended == Ended::Committed {
                self.clearable.insert(load.assignment.partition, load.to);
            }
            let Some(served) = self.served(load.assignment) else { continue };
            match ended {
                Ended::Committed if load.read_back => {
                    served.errand = Errand::None;
                    served.unpublished.published_from_outbox(load.to, &load.spans);
                }
                Ended::Committed => served.unpublished.published(load.to),
                // Read again when it is its turn: an abort must not let what is held grow.
                Ended::Aborted if load.read_back => served.errand = Errand::None,
                Ended::Aborted => {}
                Ended::InDoubt => served.doubt(),
            }
        }
        Some(transaction)
    }

    /// Whether the producer is there now.
    pub fn producer_opened(&mut self, is_open: bool) {
        self.producers += u64::from(is_open);
        self.producer = if is_open { Producer::Open(self.producers) } else { Producer::Missing };
    }

    /// Number of the transaction under way.
    pub fn under_way(&self) -> Option<u64> {
        self.in_flight.as_ref().map(|transaction| transaction.number)
    }

    /// What the broker says of the group's offset; `None`: nothing yet. Whether the partition is still served so.
    pub fn group_offset_read(&mut self, assignment: Assignment, group: Option<GroupOffset>) -> bool {
        let Some(served) = self.served(assignment) else { return false };
        let is_asked = matches!(served.errand, Errand::AskingGroupOffset);
        if is_asked || matches!(served.errand, Errand::AskedInVain) {
            served.errand = Errand::None;
        }
        if !is_asked {
            return false;
        }
        let Some(group) = group else { return true };
        if !served.unpublished.group_offset_read(group) {
            return true;
        }
        if let GroupOffset::At(offset) = group {
            self.clearable.insert(assignment.partition, offset);
        }
        true
    }

    /// What the outbox held; `None`: the database did not say.
    pub fn outbox_read(&mut self, assignment: Assignment, from: i64, read: Option<OutboxRead<R>>) {
        let Some(served) = self.served(assignment) else { return };
        if !matches!(served.errand, Errand::ReadingOutbox) {
            return;
        }
        served.errand = Errand::Resting;
        let Some(OutboxRead { rows, position }) = read else { return };
        if served.unpublished.group() != GroupOffset::At(from) {
            return;
        }
        let rows = contiguous_from(rows, from);
        if !rows.is_empty() {
            served.errand = Errand::RowsRead(rows);
        } else if let Some(position) = position.filter(|&position| position > from) {
            served.errand = Errand::RowMissing { from, position };
        }
    }

    /// What the broker said before a partition is halted: the offset decides, not what was known of it.
    pub fn group_offset_confirmed(&mut self, assignment: Assignment, group: Option<GroupOffset>) {
        let Some(served) = self.served(assignment) else { return };
        let Errand::Confirming { from, position } = served.errand else { return };
        if group == Some(GroupOffset::At(from)) {
            served.errand = Errand::ToHalt(HaltReason::OutboxRowMissing { offset: from, position });
        } else {
            served.errand = Errand::Resting;
            served.doubt();
        }
    }

    /// The reason stands in the database, or could not be written.
    pub fn halt_written(&mut self, assignment: Assignment) {
        if let Some(served) = self.served(assignment) {
            served.errand = Errand::Resting;
        }
    }

    /// Offsets up to which outbox rows may go, by partition; they are told once.
    pub fn take_clearable(&mut self) -> Vec<(i32, i64)> {
        std::mem::take(&mut self.clearable).into_iter().collect()
    }

    /// Something waits to be published or asked for.
    pub fn has_work(&self) -> bool {
        let waits = |served: &Served<R>| served.unpublished.has_unpublished() || served.start_to_commit.is_some();
        self.producer == Producer::Missing || self.served.values().any(waits)
    }

    /// Bytes of outbox rows that memory holds.
    pub fn held_bytes(&self) -> usize {
        self.served.values().map(|served| served.unpublished.held_bytes()).sum()
    }

    /// Outbox rows that wait for publishing.
    pub fn batches(&self) -> usize {
        self.served.values().map(|served| served.unpublished.backlog().batches).sum()
    }
}

impl<R> Load<R> {
    fn bytes(&self) -> usize {
        self.spans.iter().map(|span| span.bytes).sum()
    }
}

#[cfg(test)]
mod tests;
