//! Where a partition stands: the position in the database, the group's offset in Kafka, the ends of the log,
//! and what may be done when they are held against each other (design: beginnings, ends and edges).

use std::fmt;

/// A row of `dos_integration.consumer_position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Offset of the next record to apply.
    pub position: i64,
    /// The position the partition began with, or was last set to by a person.
    pub start: i64,
}

/// The group's committed offset: the next record whose audit is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOffset {
    /// Not read yet, or in doubt since a Kafka transaction whose end is not known.
    Unknown,
    /// The broker has none.
    Missing,
    At(i64),
}

/// The log's ends as a `read_committed` reader sees them: first offset, and the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    pub low: i64,
    pub high: i64,
}

/// How a lane begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing was ever applied: write a row with this position and start.
    Insert(i64),
    /// Nothing was ever applied and the group has no offset: commit this one, then look again.
    CommitStart(i64),
    /// The group's offset decides and is not known yet.
    AwaitGroupOffset,
    /// Apply from this position.
    Apply(i64),
    /// A person must say how to go on.
    Halt(HaltReason),
}

/// Why a partition halts. Nothing is reset silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HaltReason {
    /// The group has an offset that is not the log's first one, the database has no position.
    PositionMissing { group_offset: i64 },
    /// The database has a position, the group has no offset: the topic was deleted and made again, or the group's offsets expired.
    GroupOffsetMissing { position: i64 },
    /// Records that were never applied are gone.
    BeforeLogStart { position: i64, low: i64 },
    /// The log ends before the position: it is another log.
    BeyondLogEnd { position: i64, high: i64 },
    /// The position is past an offset that was never published and has no outbox row.
    OutboxRowMissing { offset: i64, position: i64 },
}

/// Holds what is known against each other. `log` is only asked for where it decides; `None` means it was not asked.
pub fn start(applied: Option<Applied>, group: GroupOffset, log: Option<LogEnds>) -> Start {
    match (applied, group) {
        (None, GroupOffset::Unknown) => Start::AwaitGroupOffset,
        (None, GroupOffset::Missing) => log.map_or(Start::AwaitGroupOffset, |ends| Start::Insert(ends.low)),
        (None, GroupOffset::At(offset)) => match log {
            None => Start::AwaitGroupOffset,
            Some(ends) if ends.low == offset => Start::Insert(offset),
            Some(_) => Start::Halt(HaltReason::PositionMissing { group_offset: offset }),
        },
        (Some(row), group) => match (out_of_log(row.position, log), group) {
            (Some(reason), _) => Start::Halt(reason),
            // Until the group's first offset stands nothing may be applied: without it a later start could not
            // tell "never began" from "the topic was made again".
            (None, GroupOffset::Unknown) if row.position == row.start => Start::AwaitGroupOffset,
            (None, GroupOffset::Missing) if row.position == row.start => match log {
                None => Start::AwaitGroupOffset,
                Some(ends) if ends.low == row.start => Start::CommitStart(row.start),
                // It did not begin there but was set by a person: this may be another log than the one that was meant.
                Some(_) => Start::Halt(HaltReason::GroupOffsetMissing { position: row.position }),
            },
            (None, GroupOffset::Missing) => Start::Halt(HaltReason::GroupOffsetMissing { position: row.position }),
            (None, GroupOffset::Unknown | GroupOffset::At(_)) => Start::Apply(row.position),
        },
    }
}

/// Whether the log's ends are needed to tell how to begin.
pub fn needs_log_ends(applied: Option<Applied>, group: GroupOffset) -> bool {
    applied.is_none() || group == GroupOffset::Missing
}

/// Whether the database came back without its last commits: the position that was seen, asked for beside the work, is behind
/// where the lane had moved it before. Nothing else would say so before the partition's next event; the lane begins again.
pub fn is_behind(seen: i64, moved_to: i64) -> bool {
    seen < moved_to
}

fn out_of_log(position: i64, log: Option<LogEnds>) -> Option<HaltReason> {
    let ends = log?;
    if position < ends.low {
        Some(HaltReason::BeforeLogStart { position, low: ends.low })
    } else if position > ends.high {
        Some(HaltReason::BeyondLogEnd { position, high: ends.high })
    } else {
        None
    }
}

impl HaltReason {
    /// The group's offset that it is for, where that has a part in it.
    pub fn group_offset(&self) -> Option<GroupOffset> {
        match *self {
            Self::PositionMissing { group_offset } => Some(GroupOffset::At(group_offset)),
            Self::GroupOffsetMissing { .. } => Some(GroupOffset::Missing),
            Self::OutboxRowMissing { offset, .. } => Some(GroupOffset::At(offset)),
            Self::BeforeLogStart { .. } | Self::BeyondLogEnd { .. } => None,
        }
    }

    /// Whether the database has a position for it.
    pub fn has_position(&self) -> bool {
        !matches!(self, Self::PositionMissing { .. })
    }

    /// Where the partition stands while it is halted.
    pub fn position(&self) -> i64 {
        match *self {
            Self::PositionMissing { group_offset } => group_offset,
            Self::GroupOffsetMissing { position }
            | Self::BeforeLogStart { position, .. }
            | Self::BeyondLogEnd { position, .. }
            | Self::OutboxRowMissing { position, .. } => position,
        }
    }

    /// One line for logs, `/readyz` and `dos_integration`; it names the command that repairs.
    pub fn line(&self, topic: &str, partition: i32) -> String {
        format!(
            "{topic}/{partition} is halted: {self}; see `dosi position show`, then \
             `dosi position set --partition {partition} --offset M --reason …`"
        )
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PositionMissing { group_offset } => {
                write!(formatter, "the group is at offset {group_offset} but the database has no position")
            }
            Self::GroupOffsetMissing { position } => write!(
                formatter,
                "the database is at position {position} but the group has no offset \
                 (topic made again, or the group's offsets expired)"
            ),
            Self::BeforeLogStart { position, low } => {
                write!(
                    formatter,
                    "position {position} is before the log's first offset {low}: records were lost unread"
                )
            }
            Self::BeyondLogEnd { position, high } => {
                write!(formatter, "position {position} is beyond the log's end {high}: this is another log")
            }
            Self::OutboxRowMissing { offset, position } => write!(
                formatter,
                "offset {offset} is to be published next and position {position} is beyond it, but no outbox row holds it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Option<LogEnds> = Some(LogEnds { low: 10, high: 90 });

    fn row(position: i64, start: i64) -> Applied {
        Applied { position, start }
    }

    #[test]
    fn a_partition_never_seen_begins_at_the_logs_first_offset() {
        assert_eq!(start(None, GroupOffset::Missing, LOG), Start::Insert(10));
        assert_eq!(start(None, GroupOffset::At(10), LOG), Start::Insert(10));
    }

    #[test]
    fn nothing_is_applied_before_the_groups_first_offset_stands() {
        assert_eq!(start(Some(row(10, 10)), GroupOffset::Unknown, None), Start::AwaitGroupOffset);
        assert_eq!(start(Some(row(10, 10)), GroupOffset::Missing, LOG), Start::CommitStart(10));
        assert_eq!(start(Some(row(10, 10)), GroupOffset::At(10), None), Start::Apply(10));
    }

    #[test]
    fn takeover_does_not_wait_for_an_offset_that_a_dead_transaction_hides() {
        assert_eq!(start(Some(row(40, 10)), GroupOffset::Unknown, None), Start::Apply(40));
    }

    #[test]
    fn what_only_a_person_can_settle_halts() {
        let halted = [
            (None, GroupOffset::At(40), HaltReason::PositionMissing { group_offset: 40 }),
            (Some(row(40, 10)), GroupOffset::Missing, HaltReason::GroupOffsetMissing { position: 40 }),
            (Some(row(5, 0)), GroupOffset::At(5), HaltReason::BeforeLogStart { position: 5, low: 10 }),
            (Some(row(91, 10)), GroupOffset::At(91), HaltReason::BeyondLogEnd { position: 91, high: 90 }),
            (Some(row(5, 5)), GroupOffset::Missing, HaltReason::BeforeLogStart { position: 5, low: 10 }),
            (Some(row(40, 40)), GroupOffset::Missing, HaltReason::GroupOffsetMissing { position: 40 }),
        ];
        for (applied, group, reason) in halted {
            assert_eq!(start(applied, group, LOG), Start::Halt(reason));
        }
    }

    #[test]
    fn a_halt_line_names_the_command() {
        let line = HaltReason::PositionMissing { group_offset: 4 }.line("t", 3);
        assert!(line.contains("dosi position set --partition 3"), "{line}");
        assert!(!line.contains('\n'));
    }
}
