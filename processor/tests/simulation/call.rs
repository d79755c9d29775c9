//! What instances ask and are told.

use dosi::protocol::{
    applying::{Tried, Try},
    lane::Halted,
    position::{Applied as Position, GroupOffset, HaltReason, LogEnds},
    publisher::{Assignment, OutboxRead},
    unpublished::Backlog,
};

use crate::{
    broker::Refused,
    database::{Event, Fault, Outcome},
};

/// What is asked of the database or the brokers.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    ReadPosition(i32),
    ReadLogEnds(i32),
    InsertStart(i32, i64),
    Halt(i32, HaltReason),
    CountBacklog(i32, i64),
    Try {
        partition: i32,
        one: Try<Fault>,
        events: Vec<Event>,
        is_published: bool,
    },
    Probe,
    /// Where the lanes that are idle have moved their positions.
    LookAtPositions(Vec<(Assignment, i64)>),
    ReadOutbox(Assignment, i64),
    DeletePublished(Vec<(i32, i64)>),
    GroupOffset(Assignment),
    OpenProducer,
    Produce {
        epoch: u64,
        records: Vec<(i32, Outcome)>,
    },
    SendOffsets {
        epoch: u64,
        generation: u64,
        offsets: Vec<(i32, i64)>,
    },
    /// Whether the group's offsets are what the broker told before.
    Confirm(Vec<(i32, i64)>),
    End {
        epoch: u64,
        commit: bool,
    },
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Position(Option<Position>, Option<Halted>),
    LogEnds(LogEnds),
    Done,
    Backlog(Backlog),
    Tried(Tried<Fault>),
    Positions(Vec<i64>),
    Outbox(OutboxRead<Vec<Outcome>>),
    GroupOffset(Option<GroupOffset>),
    Opened(u64),
    Brokers(Result<(), Refused>),
    /// No answer: it was done, or not.
    Lost,
}

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Lane(Assignment),
    Publisher,
    /// The publisher, which does not wait for it.
    Asker,
    Clearer,
    /// Looks now and then whether the database still has what was committed.
    Looker,
    /// The thread of a transaction.
    Thread(u64),
}
