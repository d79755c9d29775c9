//! The publisher: what is applied and not yet published goes out in Kafka transactions that carry the group's offsets.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fail::fail_point;
use rdkafka::{
    consumer::{Consumer as _, ConsumerGroupMetadata},
    error::{KafkaError, KafkaResult},
};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Shared, backoff::Backoff, batch::seconds_since, lane::stopped, partition::Delivery, rights};
use crate::{
    kafka::{
        publisher::{
            self, ABORT_TIMEOUT, Content, OPEN_TIMEOUT, PublishError, TRANSACTION_TIMEOUT, TransactionalProducer,
        },
        refusals::is_refusal,
        told::Told,
    },
    postgres::{
        Fault,
        outbox::{self, Output},
        position,
    },
    protocol::{
        pace::Pace,
        position::{GroupOffset, HaltReason},
        publisher::{Assignment, Ended, OutboxRead, Transaction, Work},
        unpublished::{OutboxSpan, Unpublished},
    },
    telemetry::metrics::{Dependency, Stage},
};

/// From the start of one round that published nothing to the start of the next. An answer that is waited for is taken soon, a
/// question is not asked all the time.
const ROUND_INTERVAL: Duration = Duration::from_millis(20);
/// Most outbox rows read at once, and most of their bytes.
const ROWS_MAX: i64 = 200;
const ROWS_BYTES_MAX: i64 = 2 << 20;
/// Blocking calls of librdkafka may outlast their time-outs by this much before they are given up.
const WATCHDOG: Duration = Duration::from_secs(5);
/// Producers left behind with a thread that hangs, in ten minutes, before the process gives up.
const OVERDUE_MAX: usize = 3;
const OVERDUE_WINDOW: Duration = Duration::from_secs(600);

/// Transactions may fail one after the other before it is said: one does at every rebalance.
const FAILURES_UNTOLD: u32 = 1;

/// How the publisher's loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// With what is to be done next.
    On,
    /// Something was published.
    Published,
    /// Not before something has changed.
    Wait,
}

/// What the broker said of a partition's group offset; `None`: nothing yet.
type GroupAnswer = (Assignment, Option<GroupOffset>);

/// The publisher's own state.
pub struct Publisher {
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    producer: Option<Arc<TransactionalProducer>>,
    overdue: VecDeque<Instant>,
    /// When the present round began.
    began: Instant,
    /// When the round of the last transaction began.
    transaction_began: Instant,
    pace: Pace,
    backoff: Backoff,
    /// Transactions that have failed since the last one that did not.
    failures: u32,
    answers: mpsc::UnboundedSender<GroupAnswer>,
    answered: mpsc::UnboundedReceiver<GroupAnswer>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Publisher").field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl Publisher {
    pub fn new(shared: Arc<Shared>, stop: watch::Receiver<bool>) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        Self {
            shared,
            stop,
            producer: None,
            overdue: VecDeque::new(),
            began: Instant::now(),
            transaction_began: Instant::now(),
            pace: Pace::default(),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
            failures: 0,
            answers,
            answered,
        }
    }

    /// Publishes until stopped and everything applied is published, or until it cannot go on.
    pub async fn run(mut self) {
        let mut stopping = false;
        loop {
            self.began = Instant::now();
            let published = self.round().await;
            if stopping && !published {
                break;
            }
            if !published {
                tokio::select! {
                    () = self.shared.publish_now.notified() => {}
                    () = stopped(&mut self.stop), if !stopping => stopping = true,
                    // What failed or was held back by the broker is tried again.
                    () = sleep(Duration::from_millis(500)), if self.has_work() => {}
                }
            }
            let interval = if published && !stopping { self.pace.interval() } else { ROUND_INTERVAL };
            tokio::select! {
                () = sleep_until(self.began + interval) => {}
                () = stopped(&mut self.stop), if !stopping => stopping = true,
            }
        }
        self.drop_producer();
    }

    fn has_work(&self) -> bool {
        self.shared.serving.lock().protocol.has_work()
    }

    /// One look at all partitions; whether something was published.
    async fn round(&mut self) -> bool {
        self.take_answers();
        self.shared.serving.lock().protocol.round();
        let mut then = Then::On;
        while then == Then::On {
            let next = self.shared.serving.lock().protocol.next_work();
            then = match next {
                Some(work) => self.carry_out(work).await,
                None => Then::Wait,
            };
        }
        if self.producer.is_some() && !self.has_work() {
            // Nothing that could still fail.
            self.failures = 0;
            rights::can_publish(&self.shared);
        }
        then == Then::Published
    }

    async fn carry_out(&mut self, work: Work) -> Then {
        match work {
            Work::OpenProducer => return self.open_producer().await,
            Work::Publish { producer } => return self.publish(producer).await,
            Work::AskGroupOffset(assignment) => self.ask_group_offset(assignment),
            Work::ReadOutbox { assignment, from } => {
                let read = self.read_outbox(assignment, from).await;
                let read = read.map_err(|fault| self.database_down(assignment.partition, &fault));
                self.shared.serving.lock().protocol.outbox_read(assignment, from, read.ok());
            }
            Work::ConfirmGroupOffset { assignment, .. } => {
                let group = self.shared.group_offset(assignment.partition).await;
                self.shared.serving.lock().protocol.group_offset_confirmed(assignment, group);
            }
            Work::Halt(assignment, reason) => {
                if let Err(fault) = self.halt(assignment, &reason).await {
                    self.database_down(assignment.partition, &fault);
                }
                self.shared.serving.lock().protocol.halt_written(assignment);
            }
        }
        Then::On
    }

    /// Said under a name of its own, so that what lanes do well meanwhile does not hide it.
    fn database_down(&self, partition: i32, fault: &Fault) {
        self.shared.metrics.retried(Dependency::Database);
        if self.shared.readiness.set(&super::reading_component(partition), Some(fault.to_string())) {
            tracing::warn!(partition, "publishing waits for the database: {fault}");
        }
    }

    /// Each partition by itself and beside the publishing: a transaction that a dead predecessor left open holds back the
    /// answer for its partitions, and only for them.
    fn ask_group_offset(&self, assignment: Assignment) {
        let (shared, answers) = (Arc::clone(&self.shared), self.answers.clone());
        tokio::spawn(async move {
            let group = shared.group_offset(assignment.partition).await;
            // The publisher is gone only when the process is on its way out.
            let _ = answers.send((assignment, group));
            shared.publish_now.notify_one();
        });
    }

    fn take_answers(&mut self) {
        while let Ok((assignment, group)) = self.answered.try_recv() {
            let (taken, applied) = {
                let protocol = &mut self.shared.serving.lock().protocol;
                if !protocol.group_offset_read(assignment, group) {
                    continue;
                }
                let applied = protocol.unpublished(assignment).map_or(0, Unpublished::applied);
                (protocol.group_offset(assignment), applied)
            };
            self.tell_refused(assignment, group, taken);
            tracing::debug!(partition = assignment.partition, ?group, "group's offset told");
            let Some(partition) = self.shared.serving.get(assignment.partition) else { continue };
            match group {
                // A lane that has not begun yet tells by itself.
                Some(GroupOffset::At(offset)) if applied > 0 => {
                    self.shared.tell_behind(assignment.partition, applied, offset);
                }
                // A lane that has begun already, without waiting for this answer, has to think again.
                Some(GroupOffset::Missing) => {
                    partition.deliver(Delivery::CheckLog);
                }
                _ => {}
            }
            partition.notify_changed();
        }
    }

    /// An answer below what was known is not taken: if it stays so, a person must see it.
    fn tell_refused(&self, assignment: Assignment, told: Option<GroupOffset>, taken: GroupOffset) {
        let component = super::refused_offset_component(assignment.partition);
        match told {
            Some(GroupOffset::At(offset)) if taken == GroupOffset::Unknown => {
                let line = format!("the broker tells the group's offset {offset}, and it was further on");
                if self.shared.readiness.set(&component, Some(line)) {
                    tracing::warn!(partition = assignment.partition, offset, "the group's offset was further on");
                }
            }
            Some(_) => {
                self.shared.readiness.clear(&component);
            }
            None => {}
        }
    }

    async fn read_outbox(&self, assignment: Assignment, from: i64) -> Result<OutboxRead<Arc<Output>>, Fault> {
        let (topic, partition) = (&self.shared.topics.change_events, assignment.partition);
        let read = self.shared.database.ask(async |lease| {
            // The position first: a row that it has passed is there when it is looked for afterwards.
            fail_point!("outbox-read-before");
            let row = position::read(&**lease, topic, &[partition]).await?.remove(&partition);
            let rows = outbox::read_covering(&**lease, topic, partition, from, ROWS_MAX, ROWS_BYTES_MAX).await?;
            Ok((row, rows))
        });
        let (row, rows) = read.await?;
        fail_point!("outbox-read-after");
        self.shared.readiness.clear(&super::reading_component(partition));
        // Lanes may have nothing to apply that would say so.
        self.shared.up(Dependency::Database);
        let rows = rows.into_iter().map(|row| OutboxSpan {
            start: row.start,
            end: row.end,
            events: usize::try_from(row.events).unwrap_or(0),
            bytes: row.bytes,
            records: Arc::new(row.output),
        });
        let position = row.filter(|row| row.halted_reason.is_none()).map(|row| row.position);
        Ok(OutboxRead { rows: rows.collect(), position })
    }

    async fn halt(&self, assignment: Assignment, reason: &HaltReason) -> Result<(), Fault> {
        match self.shared.serving.get(assignment.partition) {
            Some(partition) if partition.assignment == assignment => self.shared.halt(&partition, reason).await,
            _ => Ok(()),
        }
    }

    /// One transaction, on a thread of its own under a watchdog.
    async fn publish(&mut self, number: u64) -> Then {
        let Some(producer) = self.producer.clone() else {
            self.shared.serving.lock().protocol.producer_opened(false);
            return Then::Wait;
        };
        let began = Instant::now();
        let shared = Arc::clone(&self.shared);
        let transaction = spawn_blocking(move || transact(&shared, &producer, number));
        let ended = timeout(TRANSACTION_TIMEOUT + ABORT_TIMEOUT + WATCHDOG, transaction).await;
        self.shared.metrics.spent(Stage::Publish, began.elapsed());
        match ended {
            Ok(Ok(Some((transaction, Ok(()))))) => {
                self.committed(transaction);
                Then::Published
            }
            Ok(Ok(Some((transaction, Err(error))))) => {
                self.failed(error, transaction).await;
                Then::Wait
            }
            Ok(Ok(None)) => Then::Wait,
            Ok(Err(panic)) => {
                self.shared.fatal(format!("the publishing thread failed: {panic}"));
                Then::Wait
            }
            Err(_) => {
                self.producer_overdue();
                let under_way = self.shared.serving.lock().protocol.under_way();
                match under_way {
                    Some(transaction) => drop(self.shared.serving.end(transaction, Ended::InDoubt)),
                    None => self.shared.serving.lock().protocol.producer_opened(false),
                }
                Then::Wait
            }
        }
    }

    fn committed(&mut self, transaction: u64) {
        self.backoff.reset();
        self.failures = 0;
        self.shared.up(Dependency::Kafka);
        rights::can_publish(&self.shared);
        let Some(transaction) = self.shared.serving.end(transaction, Ended::Committed) else { return };
        let events: usize = transaction.loads.iter().flat_map(|load| &load.spans).map(|span| span.events).sum();
        self.pace.transaction(events, self.began - self.transaction_began);
        self.transaction_began = self.began;
        for load in &transaction.loads {
            if let Some(partition) = self.shared.serving.get(load.assignment.partition) {
                partition.notify_changed();
            }
            for received_ms in load.spans.iter().flat_map(|span| &span.records.received_ms) {
                self.shared.metrics.audit_latency.observe(seconds_since(*received_ms));
            }
        }
    }

    async fn failed(&mut self, error: PublishError, transaction: u64) {
        self.shared.metrics.retried(Dependency::Kafka);
        self.failures += 1;
        if self.failures > FAILURES_UNTOLD || is_refusal(error.cause()) {
            rights::cannot_publish(&self.shared, error.cause());
        }
        let is_fenced = matches!(error, PublishError::Fenced(_));
        let ended = match error {
            PublishError::Aborted(KafkaError::Canceled) => {
                tracing::info!("Kafka transaction called off: the committed offset decides");
                Ended::InDoubt
            }
            PublishError::Aborted(cause) => {
                tracing::info!(%cause, "Kafka transaction aborted, to be sent again");
                Ended::Aborted
            }
            PublishError::Doubt(cause) => {
                tracing::warn!(%cause, "Kafka transaction in doubt: the committed offset decides");
                Ended::InDoubt
            }
            PublishError::Fenced(cause) => {
                tracing::warn!(%cause, "Kafka producer fenced");
                Ended::InDoubt
            }
        };
        if ended == Ended::InDoubt {
            self.drop_producer();
        }
        self.shared.serving.end(transaction, ended);
        if is_fenced {
            // One heartbeat: a member that lost its place is told so by the group first.
            sleep(Duration::from_secs(1)).await;
        }
        sleep(self.backoff.next_wait()).await;
    }

    /// A new producer with the instance's transactional id, which ends what the former left open.
    async fn open_producer(&mut self) -> Then {
        let (config, topic) = (self.shared.producer_config.clone(), self.shared.topics.audit.clone());
        let opening = spawn_blocking(move || publisher::open(&config, &topic));
        let opened = timeout(OPEN_TIMEOUT + WATCHDOG, opening).await;
        match opened {
            Ok(Ok(Ok(producer))) => {
                tracing::debug!("Kafka producer opened");
                if self.failures <= FAILURES_UNTOLD {
                    rights::can_publish(&self.shared);
                }
                self.producer = Some(Arc::new(producer));
            }
            Ok(Ok(Err(error))) => {
                self.shared.metrics.retried(Dependency::Kafka);
                rights::cannot_publish(&self.shared, &error);
                sleep(self.backoff.next_wait()).await;
            }
            Ok(Err(panic)) => self.shared.fatal(format!("the publishing thread failed: {panic}")),
            Err(_) => self.producer_overdue(),
        }
        self.shared.serving.lock().protocol.producer_opened(self.producer.is_some());
        if self.producer.is_some() { Then::On } else { Then::Wait }
    }

    /// Dropping a producer blocks, too.
    fn drop_producer(&mut self) {
        if let Some(producer) = self.producer.take() {
            spawn_blocking(move || drop(producer));
        }
    }

    /// A call of librdkafka does not come back: its thread keeps the producer, a new one takes over.
    fn producer_overdue(&mut self) {
        self.producer = None;
        let now = Instant::now();
        self.overdue.push_back(now);
        self.overdue.retain(|at| now - *at < OVERDUE_WINDOW);
        tracing::error!(overdue = self.overdue.len(), "a Kafka producer does not answer and is left behind");
        if self.overdue.len() >= OVERDUE_MAX {
            self.shared.fatal("three Kafka producers hung within ten minutes".to_owned());
        }
    }
}

/// The blocking part: the list of partitions is taken under the lock that the rebalance callback takes, then all is sent.
/// `None` when there was nothing to send any more; else the transaction's number and end.
fn transact(shared: &Shared, producer: &TransactionalProducer, number: u64) -> Option<(u64, Result<(), PublishError>)> {
    if shared.topic_gone.load(Ordering::Relaxed) {
        return None;
    }
    #[cfg(feature = "fault-injection")]
    super::mutants::before_the_lock();
    let (transaction, group, abandoned) = {
        // Metadata first: the broker refuses those of an older generation than the list's, never the other way round. And
        // not under the lock, as nothing bounds the call.
        let group = shared.consumer().consumer().group_metadata()?;
        let mut serving = shared.serving.lock();
        let (transaction, abandoned) = serving.begin(number)?;
        (transaction, group, abandoned)
    };
    Some((transaction.number, send(shared, producer, &transaction, &group, &abandoned)))
}

fn send(
    shared: &Shared,
    producer: &TransactionalProducer,
    transaction: &Transaction<Arc<Output>>,
    group: &ConsumerGroupMetadata,
    abandoned: &std::sync::atomic::AtomicBool,
) -> Result<(), PublishError> {
    let next = transaction.loads.iter().map(|load| (load.assignment.partition, load.to));
    let offsets = &publisher::offsets(&shared.topics.change_events, next).map_err(PublishError::Aborted)?;
    // Below the group's offset is what an earlier transaction published.
    let records = transaction.loads.iter().flat_map(|load| {
        let records = load.spans.iter().flat_map(|span| &span.records.records);
        records.filter(|record| record.source_offset >= load.from)
    });
    let topics = &shared.output_topics();
    let told = told(shared, transaction).map_err(PublishError::Aborted)?;
    let confirm = &|timeout| told.as_ref().map_or(Ok(true), |told| told.is_right(timeout));
    let content = Content { topics, records, offsets, group, confirm, abandoned };
    #[cfg(feature = "fault-injection")]
    return super::mutants::publish(shared, producer, content);
    #[cfg(not(feature = "fault-injection"))]
    publisher::publish(producer, content)
}

/// What the transaction goes on from by the broker's word; offsets that our own transactions have set since need no question.
fn told(shared: &Shared, transaction: &Transaction<Arc<Output>>) -> KafkaResult<Option<Told>> {
    let told = transaction.loads.iter().filter(|load| load.is_told);
    let told = told.map(|load| (load.assignment.partition, load.from));
    let offsets = publisher::offsets(&shared.topics.change_events, told)?;
    (offsets.count() > 0).then(|| Told::new(&shared.asker_config, offsets)).transpose()
}
