//! Deliberate defects, one at a time, to see that the tests find them.
//!
//! Only with the feature `fault-injection`, which no release has: without it [`is`] answers "no" at compile time and the fail
//! points (`fail::fail_point!`, before and after each durable step) are nothing. `DOSI_MUTANT` names the defect of a process,
//! `FAILPOINTS` the place where it is to end.

/// A defect that would break "each event once, in order, nothing lost".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The position moves wherever it stands.
    CompareAndSetLeftOut,
    /// The position moves in a transaction of its own.
    PositionOutsideTransaction,
    /// A batch leaves no outbox row.
    OutboxSkipped,
    /// The publisher has a batch's output before the batch is committed.
    OffsetBeforeDatabase,
    /// The group's offset is committed beside the Kafka transaction.
    OffsetOutsideTransaction,
    /// A revocation does not wait for the transaction that carries the partition, and that takes the group's metadata last.
    LateOffset,
    /// What a transaction carries is taken before the lock that the rebalance callback takes.
    PartitionsOutsideLock,
    /// The group's metadata are of a consumer that is no member.
    ForeignGroupMetadata,
    /// Rows are sent wherever they start.
    RowNotNext,
    /// Outbox rows go when their transaction begins.
    RowDeletedEarly,
    /// The sequence rule is decided on rows that nobody locked.
    SequenceWithoutLock,
    /// Services and histories are compared as they stood, not locked.
    RowsWithoutLock,
    /// An event under suspicion is left for later.
    LaterEventPasses,
    /// A dead letter is written and the partition stays where it is.
    PartitionStopsAtDeadLetter,
    /// Redone event by event, only the last one moves the position.
    PartsWithoutPosition,
}

impl Mutant {
    pub const ALL: [Self; 15] = [
        Self::CompareAndSetLeftOut,
        Self::PositionOutsideTransaction,
        Self::OutboxSkipped,
        Self::OffsetBeforeDatabase,
        Self::OffsetOutsideTransaction,
        Self::LateOffset,
        Self::PartitionsOutsideLock,
        Self::ForeignGroupMetadata,
        Self::RowNotNext,
        Self::RowDeletedEarly,
        Self::SequenceWithoutLock,
        Self::RowsWithoutLock,
        Self::LaterEventPasses,
        Self::PartitionStopsAtDeadLetter,
        Self::PartsWithoutPosition,
    ];

    /// As `DOSI_MUTANT` names it.
    pub fn name(self) -> String {
        let mut name = String::new();
        for character in format!("{self:?}").chars() {
            if character.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.extend(character.to_lowercase());
        }
        name
    }
}

/// Whether the defect is wanted.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub const fn is(_: Mutant) -> bool {
    false
}

#[cfg(feature = "fault-injection")]
pub use wanted::{is, set_up, with};

#[cfg(feature = "fault-injection")]
mod wanted {
    use std::{cell::Cell, env, sync::OnceLock};

    use super::Mutant;

    static OF_PROCESS: OnceLock<Option<Mutant>> = OnceLock::new();

    thread_local! {
        static OF_THREAD: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    fn of_process() -> Option<Mutant> {
        *OF_PROCESS.get_or_init(|| {
            let name = env::var("DOSI_MUTANT").ok()?;
            let found = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
            Some(found.unwrap_or_else(|| unreachable!("DOSI_MUTANT={name} is no defect")))
        })
    }

    /// Whether the defect is wanted.
    pub fn is(mutant: Mutant) -> bool {
        OF_THREAD.get().or_else(of_process) == Some(mutant)
    }

    /// Has a defect on this thread while `act` runs.
    pub fn with<T>(mutant: Mutant, act: impl FnOnce() -> T) -> T {
        OF_THREAD.set(Some(mutant));
        let result = act();
        OF_THREAD.set(None);
        result
    }

    /// Reads `FAILPOINTS` and `DOSI_MUTANT`.
    pub fn set_up() {
        // Dropped with the process.
        std::mem::forget(fail::FailScenario::setup());
        of_process();
    }
}

#[cfg(test)]
mod tests {
    use super::Mutant;

    #[test]
    fn names_are_words() {
        assert_eq!(Mutant::CompareAndSetLeftOut.name(), "compare-and-set-left-out");
    }
}
