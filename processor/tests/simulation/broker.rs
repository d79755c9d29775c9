//! The brokers as the protocol sees them: the group with its generations, transactional ids with their epochs, offsets that
//! are pending while a transaction is open, and an output log of which a `read_committed` reader sees a part.

use std::collections::{BTreeMap, BTreeSet};

use dosi::{
    fault_injection::{Mutant, is},
    protocol::position::GroupOffset,
};

use crate::database::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Transaction {
    state: State,
    offsets: BTreeMap<i32, i64>,
}

/// A transactional id.
#[derive(Debug, Default)]
struct Id {
    epoch: u64,
    open: Option<usize>,
}

/// Why the broker refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A newer producer with the same id, or the coordinator after a time-out, has taken over.
    Fenced,
    /// The member is not of the group's present generation.
    Generation,
    /// The group's offset is not what the transaction goes on from.
    Offset,
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    ids: BTreeMap<usize, Id>,
    transactions: Vec<Transaction>,
    /// Partition and outcome told, and the transaction that wrote it.
    output: Vec<(i32, Outcome, usize)>,
    committed: BTreeMap<i32, i64>,
    /// What was committed before.
    former: BTreeMap<i32, i64>,
    /// The coordinator has moved and does not know yet that its last records are on enough brokers: it tells what was before.
    /// Whatever it writes next is there only when all before it is.
    pub(crate) is_behind: bool,
    pub(crate) group: Group,
}

/// Who serves what.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) generation: u64,
    pub(crate) members: BTreeSet<usize>,
    pub(crate) owners: BTreeMap<i32, usize>,
}

impl Broker {
    /// A producer for the instance: what its predecessor left open is aborted. Its epoch.
    pub(crate) fn open(&mut self, id: usize) -> u64 {
        self.abort_open(id);
        let id = self.ids.entry(id).or_default();
        id.epoch += 1;
        id.epoch
    }

    /// The coordinator ends a transaction that took too long.
    pub(crate) fn time_out(&mut self, id: usize) -> bool {
        let was_open = self.abort_open(id);
        if was_open {
            self.ids.entry(id).or_default().epoch += 1;
        }
        was_open
    }

    fn abort_open(&mut self, id: usize) -> bool {
        let open = self.ids.entry(id).or_default().open.take();
        if let Some(open) = open {
            self.transactions[open].state = State::Aborted;
        }
        open.is_some()
    }

    fn open_transaction(&mut self, id: usize, epoch: u64) -> Result<usize, Refused> {
        let id = self.ids.entry(id).or_default();
        if id.epoch != epoch {
            return Err(Refused::Fenced);
        }
        if id.open.is_none() {
            self.transactions.push(Transaction { state: State::Open, offsets: BTreeMap::new() });
            id.open = Some(self.transactions.len() - 1);
        }
        id.open.ok_or(Refused::Fenced)
    }

    pub(crate) fn produce(&mut self, id: usize, epoch: u64, records: &[(i32, Outcome)]) -> Result<(), Refused> {
        let open = self.open_transaction(id, epoch)?;
        self.output.extend(records.iter().map(|&(partition, outcome)| (partition, outcome, open)));
        Ok(())
    }

    /// Checks the generation and nothing else: not who owns the partition, not whether the offset goes back.
    pub(crate) fn send_offsets(
        &mut self,
        id: usize,
        epoch: u64,
        generation: u64,
        offsets: &[(i32, i64)],
    ) -> Result<(), Refused> {
        let is_member = self.group.members.contains(&id) && self.group.generation == generation;
        if !is_member && !is(Mutant::ForeignGroupMetadata) {
            return Err(Refused::Generation);
        }
        let open = self.open_transaction(id, epoch)?;
        self.transactions[open].offsets.extend(offsets.iter().copied());
        self.is_behind = false;
        Ok(())
    }

    /// Whether the group's committed offsets are these, whatever is pending.
    pub(crate) fn is_where_told(&self, told: &[(i32, i64)]) -> Result<(), Refused> {
        let is_same = told.iter().all(|(partition, offset)| self.committed.get(partition) == Some(offset));
        if is_same { Ok(()) } else { Err(Refused::Offset) }
    }

    pub(crate) fn end(&mut self, id: usize, epoch: u64, commit: bool) -> Result<(), Refused> {
        let id = self.ids.entry(id).or_default();
        if id.epoch != epoch {
            return Err(Refused::Fenced);
        }
        let Some(open) = id.open.take() else { return Ok(()) };
        let transaction = &mut self.transactions[open];
        transaction.state = if commit { State::Committed } else { State::Aborted };
        if commit {
            for (&partition, &offset) in &transaction.offsets {
                let before = self.committed.insert(partition, offset);
                self.former.extend(before.map(|before| (partition, before)));
            }
        }
        Ok(())
    }

    /// `None` while a transaction that may change it is open.
    pub(crate) fn group_offset(&self, partition: i32) -> Option<GroupOffset> {
        if self.is_behind
            && let Some(&offset) = self.former.get(&partition)
        {
            return Some(GroupOffset::At(offset));
        }
        let is_pending = |open: usize| self.transactions[open].offsets.contains_key(&partition);
        if self.ids.values().filter_map(|id| id.open).any(is_pending) {
            return None;
        }
        Some(self.committed.get(&partition).map_or(GroupOffset::Missing, |&offset| GroupOffset::At(offset)))
    }

    /// What a `read_committed` reader has seen of a partition's outcomes, in order.
    pub(crate) fn outcomes(&self, partition: i32) -> Vec<Outcome> {
        let committed = |&&(of, _, transaction): &&(i32, Outcome, usize)| {
            of == partition && self.transactions[transaction].state == State::Committed
        };
        self.output.iter().filter(committed).map(|&(_, outcome, _)| outcome).collect()
    }

    pub(crate) fn has_open_transaction(&self) -> bool {
        self.ids.values().any(|id| id.open.is_some())
    }
}
