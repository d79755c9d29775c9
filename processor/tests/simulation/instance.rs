//! One process: what the pipeline does around the protocol, step by step, so that anything can happen between two steps.

use std::collections::BTreeMap;

use dosi::fault_injection::{Mutant, is};
use dosi::protocol::{
    applying::{Applying, Class, How, Progress, Step as Applied, Tried, Try},
    lane::{Lane, Step},
    position::{GroupOffset, is_behind},
    publisher::{Assignment, Bounds, Ended, Publisher, Work},
};

use crate::{
    broker::Refused,
    call::{Actor, Reply, Request},
    database::{Event, Fault, Outcome, Row},
    input::{Log, PartitionLog},
    transaction::{Stage, Thread},
};

/// So small that memory often does not hold what is to be sent, and one transaction not all of it.
const BOUNDS: Bounds = Bounds { partition_bytes: 3, transaction_bytes: 5, held_bytes: 4 };

#[derive(Debug)]
struct LaneActor {
    assignment: Assignment,
    protocol: Lane,
    is_busy: bool,
    applying: Option<Applying<Event, Fault>>,
    progress: Progress,
    /// Where the consumer delivers from, once it does.
    next: i64,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) incarnation: u64,
    pub(crate) is_paused: bool,
    pub(crate) has_joined: bool,
    /// The group's generation as this member knows it.
    pub(crate) generation: u64,
    pub(crate) halted: Option<String>,
    publisher: Publisher<Vec<Outcome>>,
    publisher_is_busy: bool,
    epoch: Option<u64>,
    lanes: BTreeMap<i32, LaneActor>,
    threads: Vec<Thread>,
    next_thread: u64,
}

impl Instance {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            is_paused: false,
            has_joined: false,
            generation: 0,
            halted: None,
            publisher: Publisher::new(BOUNDS),
            publisher_is_busy: false,
            epoch: None,
            lanes: BTreeMap::new(),
            threads: Vec::new(),
            next_thread: 0,
        }
    }

    pub(crate) fn partitions(&self) -> Vec<i32> {
        self.lanes.keys().copied().collect()
    }

    // The rebalance callback.

    pub(crate) fn assign(&mut self, partition: i32) {
        let assignment = self.publisher.assign(partition);
        let lane = LaneActor {
            assignment,
            protocol: Lane::new(),
            is_busy: false,
            applying: None,
            progress: Progress::new(0),
            next: 0,
        };
        self.lanes.insert(partition, lane);
    }

    /// The lanes are stopped; what they have asked of the database may still be done.
    pub(crate) fn revoke(&mut self, partitions: &[i32]) {
        self.publisher.revoke(partitions);
        for partition in partitions {
            self.lanes.remove(partition);
        }
    }

    /// No transaction carries them.
    pub(crate) fn is_given_up(&self, partitions: &[i32]) -> bool {
        is(Mutant::LateOffset) || !self.publisher.carries_any(partitions)
    }

    pub(crate) fn abandon(&mut self) {
        for thread in &mut self.threads {
            thread.is_abandoned = true;
        }
    }

    /// Somebody may have changed the group's offset: it is asked for again.
    pub(crate) fn doubt(&mut self) {
        for lane in self.lanes.values() {
            self.publisher.doubt(lane.assignment);
        }
    }

    /// The watchdog: the publisher goes on without the thread.
    pub(crate) fn leave_thread_behind(&mut self) -> bool {
        let Some(thread) = self.threads.iter_mut().find(|thread| !thread.is_left_behind) else { return false };
        thread.is_left_behind = true;
        self.epoch = None;
        match self.publisher.under_way() {
            Some(number) => drop(self.publisher.ended(number, Ended::InDoubt)),
            None => self.publisher.producer_opened(false),
        }
        true
    }

    // Lanes.

    /// The lane goes on by itself as far as a question; `hand` says how many records it finds.
    pub(crate) fn step_lane(&mut self, partition: i32, log: &Log, hand: usize) -> Option<(Actor, Request)> {
        let lane = self.lanes.get_mut(&partition)?;
        if lane.is_busy {
            return None;
        }
        let group = self.publisher.group_offset(lane.assignment);
        let request = if lane.applying.is_some() {
            lane.apply(&self.publisher)?
        } else {
            match lane.protocol.step() {
                Step::ReadPosition => Request::ReadPosition(partition),
                Step::ReadLogEnds => Request::ReadLogEnds(partition),
                Step::InsertStart(at) => Request::InsertStart(partition, at),
                Step::ConfirmGroup => Request::GroupOffset(lane.assignment),
                Step::Halt(reason) => Request::Halt(partition, reason),
                Step::CountBacklog(position) => Request::CountBacklog(partition, position),
                Step::StayHalted(halted) => {
                    self.halted = Some(halted.line);
                    return None;
                }
                Step::CommitStart(at) => {
                    self.publisher.commit_start(lane.assignment, Some(at));
                    if matches!(group, GroupOffset::At(_)) {
                        self.publisher.commit_start(lane.assignment, None);
                        lane.protocol.done();
                    }
                    return None;
                }
                Step::AwaitBroker => {
                    if group != GroupOffset::Unknown {
                        lane.protocol.done();
                    }
                    return None;
                }
                Step::Begin { from, life } => {
                    // A mark of an earlier life may come first.
                    lane.protocol.begun(life.wrapping_sub(u64::from(hand == 1)));
                    (lane.next, lane.progress) = (from, Progress::new(from));
                    return None;
                }
                Step::Apply { .. } if group == GroupOffset::Missing => {
                    lane.protocol.restart();
                    return None;
                }
                Step::Apply { .. } => {
                    lane.take(log.partition(partition), hand);
                    return None;
                }
            }
        };
        lane.is_busy = true;
        if let Request::Try { one, events, .. } = &request
            && is(Mutant::OffsetBeforeDatabase)
        {
            let span = span_of(one, events);
            self.publisher.applied(lane.assignment, span);
        }
        Some((Actor::Lane(lane.assignment), request))
    }

    pub(crate) fn answer_lane(&mut self, assignment: Assignment, request: &Request, reply: Reply) {
        let group = self.publisher.group_offset(assignment);
        let Some(lane) = self.lanes.get_mut(&assignment.partition) else { return };
        if lane.assignment != assignment {
            return;
        }
        lane.is_busy = false;
        match (request, reply) {
            (Request::Try { one, events, .. }, Reply::Tried(tried)) => {
                if tried == Tried::Applied && !is(Mutant::OffsetBeforeDatabase) {
                    self.publisher.applied(assignment, span_of(one, events));
                }
                lane.tried(&tried);
            }
            (Request::Try { .. }, _) => lane.tried(&Tried::Failed(Fault(Class::ConnectionLost))),
            (Request::Probe, reply) => lane.probed(matches!(reply, Reply::Done)),
            (_, Reply::Position(row, halted)) => lane.protocol.position_read(row, halted, group),
            (_, Reply::LogEnds(ends)) => lane.protocol.log_ends_read(Some(ends), group),
            (Request::ReadLogEnds(_), _) => lane.protocol.log_ends_read(None, group),
            (Request::GroupOffset(_), reply) => {
                let group = if let Reply::GroupOffset(group) = reply { group } else { None };
                if !lane.protocol.group_confirmed(group) {
                    self.publisher.doubt(assignment);
                }
            }
            (Request::CountBacklog(_, position), Reply::Backlog(backlog)) => {
                self.publisher.restart(assignment, *position, backlog);
                lane.protocol.done();
            }
            (_, Reply::Done) => lane.protocol.done(),
            (_, _) => lane.protocol.restart(),
        }
    }

    pub(crate) fn look_at_positions(&self) -> Option<(Actor, Request)> {
        let applying = self.lanes.values().filter(|lane| matches!(lane.protocol.step(), Step::Apply { .. }));
        let moved: Vec<_> = applying.map(|lane| (lane.assignment, lane.position())).collect();
        (!moved.is_empty()).then_some((Actor::Looker, Request::LookAtPositions(moved)))
    }

    pub(crate) fn answer_looker(&mut self, request: &Request, reply: &Reply) {
        let (Request::LookAtPositions(moved), Reply::Positions(seen)) = (request, reply) else { return };
        for (&(assignment, moved_to), &seen) in moved.iter().zip(seen) {
            let Some(lane) = self.lanes.get_mut(&assignment.partition) else { continue };
            // One that is at work finds out by itself.
            if lane.assignment == assignment && lane.applying.is_none() && is_behind(seen, moved_to) {
                lane.protocol.restart();
            }
        }
    }

    // The publisher's loop.

    pub(crate) fn step_publisher(&mut self) -> Option<(Actor, Request)> {
        if self.publisher_is_busy || self.threads.iter().any(|thread| !thread.is_left_behind) {
            return None;
        }
        let Some(work) = self.publisher.next_work() else {
            self.publisher.round();
            let published = self.publisher.take_clearable();
            return (!published.is_empty()).then_some((Actor::Clearer, Request::DeletePublished(published)));
        };
        let request = match work {
            Work::AskGroupOffset(assignment) => return Some((Actor::Asker, Request::GroupOffset(assignment))),
            Work::Publish { producer } => {
                self.next_thread += 1;
                self.threads.push(Thread {
                    number: self.next_thread,
                    producer,
                    epoch: self.epoch.unwrap_or_default(),
                    generation: 0,
                    stage: Stage::Begin,
                    transaction: None,
                    is_abandoned: false,
                    is_busy: false,
                    is_left_behind: false,
                });
                return None;
            }
            Work::OpenProducer => Request::OpenProducer,
            Work::ReadOutbox { assignment, from } => Request::ReadOutbox(assignment, from),
            Work::ConfirmGroupOffset { assignment, .. } => Request::GroupOffset(assignment),
            Work::Halt(assignment, reason) => {
                self.publisher.halt_written(assignment);
                Request::Halt(assignment.partition, reason)
            }
        };
        self.publisher_is_busy = true;
        Some((Actor::Publisher, request))
    }

    pub(crate) fn answer_publisher(&mut self, request: &Request, reply: Reply) {
        self.publisher_is_busy = false;
        match (request, reply) {
            (Request::OpenProducer, Reply::Opened(epoch)) => {
                self.epoch = Some(epoch);
                self.publisher.producer_opened(true);
            }
            (Request::OpenProducer, _) => self.publisher.producer_opened(false),
            (Request::ReadOutbox(assignment, from), Reply::Outbox(read)) => {
                self.publisher.outbox_read(*assignment, *from, Some(read));
            }
            (Request::ReadOutbox(assignment, from), _) => self.publisher.outbox_read(*assignment, *from, None),
            (Request::GroupOffset(assignment), reply) => {
                let group = if let Reply::GroupOffset(group) = reply { group } else { None };
                self.publisher.group_offset_confirmed(*assignment, group);
            }
            _ => {}
        }
    }

    pub(crate) fn answer_asker(&mut self, request: &Request, reply: &Reply) {
        let Request::GroupOffset(assignment) = request else { return };
        let group = if let Reply::GroupOffset(group) = reply { *group } else { None };
        let is_served = self.publisher.group_offset_read(*assignment, group);
        if is_served
            && group == Some(GroupOffset::Missing)
            && let Some(lane) = self.lanes.get_mut(&assignment.partition)
            && matches!(lane.protocol.step(), Step::Apply { .. })
            && lane.applying.is_none()
        {
            lane.protocol.check_log();
        }
    }

    // The threads of transactions.

    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    pub(crate) fn step_thread(&mut self, index: usize) -> Option<(Actor, Request)> {
        let thread = self.threads.get_mut(index)?;
        if thread.is_busy {
            return None;
        }
        if thread.stage == Stage::Begin {
            // Under one lock: what the member knows of the group, and the partitions that it serves.
            thread.generation = self.generation;
            thread.transaction = self.publisher.begin(thread.producer);
            thread.stage = Stage::Produce;
            if thread.transaction.is_none() {
                self.threads.remove(index);
            }
            return None;
        }
        if thread.is_abandoned {
            thread.stage = Stage::Abort;
        }
        if is(Mutant::LateOffset) {
            thread.generation = self.generation;
        }
        let request = thread.request()?;
        thread.is_busy = true;
        Some((Actor::Thread(thread.number), request))
    }

    pub(crate) fn answer_thread(&mut self, number: u64, reply: &Reply) {
        let Some(index) = self.threads.iter().position(|thread| thread.number == number) else { return };
        let thread = &mut self.threads[index];
        thread.is_busy = false;
        let is_done = matches!(reply, Reply::Brokers(Ok(())));
        let ended = match thread.stage {
            Stage::Produce if is_done => {
                thread.stage = Stage::SendOffsets;
                return;
            }
            Stage::SendOffsets if is_done => {
                thread.stage = Stage::Confirm;
                return;
            }
            Stage::Confirm if is_done => {
                thread.stage = Stage::Commit;
                return;
            }
            Stage::Begin | Stage::Produce | Stage::SendOffsets | Stage::Confirm => {
                // Called off: the committed offset decides.
                thread.is_abandoned |= matches!(reply, Reply::Brokers(Err(Refused::Offset)));
                thread.stage = Stage::Abort;
                return;
            }
            Stage::Commit if is_done => Ended::Committed,
            Stage::Abort if is_done && !thread.is_abandoned => Ended::Aborted,
            Stage::Commit | Stage::Abort => Ended::InDoubt,
        };
        let thread = self.threads.remove(index);
        if let Some(transaction) = thread.transaction.filter(|_| !thread.is_left_behind) {
            if ended == Ended::InDoubt {
                self.epoch = None;
            }
            self.publisher.ended(transaction.number, ended);
        }
    }
}

fn span_of(one: &Try<Fault>, events: &[Event]) -> Row {
    let is_refused = matches!(one.how, How::Refused { .. });
    let records = events.iter().map(|event| (event.offset, is_refused)).collect();
    Row { start: one.from, end: one.to, events: events.len(), bytes: 1, records }
}

impl LaneActor {
    /// Everything that is there, up to a batch's bounds.
    fn take(&mut self, log: &PartitionLog, hand: usize) {
        let there = log.events.iter().filter(|event| event.offset >= self.next);
        let events: Vec<Event> = there.take(hand).copied().collect();
        let is_at_end =
            log.events.last().is_none_or(|last| events.last().map_or(self.next, |e| e.offset + 1) > last.offset);
        let end = is_at_end.then_some(log.end);
        self.next = events.last().map_or(self.next, |last| last.offset + 1);
        if !events.is_empty() || end.is_some_and(|end| end > self.progress.position) {
            self.applying = Some(Applying::new(events, end, self.progress.clone()));
        }
    }

    fn position(&self) -> i64 {
        self.progress.position
    }

    fn apply(&mut self, publisher: &Publisher<Vec<Outcome>>) -> Option<Request> {
        let applying = self.applying.as_mut()?;
        match applying.step() {
            Applied::Applied => {
                self.progress = self.applying.take()?.into_progress();
                None
            }
            Applied::Fenced => {
                self.applying = None;
                self.protocol.restart();
                None
            }
            Applied::Probe => Some(Request::Probe),
            Applied::Wait(_) => {
                applying.waited();
                None
            }
            Applied::Try(one) => {
                let events = applying.events()[one.events.clone()].to_vec();
                let is_published = publisher.is_published(self.assignment, one.to);
                Some(Request::Try { partition: self.assignment.partition, one, events, is_published })
            }
        }
    }

    fn tried(&mut self, tried: &Tried<Fault>) {
        self.applying.iter_mut().for_each(|applying| applying.tried(tried.clone()));
    }

    fn probed(&mut self, answers: bool) {
        self.applying.iter_mut().for_each(|applying| applying.probed(answers));
    }
}
