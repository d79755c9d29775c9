//! The scheduler: of all that could happen next, one thing does.

use dosi::protocol::{
    applying::{How, Tried},
    lane::Halted,
    position::{GroupOffset, LogEnds},
    publisher::OutboxRead,
    unpublished::Backlog,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    broker::Broker,
    call::{Actor, Reply, Request},
    database::Database,
    input::{Log, Seen},
    instance::Instance,
};

const INSTANCES: usize = 3;
/// With faults; and without them, until all must be applied and published.
const UNQUIET_STEPS: usize = 1_500;
const STEPS_MAX: usize = 30_000;
const TIME_OUT_STEPS: usize = 1_000;

#[derive(Debug)]
struct Call {
    by: usize,
    incarnation: u64,
    actor: Actor,
    request: Request,
    reply: Option<Reply>,
}

/// Partitions on their way from one live member to another.
#[derive(Debug)]
struct Move {
    from: usize,
    partitions: Vec<i32>,
}

pub(crate) struct World {
    random: SmallRng,
    pub(crate) log: Log,
    pub(crate) database: Database,
    pub(crate) broker: Broker,
    /// `None`: not running.
    instances: Vec<Option<Instance>>,
    incarnations: u64,
    calls: Vec<Call>,
    moving: Option<Move>,
    /// Of a hundred calls, how many lose their question or their answer.
    loss: u32,
    /// Of a thousand steps, how many are faults.
    faults: u32,
    pub(crate) seen: Seen,
    told: Vec<String>,
    tells: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let log = Log::random(&mut random);
        let (loss, faults) = (random.random_range(0..10), random.random_range(0..30));
        let instances = (0..INSTANCES).map(|_| None).collect();
        Self {
            random,
            log,
            database: Database::default(),
            broker: Broker::default(),
            instances,
            incarnations: 0,
            calls: Vec::new(),
            moving: None,
            loss,
            faults,
            seen: Seen::default(),
            told: Vec::new(),
            tells: std::env::var_os("DOSI_SIMULATION_STORY").is_some(),
        }
    }

    /// The schedule in words, where they were asked for.
    pub(crate) fn story(&self) -> String {
        if self.tells { self.told.join("\n") } else { "DOSI_SIMULATION_STORY=1 tells what happened".to_owned() }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.tells {
            self.told.push(what());
        }
    }

    pub(crate) fn run(&mut self) {
        self.start(0);
        for step in 0..STEPS_MAX {
            if step == UNQUIET_STEPS {
                self.calm();
            }
            if step > UNQUIET_STEPS && step % 16 == 0 && self.is_settled() {
                return;
            }
            if step > UNQUIET_STEPS && step % TIME_OUT_STEPS == 0 {
                // What nobody ends, the coordinator does.
                for id in 0..INSTANCES {
                    self.broker.time_out(id);
                }
            }
            self.step();
        }
        panic!("not settled after {STEPS_MAX} steps");
    }

    /// From now on nothing more goes wrong.
    fn calm(&mut self) {
        self.tell(|| "calm".to_owned());
        (self.loss, self.faults) = (0, 0);
        self.broker.is_behind = false;
        for instance in self.instances.iter_mut().flatten() {
            instance.is_paused = false;
        }
        if self.instances.iter().all(Option::is_none) {
            self.start(0);
        }
        for id in 0..INSTANCES {
            if self.instances[id].is_none() {
                self.expire(id);
                self.broker.time_out(id);
            }
        }
    }

    fn is_settled(&self) -> bool {
        let is_through = |partition: i32| {
            let end = self.log.partition(partition).end;
            self.database.now.positions.get(&partition).is_some_and(|row| row.position == end)
                && self.broker.group_offset(partition) == Some(GroupOffset::At(end))
        };
        let halted = || self.instances.iter().flatten().find_map(|instance| instance.halted.as_ref());
        if let Some(line) = halted() {
            panic!("halted: {line}");
        }
        self.log.partitions().all(is_through) && !self.broker.has_open_transaction()
    }

    fn step(&mut self) {
        if self.random.random_range(0..1_000) < self.faults {
            return self.fault();
        }
        match self.random.random_range(0..100) {
            0..50 if !self.calls.is_empty() => self.advance_call(),
            0..60 => self.step_group(),
            _ => self.step_instance(),
        }
    }

    // Instances.

    fn start(&mut self, id: usize) {
        self.incarnations += 1;
        self.instances[id] = Some(Instance::new(self.incarnations));
        self.tell(|| format!("start {id}"));
    }

    fn step_instance(&mut self) {
        let id = self.random.random_range(0..INSTANCES);
        let (what, which, hand) =
            (self.random.random_range(0..10), self.random.random::<u32>() as usize, self.random.random_range(1..=6));
        let Some(instance) = self.instances[id].as_mut().filter(|instance| !instance.is_paused) else { return };
        let call = match what {
            0..6 => {
                let partitions = instance.partitions();
                which.checked_rem(partitions.len()).and_then(|i| instance.step_lane(partitions[i], &self.log, hand))
            }
            6 | 7 => instance.step_publisher(),
            8 if hand == 1 => instance.look_at_positions(),
            _ => which.checked_rem(instance.threads()).and_then(|index| instance.step_thread(index)),
        };
        let incarnation = instance.incarnation;
        if let Some((actor, request)) = call {
            self.tell(|| format!("{id} asks {request:?}"));
            self.calls.push(Call { by: id, incarnation, actor, request, reply: None });
        }
    }

    // Calls.

    fn advance_call(&mut self) {
        let index = self.random.random_range(0..self.calls.len());
        let is_lost = self.random.random_range(0..100) < self.loss;
        self.seen.lost += u64::from(is_lost);
        if self.calls[index].reply.is_none() {
            let reply = if is_lost { Reply::Lost } else { self.execute(index) };
            self.tell(|| format!("  done: {reply:?}"));
            self.calls[index].reply = Some(reply);
            return;
        }
        let asked = self.calls[index].by;
        if self.instances[asked].as_ref().is_some_and(|instance| instance.is_paused) {
            return;
        }
        let call = self.calls.swap_remove(index);
        let Some(instance) =
            self.instances[call.by].as_mut().filter(|instance| instance.incarnation == call.incarnation)
        else {
            return;
        };
        let reply = if is_lost { Reply::Lost } else { call.reply.unwrap_or(Reply::Lost) };
        match call.actor {
            Actor::Lane(assignment) => instance.answer_lane(assignment, &call.request, reply),
            Actor::Publisher => instance.answer_publisher(&call.request, reply),
            Actor::Asker => instance.answer_asker(&call.request, &reply),
            Actor::Clearer => {}
            Actor::Looker => instance.answer_looker(&call.request, &reply),
            Actor::Thread(number) => instance.answer_thread(number, &reply),
        }
    }

    fn execute(&mut self, index: usize) -> Reply {
        let Call { by, request, .. } = &self.calls[index];
        let (id, request) = (*by, request.clone());
        match request {
            Request::ReadPosition(partition) => {
                let row = self.database.now.positions.get(&partition).copied();
                let halted = self.database.now.halted.get(&partition);
                let halted =
                    halted.map(|line| Halted { position: row.map_or(0, |row| row.position), line: line.clone() });
                Reply::Position(row, halted)
            }
            Request::ReadLogEnds(partition) => {
                let log = self.log.partition(partition);
                Reply::LogEnds(LogEnds { low: log.first, high: log.end })
            }
            Request::InsertStart(partition, at) => {
                self.database.insert_start(partition, at);
                Reply::Done
            }
            Request::Halt(partition, reason) => {
                self.database.halt(partition, &reason);
                Reply::Done
            }
            Request::CountBacklog(partition, _) => {
                Reply::Backlog(Backlog::of(&self.database.outbox_from(partition, i64::MIN)))
            }
            Request::Try { partition, one, events, is_published } => {
                let tried = self.database.apply(partition, &one, &events, is_published);
                self.seen.fenced += u64::from(tried == Tried::Fenced);
                let is_refused = matches!(one.how, How::Refused { .. });
                self.seen.dead_letters += u64::from(tried == Tried::Applied && is_refused);
                Reply::Tried(tried)
            }
            Request::Probe => Reply::Done,
            Request::LookAtPositions(moved) => {
                let positions = &self.database.now.positions;
                let of = |partition: &i32| positions.get(partition).map_or(0, |row| row.position);
                Reply::Positions(moved.iter().map(|(assignment, _)| of(&assignment.partition)).collect())
            }
            Request::ReadOutbox(assignment, from) => {
                self.seen.read_back += 1;
                let row = self.database.now.positions.get(&assignment.partition);
                let position = row.map(|row| row.position);
                Reply::Outbox(OutboxRead { rows: self.database.outbox_from(assignment.partition, from), position })
            }
            Request::DeletePublished(published) => {
                self.database.delete_published(&published);
                Reply::Done
            }
            Request::GroupOffset(assignment) => {
                // A question that confirms another comes when the coordinator has caught up.
                self.broker.is_behind &= self.calls[index].actor == Actor::Asker;
                Reply::GroupOffset(self.broker.group_offset(assignment.partition))
            }
            Request::OpenProducer => Reply::Opened(self.broker.open(id)),
            Request::Produce { epoch, records } => Reply::Brokers(self.broker.produce(id, epoch, &records)),
            Request::SendOffsets { epoch, generation, offsets } => {
                let sent = self.broker.send_offsets(id, epoch, generation, &offsets);
                self.seen.refused_offsets += u64::from(sent.is_err());
                Reply::Brokers(sent)
            }
            Request::Confirm(told) => {
                let answer = self.broker.is_where_told(&told);
                self.seen.stale_offsets += u64::from(answer.is_err());
                Reply::Brokers(answer)
            }
            Request::End { epoch, commit } => Reply::Brokers(self.broker.end(id, epoch, commit)),
        }
    }

    // The group.

    fn step_group(&mut self) {
        match self.random.random_range(0..3) {
            0 => self.poll(),
            1 => self.assign(),
            _ => self.finish_move(),
        }
    }

    /// A member hears of the group; one that was thrown out gives up everything and joins again.
    fn poll(&mut self) {
        let id = self.random.random_range(0..INSTANCES);
        let Some(instance) = self.instances[id].as_mut().filter(|instance| !instance.is_paused) else { return };
        let group = &mut self.broker.group;
        let is_static_rejoin = !instance.has_joined && group.members.contains(&id);
        instance.has_joined = true;
        if is_static_rejoin {
            // Who joins is told so when that is written.
            self.broker.is_behind = false;
            // It was away for less than a session: it gets back what it had.
            for (&partition, _) in group.owners.iter().filter(|(_, owner)| **owner == id) {
                instance.assign(partition);
            }
        } else if group.members.insert(id) {
            let partitions = instance.partitions();
            instance.revoke(&partitions);
            instance.abandon();
            group.owners.retain(|_, owner| *owner != id);
            group.generation += 1;
            self.broker.is_behind = false;
        }
        instance.generation = group.generation;
    }

    fn assign(&mut self) {
        let group = &mut self.broker.group;
        let moving = self.moving.as_ref().map_or(&[][..], |moving| &moving.partitions);
        let free: Vec<i32> = self
            .log
            .partitions()
            .filter(|partition| !group.owners.contains_key(partition) && !moving.contains(partition))
            .collect();
        let Some(&partition) = free.first() else { return };
        let members: Vec<usize> = group.members.iter().copied().collect();
        let Some(chosen) = self.random.random_range(0..INSTANCES).checked_rem(members.len()) else { return };
        let id = members[chosen];
        let Some(instance) = self.instances[id].as_mut().filter(|instance| !instance.is_paused) else { return };
        if instance.generation == group.generation {
            group.owners.insert(partition, id);
            instance.assign(partition);
            self.broker.is_behind = false;
            self.tell(|| format!("assigned {partition} to {id}"));
        }
    }

    /// A member is told to give up what it has: the callback stops its lanes.
    fn begin_move(&mut self) {
        let id = self.random.random_range(0..INSTANCES);
        let Some(instance) = self.instances[id].as_mut().filter(|instance| !instance.is_paused) else { return };
        let partitions = instance.partitions();
        if self.moving.is_some() || partitions.is_empty() || !self.broker.group.members.contains(&id) {
            return;
        }
        instance.revoke(&partitions);
        self.seen.moves += 1;
        self.moving = Some(Move { from: id, partitions });
        self.tell(|| format!("revoked from {id}"));
    }

    /// The callback returns when no transaction carries the partitions, or when it has waited long enough.
    fn finish_move(&mut self) {
        let Some(Move { from, partitions }) = &self.moving else { return };
        let from = *from;
        if let Some(instance) = self.instances[from].as_mut() {
            let is_given_up = instance.is_given_up(partitions);
            if instance.is_paused || (!is_given_up && self.random.random_range(0..4) > 0) {
                return;
            }
            if !is_given_up {
                instance.abandon();
                self.seen.abandoned += 1;
            }
        }
        let group = &mut self.broker.group;
        group.owners.retain(|partition, _| !partitions.contains(partition));
        group.generation += 1;
        self.moving = None;
        self.tell(|| format!("given up by {from}"));
    }

    /// The session of a member that does not answer ends.
    fn expire(&mut self, id: usize) {
        let group = &mut self.broker.group;
        if group.members.remove(&id) {
            group.owners.retain(|_, owner| *owner != id);
            group.generation += 1;
        }
        self.moving.take_if(|moving| moving.from == id);
    }

    // Faults.

    fn fault(&mut self) {
        let id = self.random.random_range(0..INSTANCES);
        match self.random.random_range(0..13) {
            0 if self.instances[id].is_some() => {
                self.tell(|| format!("crash {id}"));
                self.seen.crashes += 1;
                self.instances[id] = None;
                self.moving.take_if(|moving| moving.from == id);
            }
            0..4 if self.instances[id].is_none() => self.start(id),
            4 if self.instances[id].is_none() => self.expire(id),
            5 | 6 => self.pause_or_resume(id),
            7 => {
                let count = self.random.random_range(1..5);
                let is_lost = self.database.lose_commits(count);
                self.tell(|| format!("the database loses {count} commits: {is_lost}"));
                self.seen.commits_lost += u64::from(is_lost);
            }
            8 => {
                self.tell(|| format!("transaction of {id} times out"));
                self.seen.timed_out += u64::from(self.broker.time_out(id));
            }
            9 => {
                if let Some(instance) = self.instances[id].as_mut() {
                    self.seen.left_behind += u64::from(instance.leave_thread_behind());
                }
            }
            10 => {
                if let Some(instance) = self.instances[id].as_mut() {
                    instance.doubt();
                }
            }
            11 => {
                self.tell(|| "the group's coordinator moves".to_owned());
                self.broker.is_behind = true;
            }
            _ => self.begin_move(),
        }
    }

    fn pause_or_resume(&mut self, id: usize) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        if instance.is_paused {
            instance.is_paused = false;
            self.tell(|| format!("{id} comes back"));
            return;
        }
        instance.is_paused = true;
        self.tell(|| format!("{id} hangs"));
        // Sometimes for longer than its session.
        if self.random.random_bool(0.7) {
            self.seen.zombies += 1;
            self.expire(id);
        }
    }
}
