//! What the publisher knows of one partition that it serves.

use super::{Assignment, Work};
use crate::protocol::{
    position::HaltReason,
    unpublished::{OutboxSpan, Unpublished},
};

#[derive(Debug)]
pub(super) struct Served<R> {
    pub(super) number: u64,
    pub(super) unpublished: Unpublished<R>,
    pub(super) start_to_commit: Option<i64>,
    pub(super) errand: Errand<R>,
}

/// What is under way for a partition outside of the transaction.
#[derive(Clone, Debug)]
pub(super) enum Errand<R> {
    None,
    AskingGroupOffset,
    /// Doubted since it was asked: the answer says nothing.
    AskedInVain,
    ReadingOutbox,
    /// Rows that go on from the group's offset.
    RowsRead(Vec<OutboxSpan<R>>),
    RowMissing {
        from: i64,
        position: i64,
    },
    Confirming {
        from: i64,
        position: i64,
    },
    ToHalt(HaltReason),
    Halting,
    /// Nothing more before the next round.
    Resting,
}

impl<R: Clone> Served<R> {
    pub(super) fn doubt(&mut self) {
        self.unpublished.doubt();
        match self.errand {
            Errand::RowsRead(_) => self.errand = Errand::None,
            Errand::AskingGroupOffset => self.errand = Errand::AskedInVain,
            _ => {}
        }
    }

    pub(super) fn errand_begins(&mut self, assignment: Assignment) -> Option<Work> {
        match self.errand {
            Errand::RowMissing { from, position } => {
                self.errand = Errand::Confirming { from, position };
                Some(Work::ConfirmGroupOffset { assignment, from })
            }
            Errand::ToHalt(ref reason) => {
                let work = Work::Halt(assignment, reason.clone());
                self.errand = Errand::Halting;
                Some(work)
            }
            _ => None,
        }
    }
}
