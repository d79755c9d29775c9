//! The consumer: one `BaseConsumer` on one thread of its own, rebalance callbacks included.
//!
//! It hands records to whoever implements [`Partitions`] and never commits an offset: those travel in the publisher's
//! transactions. A partition is assigned with an explicit offset and paused until its lane says where to begin, so that
//! nothing waits for the group's committed offset (after a kill the broker holds it back for many seconds).

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    topic_partition_list::TopicPartitionListElem,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use tokio::sync::oneshot;

use super::{partitions::Partitions, records, refusals};

/// A poll's longest wait: also the longest that a command from a lane waits.
const POLL: Duration = Duration::from_millis(10);
/// An end of partition must stay quiet this long before the position moves past markers.
const QUIET: Duration = Duration::from_secs(5);
/// A seek that does not answer is tried again.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest that leaving may take; a broker that is away must not hold the process.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(6);
/// Once the revocation is served the thread goes on polling this long, so that the leave request is on its way.
const LINGER_AFTER_LEAVE: Duration = Duration::from_millis(500);

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
    Leave,
}

/// The subscribed consumer, for its group metadata and committed offsets.
pub type SharedConsumer = Arc<BaseConsumer<Context>>;

/// Talks to the consumer thread.
#[derive(Clone)]
pub struct ConsumerHandle {
    commands: Sender<Command>,
    consumer: SharedConsumer,
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

    /// Leave the group and end the thread.
    pub fn leave(&self) {
        self.send(Command::Leave);
    }

    pub fn consumer(&self) -> &SharedConsumer {
        &self.consumer
    }

    fn send(&self, command: Command) {
        // The thread is gone only when the process is on its way out.
        let _ = self.commands.send(command);
    }
}

/// Subscribes and starts the thread.
///
/// The receiver tells when the thread has ended.
pub fn start(
    config: &ClientConfig,
    topic: &str,
    partitions: Arc<dyn Partitions>,
) -> KafkaResult<(ConsumerHandle, oneshot::Receiver<()>)> {
    let (ended, has_ended) = oneshot::channel();
    let (commands, receiver) = channel();
    let context = Context {
        topic: Arc::from(topic),
        partitions,
        assigned: Mutex::default(),
        statistics: Mutex::default(),
        began: OnceLock::new(),
    };
    let consumer: SharedConsumer = Arc::new(config.create_with_context(context)?);
    consumer.subscribe(&[topic])?;
    let handle = ConsumerHandle { commands, consumer: Arc::clone(&consumer) };
    thread::Builder::new()
        .name("consumer".into())
        .spawn(move || {
            Loop { consumer, commands: receiver, begins: Vec::new(), full: HashSet::new() }.run();
            // Nobody may be waiting.
            let _ = ended.send(());
        })
        .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
    Ok((handle, has_ended))
}

/// What the thread knows of an assigned partition.
#[derive(Debug)]
struct Assigned {
    /// Offset it was assigned with; `None` once a record came or it was sought elsewhere.
    untouched_at: Option<i64>,
    /// The lane has begun: records are handed over.
    begun: bool,
    /// When a record or an end of partition last came.
    active_at: Instant,
    at_end: bool,
    /// The end told last through `quiet_end`.
    told_quiet: i64,
}

#[derive(Clone, Copy, Debug)]
struct PartitionStatistics {
    eof_offset: i64,
    at: Instant,
}

/// Callbacks of librdkafka; all but logging come on the polling thread.
pub struct Context {
    topic: Arc<str>,
    partitions: Arc<dyn Partitions>,
    assigned: Mutex<HashMap<i32, Assigned>>,
    statistics: Mutex<HashMap<i32, PartitionStatistics>>,
    began: OnceLock<()>,
}

fn assign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

impl Context {
    fn list(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    fn with_assigned<T>(&self, partition: i32, act: impl FnOnce(&mut Assigned) -> T) -> Option<T> {
        self.assigned.lock().expect("no holder of this lock panics").get_mut(&partition).map(act)
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> KafkaResult<()> {
        if partitions.is_empty() {
            return assign(consumer, &self.list([]));
        }
        let positions = self.partitions.positions(partitions);
        let mut list = self.list(partitions.iter().copied());
        for &partition in partitions {
            let offset = positions.get(&partition).map_or(Offset::Beginning, |&position| Offset::Offset(position));
            list.set_partition_offset(&self.topic, partition, offset)?;
        }
        {
            let mut assigned = self.assigned.lock().expect("no holder of this lock panics");
            for &partition in partitions {
                let state = Assigned {
                    untouched_at: positions.get(&partition).copied(),
                    begun: false,
                    active_at: Instant::now(),
                    at_end: false,
                    told_quiet: -1,
                };
                assigned.insert(partition, state);
            }
        }
        assign(consumer, &list)?;
        consumer.pause(&self.list(partitions.iter().copied()))?;
        self.partitions.assigned(partitions);
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> KafkaResult<()> {
        self.partitions.revoked(partitions);
        {
            let mut assigned = self.assigned.lock().expect("no holder of this lock panics");
            let mut statistics = self.statistics.lock().expect("no holder of this lock panics");
            for partition in partitions {
                assigned.remove(partition);
                statistics.remove(partition);
            }
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(&self.list(partitions.iter().copied())),
            _ => consumer.unassign(),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        super::log(level, facility, line);
    }

    fn stats(&self, statistics: Statistics) {
        let reachable = statistics.brokers.values().any(|broker| broker.state == "UP");
        if reachable {
            self.began.get_or_init(|| ());
        }
        // Before the first connection "not reachable" is news to nobody.
        if self.began.get().is_some() {
            self.partitions.brokers_reachable(reachable);
        }
        let Some(topic) = statistics.topics.get(&*self.topic) else { return };
        let mut known = self.statistics.lock().expect("no holder of this lock panics");
        let assigned = self.assigned.lock().expect("no holder of this lock panics");
        for (number, partition) in topic.partitions.iter().filter(|(number, _)| assigned.contains_key(number)) {
            known.insert(*number, PartitionStatistics { eof_offset: partition.eof_offset, at: Instant::now() });
            if partition.ls_offset >= 0 {
                self.partitions.lag(*number, partition.ls_offset);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(line) = refusals::refusal(&error, reason) {
            self.partitions.refused(line);
        } else if !matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "Kafka consumer");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> = list.elements().iter().map(TopicPartitionListElem::partition).collect();
        let (what, result) = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            ("assigned", self.assign(consumer, &partitions))
        } else {
            ("revoked", self.revoke(consumer, &partitions))
        };
        match result {
            Ok(()) => tracing::info!(?partitions, "{what}"),
            Err(error) => {
                self.partitions.fatal(format!("failed to answer a rebalance ({what} {partitions:?}): {error}"));
            }
        }
    }
}

struct Loop {
    consumer: SharedConsumer,
    commands: Receiver<Command>,
    /// Begins whose seek has not succeeded yet.
    begins: Vec<Begin>,
    full: HashSet<i32>,
}

impl Loop {
    fn run(mut self) {
        let consumer = Arc::clone(&self.consumer);
        loop {
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Begin(begin) => {
                        self.begins.retain(|earlier| earlier.partition != begin.partition);
                        self.begins.push(begin);
                    }
                    Command::Hold { partition } => self.hold(partition),
                    Command::Leave => return self.leave(),
                }
            }
            self.try_begins();
            self.resume_roomy();
            match consumer.poll(POLL) {
                None => self.tell_quiet_ends(),
                Some(Ok(message)) => self.deliver(&message),
                Some(Err(KafkaError::PartitionEOF(partition))) => self.end(partition),
                Some(Err(error)) => self.error(&error),
            }
        }
    }

    fn context(&self) -> &Context {
        self.consumer.context()
    }

    fn deliver(&mut self, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        let begun = self.context().with_assigned(partition, |state| {
            state.untouched_at = None;
            state.active_at = Instant::now();
            state.at_end = false;
            state.begun
        });
        if begun != Some(true) {
            return;
        }
        let roomy = self.context().partitions.record(records::read(&self.context().topic, message));
        if !roomy && self.full.insert(partition) {
            self.pause(partition);
        }
    }

    fn end(&self, partition: i32) {
        let begun = self.context().with_assigned(partition, |state| {
            state.active_at = Instant::now();
            state.at_end = true;
            state.begun
        });
        if begun == Some(true) {
            self.context().partitions.end_reached(partition);
        }
    }

    /// The queue is empty: all that was fetched before the statistics were taken has been handed over.
    fn tell_quiet_ends(&self) {
        let context = self.context();
        let mut quiet = Vec::new();
        {
            let statistics = context.statistics.lock().expect("no holder of this lock panics");
            let mut assigned = context.assigned.lock().expect("no holder of this lock panics");
            for (&partition, state) in assigned.iter_mut() {
                let Some(known) = statistics.get(&partition) else { continue };
                let is_quiet = state.begun && state.at_end && state.active_at.elapsed() >= QUIET;
                if is_quiet && known.at > state.active_at && known.eof_offset > state.told_quiet {
                    state.told_quiet = known.eof_offset;
                    quiet.push((partition, known.eof_offset));
                }
            }
        }
        for (partition, offset) in quiet {
            context.partitions.quiet_end(partition, offset);
        }
    }

    fn try_begins(&mut self) {
        let waiting = std::mem::take(&mut self.begins);
        for begin in waiting {
            if !self.begin(begin) {
                self.begins.push(begin);
            }
        }
    }

    /// Whether the partition has begun (or is no longer ours).
    fn begin(&mut self, Begin { partition, offset, life }: Begin) -> bool {
        let context = self.context();
        let Some(untouched_at) = context.with_assigned(partition, |state| {
            state.begun = false;
            state.untouched_at
        }) else {
            return true;
        };
        let sought = if untouched_at == Some(offset) { Ok(()) } else { self.seek(partition, offset) };
        if let Err(error) = sought {
            tracing::debug!(partition, offset, %error, "seek to be tried again");
            return false;
        }
        context.with_assigned(partition, |state| {
            *state =
                Assigned { untouched_at: None, begun: true, active_at: Instant::now(), at_end: false, told_quiet: -1 };
        });
        context.partitions.begun(partition, life);
        self.full.remove(&partition);
        self.resume(partition);
        true
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
            if context.with_assigned(partition, |state| state.begun) == Some(true) {
                self.resume(partition);
            }
        }
    }

    fn pause(&self, partition: i32) {
        if let Err(error) = self.consumer.pause(&self.context().list([partition])) {
            tracing::warn!(partition, %error, "pause failed");
        }
    }

    fn resume(&self, partition: i32) {
        if let Err(error) = self.consumer.resume(&self.context().list([partition])) {
            tracing::warn!(partition, %error, "resume failed");
        }
    }

    fn error(&self, error: &KafkaError) {
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
            Some(RDKafkaErrorCode::AllBrokersDown) => partitions.brokers_reachable(false),
            _ if refusals::is_refusal(error) => partitions.refused(format!("Kafka refuses: {error}")),
            _ => tracing::debug!(%error, "poll"),
        }
    }

    /// `close()` alone would keep a static member's partitions until its session ends.
    fn leave(self) {
        self.consumer.unsubscribe();
        let mut until = Instant::now() + LINGER_AFTER_LEAVE;
        let latest = Instant::now() + LEAVE_TIMEOUT;
        while Instant::now() < until.min(latest) {
            let _ = self.consumer.poll(POLL);
            if !self.context().assigned.lock().expect("no holder of this lock panics").is_empty() {
                until = Instant::now() + LINGER_AFTER_LEAVE;
            }
        }
    }
}
