//! The consumer: one `BaseConsumer` on one thread of its own, rebalance callbacks included.
//!
//! It hands records to whoever implements [`Partitions`] and never commits an offset: those travel in the publisher's
//! transactions. A partition is assigned with an explicit offset and paused until its lane says where to begin, so that
//! nothing waits for the group's committed offset (after a kill the broker holds it back for many seconds).

mod callbacks;
mod unreadable;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    topic_partition_list::TopicPartitionListElem,
    types::RDKafkaErrorCode,
};
use tokio::{sync::oneshot, time::timeout};

use self::{
    callbacks::{Assigned, Context},
    unreadable::Unreadable,
};
use super::{
    group,
    partitions::{Partitions, Room},
    records, refusals,
};

/// A poll's longest wait: also the longest that a command from a lane waits.
const POLL: Duration = Duration::from_millis(10);
/// The same once nothing has come for a while: a record ends a wait of any length, a command that comes then waits a little longer.
const IDLE_POLL: Duration = Duration::from_millis(50);
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// An end of partition must stay quiet this long before the position moves past markers.
pub const QUIET: Duration = Duration::from_secs(5);
/// A seek that does not answer is tried again.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);
/// A question that is asked only to wake a thread.
const WAKE_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest that leaving may take; a broker that is away must not hold the process.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(6);
/// Once the revocation is served the thread goes on polling this long, so that the leave request is on its way, unless the brokers
/// tell sooner that this member has left.
const LINGER_AFTER_LEAVE: Duration = Duration::from_millis(500);
/// One question to the brokers who is in the group.
const MEMBERS_TIMEOUT: Duration = Duration::from_millis(100);

/// A lane's wish to begin.
#[derive(Clone, Copy, Debug)]
struct Begin {
    partition: i32,
    offset: i64,
    life: u64,
}

enum Command {
    Begin(Begin),
    Hold { partition: i32 },
    TellEnds(Telling),
    Rejoin,
    Leave,
}

/// Partitions with the offset that everything below was handed over of.
pub type Ends = Vec<(i32, i64)>;

/// A wish to be told the ends at once.
struct Telling {
    until: Instant,
    ends: oneshot::Sender<Ends>,
}

/// The subscribed consumer, for its group metadata and committed offsets.
pub type SharedConsumer = Arc<BaseConsumer<Context>>;

/// Which group, who in it, and what is consumed.
#[derive(Debug)]
pub struct Membership {
    pub group_id: String,
    /// `group.instance.id` of this member.
    pub instance_id: String,
    pub topic: String,
}

/// Talks to the consumer thread.
#[derive(Clone)]
pub struct ConsumerHandle {
    commands: Sender<Command>,
    consumer: SharedConsumer,
    membership: Arc<Membership>,
}

impl std::fmt::Debug for ConsumerHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ConsumerHandle")
    }
}

impl ConsumerHandle {
    /// Deliver from `offset` on; [`Partitions::begun`] marks in the stream where that starts.
    ///
    /// `life` comes back with the mark: what a lane asked for earlier, and is served late, is not taken for what it asked last.
    pub fn begin(&self, partition: i32, offset: i64, life: u64) {
        self.send(Command::Begin(Begin { partition, offset, life }));
    }

    /// Deliver nothing until the next `begin`.
    pub fn hold(&self, partition: i32) {
        self.send(Command::Hold { partition });
    }

    /// Have [`Partitions::quiet_end`] called without the usual wait, as far as the ends are known `within` that time.
    pub async fn tell_ends(&self, within: Duration) -> Ends {
        let (ends, told) = oneshot::channel();
        self.send(Command::TellEnds(Telling { until: Instant::now() + within, ends }));
        timeout(within + POLL * 10, told).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Leave the group and join it again, so that its partitions are shared out anew.
    pub fn rejoin(&self) {
        self.send(Command::Rejoin);
    }

    /// Leave the group and end the thread.
    pub fn leave(&self) {
        self.send(Command::Leave);
    }

    pub fn consumer(&self) -> &SharedConsumer {
        &self.consumer
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    fn send(&self, command: Command) {
        // The thread is gone only when the process is on its way out.
        let _ = self.commands.send(command);
    }
}

/// Subscribes and starts the thread. An end that stays `quiet` for so long is told.
///
/// The receiver tells when the thread has ended.
pub fn start(
    config: &ClientConfig,
    own: Membership,
    quiet: Duration,
    partitions: Arc<dyn Partitions>,
) -> KafkaResult<(ConsumerHandle, oneshot::Receiver<()>)> {
    let (ended, has_ended) = oneshot::channel();
    let (commands, receiver) = channel();
    let consumer: SharedConsumer = Arc::new(config.create_with_context(Context::new(&own.topic, partitions))?);
    consumer.subscribe(&[&own.topic])?;
    let membership = Arc::new(own);
    let handle = ConsumerHandle { commands, consumer: Arc::clone(&consumer), membership: Arc::clone(&membership) };
    thread::Builder::new()
        .name("consumer".into())
        .spawn(move || {
            Loop {
                consumer,
                membership,
                commands: receiver,
                begins: Vec::new(),
                filled: HashSet::new(),
                full: HashSet::new(),
                telling: None,
                quiet,
                unreadable: Unreadable::default(),
                active_at: Instant::now(),
            }
            .run();
            // Nobody may be waiting.
            let _ = ended.send(());
        })
        .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
    Ok((handle, has_ended))
}

struct Loop {
    consumer: SharedConsumer,
    membership: Arc<Membership>,
    commands: Receiver<Command>,
    /// Begins whose seek has not succeeded yet.
    begins: Vec<Begin>,
    /// To be paused once what is fetched already has been handed over: pausing drops it.
    filled: HashSet<i32>,
    /// Paused until there is room.
    full: HashSet<i32>,
    telling: Option<Telling>,
    quiet: Duration,
    unreadable: Unreadable,
    /// When something was last there to be done.
    active_at: Instant,
}

impl Loop {
    fn run(mut self) {
        let consumer = Arc::clone(&self.consumer);
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.active_at = Instant::now();
                match command {
                    Command::Begin(begin) => {
                        self.begins.retain(|earlier| earlier.partition != begin.partition);
                        self.begins.push(begin);
                    }
                    Command::Hold { partition } => self.hold(partition),
                    Command::TellEnds(telling) => self.telling = Some(telling),
                    Command::Rejoin => self.rejoin(),
                    Command::Leave => return self.leave(),
                }
            }
            self.try_begins();
            self.resume_roomy();
            self.tell_readable();
            let served = self.context().served();
            let Some(polled) = consumer.poll(self.longest_wait()) else {
                // A poll also ends without a record when it has served a callback, and those overtake records.
                if self.context().served() == served {
                    self.queue_is_empty();
                }
                continue;
            };
            self.active_at = Instant::now();
            match polled {
                Ok(message) => self.deliver(&message),
                Err(KafkaError::PartitionEOF(partition)) => self.end(partition),
                Err(error) => self.error(&error),
            }
        }
    }

    fn longest_wait(&self) -> Duration {
        if !self.filled.is_empty() {
            return Duration::ZERO;
        }
        let waits = !self.begins.is_empty() || !self.full.is_empty() || self.telling.is_some();
        if waits || self.active_at.elapsed() < IDLE_AFTER { POLL } else { IDLE_POLL }
    }

    fn context(&self) -> &Context {
        self.consumer.context()
    }

    fn deliver(&mut self, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        self.unreadable.record_came();
        let begun = self.context().with_assigned(partition, |state| {
            state.active_at = Instant::now();
            state.at_end = false;
            state.next = state.next.max(message.offset() + 1);
            state.begun
        });
        if begun != Some(true) {
            return;
        }
        match self.context().partitions.record(records::read(&self.context().topic, message)) {
            Room::Plenty => {}
            Room::Little => drop(self.filled.insert(partition)),
            Room::None => {
                self.filled.remove(&partition);
                self.full.insert(partition);
                self.pause(partition);
            }
        }
    }

    /// All that was fetched has been handed over.
    fn queue_is_empty(&mut self) {
        self.pause_filled();
        self.tell_ends();
    }

    fn pause_filled(&mut self) {
        for partition in std::mem::take(&mut self.filled) {
            let begun = self.context().with_assigned(partition, |state| state.begun) == Some(true);
            if begun && !self.context().partitions.has_room(partition) {
                self.full.insert(partition);
                self.pause(partition);
            }
        }
    }

    fn end(&self, partition: i32) {
        self.context().with_assigned(partition, |state| {
            state.active_at = Instant::now();
            state.at_end = true;
        });
    }

    /// All that was fetched before the statistics were taken has been handed over.
    fn tell_ends(&mut self) {
        let Some(telling) = self.telling.take() else {
            self.tell_quiet_ends(self.quiet);
            return;
        };
        let all_told = self.tell_quiet_ends(Duration::ZERO);
        if all_told || Instant::now() >= telling.until {
            // Whoever asked waits no longer than it said.
            let _ = telling.ends.send(self.context().told_ends());
        } else {
            self.telling = Some(telling);
        }
    }

    /// Tells the ends of partitions that have been quiet for `quiet`; whether every end is told.
    fn tell_quiet_ends(&self, quiet: Duration) -> bool {
        let context = self.context();
        let mut ends = Vec::new();
        let mut all_told = true;
        {
            let statistics = context.statistics.lock().expect("no holder of this lock panics");
            let mut assigned = context.assigned.lock().expect("no holder of this lock panics");
            for (&partition, state) in assigned.iter_mut().filter(|(_, state)| state.begun) {
                let known = statistics.get(&partition).filter(|known| state.at_end && known.at > state.active_at);
                let Some(known) = known.filter(|_| state.active_at.elapsed() >= quiet) else {
                    all_told = false;
                    continue;
                };
                if known.eof_offset > state.told_quiet {
                    state.told_quiet = known.eof_offset;
                    ends.push((partition, known.eof_offset));
                }
            }
        }
        for (partition, offset) in ends {
            context.partitions.quiet_end(partition, offset);
        }
        all_told
    }

    fn try_begins(&mut self) {
        let waiting = std::mem::take(&mut self.begins);
        let mut asleep = Vec::new();
        for begin in waiting {
            if !self.begin(begin) {
                self.begins.push(begin);
            } else if begin.offset == 0 {
                asleep.push(begin.partition);
            }
        }
        self.wake(&asleep);
    }

    /// Asks brokers something, whatever the answer, to wake the threads that fetch from them. Fetching begins without it, too, so
    /// one that does not answer ends this.
    fn wake(&self, partitions: &[i32]) {
        let ask = |partition: &i32| self.consumer.fetch_watermarks(&self.context().topic, *partition, WAKE_TIMEOUT);
        let _ = partitions.iter().try_for_each(|partition| ask(partition).map(drop));
    }

    /// Whether the partition has begun (or is no longer ours).
    fn begin(&mut self, Begin { partition, offset, life }: Begin) -> bool {
        self.full.remove(&partition);
        self.filled.remove(&partition);
        self.forget_unreadable();
        let context = self.context();
        if context.with_assigned(partition, |state| state.begun = false).is_none() {
            return true;
        }
        if let Err(error) = self.resume_at(partition, offset) {
            tracing::debug!(partition, offset, %error, "seek to be tried again");
            return false;
        }
        context.with_assigned(partition, |state| {
            *state = Assigned { begun: true, next: offset, ..Assigned::new() };
        });
        context.partitions.begun(partition, life);
        true
    }

    /// Fetches from `offset` on. The thread that fetches from a broker sleeps up to a second while it has nothing to fetch, and
    /// resuming does not wake it: seeking does, unless to the very first offset (see [`Loop::wake`]).
    fn resume_at(&self, partition: i32, offset: i64) -> KafkaResult<()> {
        self.consumer.resume(&self.context().list([partition]))?;
        self.seek(partition, offset)
    }

    /// librdkafka stops fetching for good where an offset was out of range, and seeks no more there: the partition is then
    /// assigned anew, which the group does not hear of.
    fn seek(&self, partition: i32, offset: i64) -> KafkaResult<()> {
        let context = self.context();
        let mut list = context.list([partition]);
        list.set_partition_offset(&context.topic, partition, Offset::Offset(offset))?;
        let sought = self.consumer.seek_partitions(list.clone(), SEEK_TIMEOUT)?;
        let sought = sought.elements().first().map_or(Ok(()), TopicPartitionListElem::error);
        let stopped = matches!(&sought, Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State));
        if !stopped {
            return sought;
        }
        self.consumer.incremental_unassign(&list)?;
        self.consumer.incremental_assign(&list)
    }

    fn hold(&mut self, partition: i32) {
        self.begins.retain(|begin| begin.partition != partition);
        if self.context().with_assigned(partition, |state| state.begun = false).is_some() {
            self.pause(partition);
        }
    }

    fn resume_roomy(&mut self) {
        let context = Arc::clone(self.consumer.context());
        let roomy: Vec<i32> =
            self.full.iter().copied().filter(|&partition| context.partitions.has_room(partition)).collect();
        for partition in roomy {
            self.full.remove(&partition);
            let next = context.with_assigned(partition, |state| state.begun.then_some(state.next)).flatten();
            if let Some(next) = next
                && let Err(error) = self.resume_at(partition, next)
            {
                tracing::debug!(partition, next, %error, "resuming is to be tried again");
                self.full.insert(partition);
            }
        }
    }

    fn pause(&self, partition: i32) {
        if let Err(error) = self.consumer.pause(&self.context().list([partition])) {
            tracing::warn!(partition, %error, "pause failed");
        }
    }

    fn error(&mut self, error: &KafkaError) {
        let partitions = &self.context().partitions;
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::FencedInstanceId) => partitions.fatal(
                "another live process uses the same instance id: give each its own DOSI_INSTANCE_ID".to_owned(),
            ),
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicId,
            ) => partitions.topic_gone(format!(
                "input topic {} is unknown to the broker: nothing more is committed; see `dosi topics` and `dosi position show`",
                self.context().topic
            )),
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => partitions.offset_out_of_range(),
            _ if fatal => partitions.fatal(format!("the Kafka consumer cannot go on: {error}")),
            Some(code) if unreadable::is_lasting(code) => self.cannot_read(error),
            Some(RDKafkaErrorCode::AllBrokersDown) => partitions.brokers_reachable(false),
            _ if refusals::is_refusal(error) => partitions.refused(format!("Kafka refuses: {error}")),
            _ => tracing::debug!(%error, "poll"),
        }
    }

    fn rejoin(&mut self) {
        self.leave();
        self.begins.clear();
        self.filled.clear();
        self.full.clear();
        if let Err(error) = self.consumer.subscribe(&[&*self.context().topic]) {
            self.context().partitions.fatal(format!("failed to join the group anew: {error}"));
        }
    }

    /// `close()` alone would keep a static member's partitions until its session ends.
    fn leave(&self) {
        // What is polled from now on goes to nobody, and nothing that follows it may.
        for state in self.context().assigned.lock().expect("no holder of this lock panics").values_mut() {
            state.begun = false;
        }
        self.consumer.unsubscribe();
        let mut until = Instant::now() + LINGER_AFTER_LEAVE;
        let latest = Instant::now() + LEAVE_TIMEOUT;
        while Instant::now() < until.min(latest) {
            let _ = self.consumer.poll(POLL);
            if !self.context().assigned.lock().expect("no holder of this lock panics").is_empty() {
                until = Instant::now() + LINGER_AFTER_LEAVE;
            } else if self.has_left() {
                return;
            }
        }
    }

    /// Whether the brokers say that this member is in the group no longer.
    fn has_left(&self) -> bool {
        let Membership { group_id, instance_id, .. } = &*self.membership;
        let Ok(groups) = self.consumer.fetch_group_list(Some(group_id), MEMBERS_TIMEOUT) else { return false };
        let group = groups.groups().iter().find(|group| group.name() == group_id);
        // An answer without a state is a coordinator's that cannot tell yet.
        group.is_some_and(|group| {
            !group.state().is_empty()
                && group.members().iter().all(|member| group::instance_id(member.id()) != instance_id)
        })
    }
}
