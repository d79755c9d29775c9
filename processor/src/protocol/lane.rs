//! How a lane begins: position, group's offset and log are held against each other until there is a place to apply from
//! (design: applying; beginnings, ends and edges).

use super::position::{Applied, GroupOffset, HaltReason, LogEnds, Start, needs_log_ends, start};

/// One partition's lane, from its assignment to its revocation.
#[derive(Debug)]
pub struct Lane {
    stage: Stage,
    /// How often it has begun to apply.
    life: u64,
    /// The broker refused an offset: the log's ends are to be looked at, too.
    check_log: bool,
}

#[derive(Clone, Debug)]
enum Stage {
    Reading,
    Looking(Option<Applied>),
    Inserting(i64),
    CommittingStart(i64),
    AwaitingBroker,
    Confirming(HaltReason),
    Halting(HaltReason),
    Halted(Halted),
    Counting(i64),
    Beginning(i64),
    Applying(i64),
}

/// A row of `dos_integration.consumer_position` that says that a person is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halted {
    pub position: i64,
    /// The line that names the repair.
    pub line: String,
}

/// What is to be done next. Unless it says otherwise, the answer is [`Lane::done`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the position's row: [`Lane::position_read`].
    ReadPosition,
    /// Ask the broker where the log begins and ends: [`Lane::log_ends_read`].
    ReadLogEnds,
    /// Write a row with this position and start, unless there is one.
    InsertStart(i64),
    /// Have the publisher give the group this offset, and wait until the group has one.
    CommitStart(i64),
    /// Wait until the publisher knows the group's offset, and a moment: what the broker has told so far does not decide.
    AwaitBroker,
    /// Ask the broker for the group's offset once more: [`Lane::group_confirmed`]. What was known of it may be older than
    /// the position: a process that hung for long would halt what goes on elsewhere.
    ConfirmGroup,
    /// Write down why the partition halts, if its position is still the one that the reason names.
    Halt(HaltReason),
    /// Wait a while: a person may have repaired it then.
    StayHalted(Halted),
    /// Count what a former life or owner left in the outbox behind this position: [`Lane::done`].
    CountBacklog(i64),
    /// Have the consumer deliver from `from` on: [`Lane::begun`] once the mark with this `life` comes.
    Begin { from: i64, life: u64 },
    /// Apply what comes, until [`Lane::restart`].
    Apply { from: i64 },
}

impl Default for Lane {
    fn default() -> Self {
        Self::new()
    }
}

impl Lane {
    pub fn new() -> Self {
        Self { stage: Stage::Reading, life: 0, check_log: false }
    }

    pub fn step(&self) -> Step {
        match self.stage.clone() {
            Stage::Reading => Step::ReadPosition,
            Stage::Looking(_) => Step::ReadLogEnds,
            Stage::Inserting(at) => Step::InsertStart(at),
            Stage::CommittingStart(at) => Step::CommitStart(at),
            Stage::AwaitingBroker => Step::AwaitBroker,
            Stage::Confirming(_) => Step::ConfirmGroup,
            Stage::Halting(reason) => Step::Halt(reason),
            Stage::Halted(halted) => Step::StayHalted(halted),
            Stage::Counting(position) => Step::CountBacklog(position),
            Stage::Beginning(from) => Step::Begin { from, life: self.life },
            Stage::Applying(from) => Step::Apply { from },
        }
    }

    /// The row, or its absence, with the group's offset as far as it is known.
    pub fn position_read(&mut self, row: Option<Applied>, halted: Option<Halted>, group: GroupOffset) {
        if let Some(halted) = halted {
            self.stage = Stage::Halted(halted);
        } else if self.check_log || needs_log_ends(row, group) {
            self.stage = Stage::Looking(row);
        } else {
            self.decide(row, group, None);
        }
    }

    /// The log's ends; `None` when the broker did not tell.
    pub fn log_ends_read(&mut self, ends: Option<LogEnds>, group: GroupOffset) {
        if let Stage::Looking(row) = self.stage {
            if self.check_log && ends.is_none() {
                self.stage = Stage::AwaitingBroker;
            } else {
                self.check_log = false;
                self.decide(row, group, ends);
            }
        }
    }

    fn decide(&mut self, row: Option<Applied>, group: GroupOffset, ends: Option<LogEnds>) {
        self.stage = match start(row, group, ends) {
            Start::Insert(at) => Stage::Inserting(at),
            Start::CommitStart(at) => Stage::CommittingStart(at),
            Start::AwaitGroupOffset => Stage::AwaitingBroker,
            Start::Apply(from) => Stage::Counting(from),
            Start::Halt(reason) if reason.group_offset().is_some() => Stage::Confirming(reason),
            Start::Halt(reason) => Stage::Halting(reason),
        };
    }

    /// The group's offset now; `false` when it is not what the halt is for. `None` when the broker did not tell: it is asked
    /// again, as nothing may be applied meanwhile.
    pub fn group_confirmed(&mut self, group: Option<GroupOffset>) -> bool {
        let Stage::Confirming(reason) = &self.stage else { return true };
        if group.is_none() {
            return true;
        }
        let is_confirmed = group == reason.group_offset();
        self.stage = if is_confirmed { Stage::Halting(reason.clone()) } else { Stage::Reading };
        is_confirmed
    }

    /// The step was done.
    pub fn done(&mut self) {
        self.stage = match self.stage {
            Stage::Counting(from) => {
                self.life += 1;
                Stage::Beginning(from)
            }
            _ => Stage::Reading,
        };
    }

    /// What comes now starts at the place that this life asked for; a mark of an earlier life says nothing.
    pub fn begun(&mut self, life: u64) {
        if let Stage::Beginning(from) = self.stage
            && life == self.life
        {
            self.stage = Stage::Applying(from);
        }
    }

    /// Back to the position in the database: what was known of it does not hold (a fence, a fault, another log).
    pub fn restart(&mut self) {
        self.stage = Stage::Reading;
    }

    /// As [`Lane::restart`], and the log's ends are to be looked at before anything is applied.
    pub fn check_log(&mut self) {
        self.check_log = true;
        self.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(position: i64) -> Applied {
        Applied { position, start: 0 }
    }

    #[test]
    fn a_partition_never_seen_gets_its_row_then_the_groups_offset_then_begins() {
        let mut lane = Lane::new();
        lane.position_read(None, None, GroupOffset::Missing);
        assert_eq!(lane.step(), Step::ReadLogEnds);
        lane.log_ends_read(Some(LogEnds { low: 3, high: 9 }), GroupOffset::Missing);
        assert_eq!(lane.step(), Step::InsertStart(3));
        lane.done();
        let beginning = Some(Applied { position: 3, start: 3 });
        lane.position_read(beginning, None, GroupOffset::Missing);
        lane.log_ends_read(Some(LogEnds { low: 3, high: 9 }), GroupOffset::Missing);
        assert_eq!(lane.step(), Step::CommitStart(3));
        lane.done();
        lane.position_read(beginning, None, GroupOffset::At(3));
        assert_eq!(lane.step(), Step::CountBacklog(3));
    }

    #[test]
    fn a_mark_of_an_earlier_life_is_not_taken_for_this_one() {
        let mut lane = Lane::new();
        for life in [1, 2] {
            lane.position_read(Some(row(5)), None, GroupOffset::Unknown);
            lane.done();
            assert_eq!(lane.step(), Step::Begin { from: 5, life });
            lane.restart();
        }
        lane.position_read(Some(row(7)), None, GroupOffset::Unknown);
        lane.done();
        lane.begun(2);
        assert_eq!(lane.step(), Step::Begin { from: 7, life: 3 });
        lane.begun(3);
        assert_eq!(lane.step(), Step::Apply { from: 7 });
    }

    #[test]
    fn a_refused_offset_is_held_against_the_log() {
        let mut lane = Lane::new();
        lane.check_log();
        lane.position_read(Some(row(5)), None, GroupOffset::At(5));
        assert_eq!(lane.step(), Step::ReadLogEnds);
        lane.log_ends_read(Some(LogEnds { low: 6, high: 9 }), GroupOffset::At(5));
        assert_eq!(lane.step(), Step::Halt(HaltReason::BeforeLogStart { position: 5, low: 6 }));
    }

    #[test]
    fn nothing_is_halted_for_what_was_known_long_ago() {
        let mut lane = Lane::new();
        let log = Some(LogEnds { low: 0, high: 9 });
        for (confirmed, next) in [
            (Some(GroupOffset::At(5)), Step::ReadPosition),
            (Some(GroupOffset::Missing), Step::Halt(HaltReason::GroupOffsetMissing { position: 5 })),
        ] {
            lane.position_read(Some(row(5)), None, GroupOffset::Missing);
            lane.log_ends_read(log, GroupOffset::Missing);
            assert_eq!(lane.step(), Step::ConfirmGroup);
            assert!(lane.group_confirmed(None));
            assert_eq!(lane.step(), Step::ConfirmGroup, "asked again");
            assert_eq!(lane.group_confirmed(confirmed), next != Step::ReadPosition);
            assert_eq!(lane.step(), next);
        }
    }

    #[test]
    fn a_broker_that_does_not_tell_leaves_the_question_open() {
        let mut lane = Lane::new();
        lane.check_log();
        lane.position_read(Some(row(5)), None, GroupOffset::At(5));
        lane.log_ends_read(None, GroupOffset::At(5));
        assert_eq!(lane.step(), Step::AwaitBroker);
        lane.done();
        lane.position_read(Some(row(5)), None, GroupOffset::At(5));
        assert_eq!(lane.step(), Step::ReadLogEnds);
    }
}
