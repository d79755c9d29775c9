//! The thread that carries one Kafka transaction, stage by stage.

use dosi::protocol::publisher::{Load, Transaction};

use crate::{call::Request, database::Outcome};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Begin,
    Produce,
    SendOffsets,
    Confirm,
    Commit,
    Abort,
}

/// A blocking thread that carries one transaction.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) number: u64,
    pub(crate) producer: u64,
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    pub(crate) stage: Stage,
    pub(crate) transaction: Option<Transaction<Vec<Outcome>>>,
    pub(crate) is_abandoned: bool,
    pub(crate) is_busy: bool,
    /// Given up by the watchdog: it goes on, and nobody listens.
    pub(crate) is_left_behind: bool,
}

impl Thread {
    /// What the stage asks of the brokers.
    pub(crate) fn request(&self) -> Option<Request> {
        let transaction = self.transaction.as_ref()?;
        let epoch = self.epoch;
        Some(match self.stage {
            Stage::Begin => return None,
            Stage::Produce => {
                let of = |load: &Load<Vec<Outcome>>| {
                    let (partition, from) = (load.assignment.partition, load.from);
                    let outcomes = load.spans.iter().flat_map(|span| span.records.clone());
                    outcomes
                        .filter(move |(offset, _)| *offset >= from)
                        .map(move |outcome| (partition, outcome))
                        .collect::<Vec<_>>()
                };
                Request::Produce { epoch, records: transaction.loads.iter().flat_map(of).collect() }
            }
            Stage::SendOffsets => {
                let offsets = transaction.loads.iter().map(|load| (load.assignment.partition, load.to)).collect();
                Request::SendOffsets { epoch, generation: self.generation, offsets }
            }
            Stage::Confirm => {
                let told = transaction.loads.iter().filter(|load| load.is_told);
                Request::Confirm(told.map(|load| (load.assignment.partition, load.from)).collect())
            }
            Stage::Commit => Request::End { epoch, commit: true },
            Stage::Abort => Request::End { epoch, commit: false },
        })
    }
}
