//! The publisher: what is applied and not yet published goes out in Kafka transactions that carry the group's offsets.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rdkafka::{consumer::Consumer as _, error::KafkaError};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Shared,
    backoff::Backoff,
    batch::seconds_since,
    lane::stopped,
    partition::{Delivery, Partition},
    rights,
};
use crate::{
    domain::{
        position::{GroupOffset, HaltReason},
        publishing::{Next, OutboxSpan, contiguous_from},
    },
    kafka::publisher::{self, Content, OPEN_TIMEOUT, PublishError, TRANSACTION_TIMEOUT, TransactionalProducer},
    postgres::{
        Fault,
        outbox::{self, Output},
        position::{self, PositionRow},
    },
    telemetry::metrics::{Dependency, Stage},
};

/// From the start of one transaction to the start of the next: one each 50 ms costs the broker a quarter of a core.
const TRANSACTION_INTERVAL: Duration = Duration::from_millis(50);
/// Most that one transaction carries of one partition, and of all.
const PARTITION_BYTES_MAX: usize = 2 << 20;
const TRANSACTION_BYTES_MAX: usize = 8 << 20;
/// Most outbox rows read at once.
const ROWS_MAX: i64 = 200;
/// How often the outbox is cleared of what is published.
const CLEAR_INTERVAL: Duration = Duration::from_millis(500);
/// Blocking calls of librdkafka may outlast their time-outs by this much before they are given up.
const WATCHDOG: Duration = Duration::from_secs(5);
/// Producers left behind with a thread that hangs, in ten minutes, before the process gives up.
const OVERDUE_MAX: usize = 3;
const OVERDUE_WINDOW: Duration = Duration::from_secs(600);

/// What one transaction carries of one partition.
struct Load {
    partition: Arc<Partition>,
    /// The group's offset before; records below it are published already.
    from: i64,
    to: i64,
    spans: Vec<OutboxSpan<Arc<Output>>>,
    /// The spans came from the outbox, not from memory.
    read_back: bool,
}

fn in_doubt(loads: &[Load]) {
    for load in loads {
        load.partition.unpublished().doubt();
    }
}

/// The publisher's own state.
pub struct Publisher {
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    producer: Option<Arc<TransactionalProducer>>,
    overdue: VecDeque<Instant>,
    /// Offsets known to be committed, up to which outbox rows may go.
    clearable: BTreeMap<i32, i64>,
    cleared_at: Instant,
    backoff: Backoff,
    rounds: usize,
    /// Partitions whose group offset the broker is being asked for.
    asking: BTreeSet<i32>,
    answers: mpsc::UnboundedSender<GroupAnswer>,
    answered: mpsc::UnboundedReceiver<GroupAnswer>,
}

/// What the broker said of a partition's group offset; `None`: nothing yet.
type GroupAnswer = (Arc<Partition>, Option<GroupOffset>);

impl std::fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Publisher").field("clearable", &self.clearable).finish_non_exhaustive()
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
            clearable: BTreeMap::new(),
            cleared_at: Instant::now(),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
            rounds: 0,
            asking: BTreeSet::new(),
            answers,
            answered,
        }
    }

    /// Publishes until stopped and everything applied is published, or until it cannot go on.
    pub async fn run(mut self) {
        let mut stopping = false;
        loop {
            let began = Instant::now();
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
            sleep_until(began + TRANSACTION_INTERVAL).await;
        }
        self.clear_outbox(true).await;
    }

    fn has_work(&self) -> bool {
        let waits = |partition: &Arc<Partition>| {
            partition.unpublished().has_unpublished() || partition.start_to_commit().is_some()
        };
        !self.clearable.is_empty() || self.shared.serving.all().iter().any(waits)
    }

    /// One look at all partitions; whether something was published.
    async fn round(&mut self) -> bool {
        let mut partitions = self.shared.serving.all();
        // Each in turn is the first: what one transaction does not take of a long backlog is not always the same partitions'.
        self.rounds = self.rounds.wrapping_add(1);
        let first = self.rounds.checked_rem(partitions.len()).unwrap_or(0);
        partitions.rotate_left(first);
        self.ask_group_offsets(&partitions).await;
        self.take_group_offsets();
        let loads = self.gather(&partitions).await;
        let published = if loads.is_empty() { false } else { self.publish(loads).await };
        self.clear_outbox(false).await;
        published
    }

    /// Asks the broker for the offsets that are not known, each partition by itself and beside the publishing: a transaction
    /// that a dead predecessor left open holds back the answer for its partitions, and only for them.
    async fn ask_group_offsets(&mut self, partitions: &[Arc<Partition>]) {
        let unknown = |partition: &&Arc<Partition>| partition.unpublished().group() == GroupOffset::Unknown;
        let unknown: Vec<_> =
            partitions.iter().filter(unknown).filter(|one| !self.asking.contains(&one.number)).collect();
        // A new producer with our transactional id first: it ends what its predecessor left open, and what that one might
        // still have sent can no longer come after the answer.
        if unknown.is_empty() || self.producer().await.is_none() {
            return;
        }
        for partition in unknown {
            self.asking.insert(partition.number);
            let (shared, partition, answers) = (Arc::clone(&self.shared), Arc::clone(partition), self.answers.clone());
            tokio::spawn(async move {
                let group = shared.group_offset(partition.number).await;
                // The publisher is gone only when the process is on its way out.
                let _ = answers.send((partition, group));
                shared.publish_now.notify_one();
            });
        }
    }

    fn take_group_offsets(&mut self) {
        while let Ok((partition, group)) = self.answered.try_recv() {
            self.asking.remove(&partition.number);
            let Some(group) = group else { continue };
            let partition = &partition;
            if !self.shared.serving.lock().serves(partition) {
                continue;
            }
            let applied = {
                let mut unpublished = partition.unpublished();
                unpublished.group_offset_read(group);
                unpublished.applied()
            };
            if let GroupOffset::At(offset) = group {
                // A lane that has not begun yet tells by itself.
                if applied > 0 {
                    self.shared.tell_behind(partition.number, applied, offset);
                }
                self.clearable.insert(partition.number, offset);
            } else {
                // A lane that has begun already, without waiting for this answer, has to think again.
                partition.deliver(Delivery::CheckLog);
            }
            partition.notify_changed();
        }
    }

    /// What the next transaction is to carry.
    async fn gather(&mut self, partitions: &[Arc<Partition>]) -> Vec<Load> {
        let mut loads = Vec::new();
        let mut bytes = 0;
        for partition in partitions {
            if bytes >= TRANSACTION_BYTES_MAX {
                // The rest is due in the next one, which follows at once.
                self.shared.publish_now.notify_one();
                break;
            }
            match self.load_of(partition).await {
                Ok(Some(load)) => {
                    // Lanes may have nothing to apply that would say so.
                    if load.read_back {
                        self.shared.up(Dependency::Database);
                    }
                    bytes += load.spans.iter().map(|span| span.bytes).sum::<usize>();
                    loads.push(load);
                }
                Ok(None) => {}
                Err(fault) => self.shared.down(Dependency::Database, &fault),
            }
        }
        loads
    }

    async fn load_of(&self, partition: &Arc<Partition>) -> Result<Option<Load>, Fault> {
        let (group, next) = {
            let unpublished = partition.unpublished();
            (unpublished.group(), unpublished.next(PARTITION_BYTES_MAX))
        };
        let load = |from, spans: Vec<OutboxSpan<_>>, read_back| {
            let to = spans.last().map(|span| span.end)?;
            Some(Load { partition: Arc::clone(partition), from, to, spans, read_back })
        };
        match (group, next) {
            (GroupOffset::Missing, _) => Ok(partition.start_to_commit().map(|start| Load {
                partition: Arc::clone(partition),
                from: start,
                to: start,
                spans: Vec::new(),
                read_back: false,
            })),
            (GroupOffset::At(from), Next::Send(spans)) => Ok(load(from, contiguous_from(spans, from), false)),
            (GroupOffset::At(_), Next::ReadOutbox { from }) => {
                Ok(load(from, self.read_outbox(partition, from).await?, true))
            }
            _ => Ok(None),
        }
    }

    async fn read_outbox(&self, partition: &Arc<Partition>, from: i64) -> Result<Vec<OutboxSpan<Arc<Output>>>, Fault> {
        let topic = &self.shared.topics.change_events;
        let lease = self.shared.database.lease().await?;
        // The position first: a row that it has passed is there when it is looked for afterwards.
        let row = position::read(&*lease, topic, &[partition.number]).await?.remove(&partition.number);
        let bytes_max = i64::try_from(PARTITION_BYTES_MAX).unwrap_or(i64::MAX);
        let rows = outbox::read_covering(&*lease, topic, partition.number, from, ROWS_MAX, bytes_max).await?;
        lease.give_back();
        let spans = rows.into_iter().map(|row| OutboxSpan {
            start: row.start,
            end: row.end,
            events: usize::try_from(row.events).unwrap_or(0),
            bytes: row.bytes,
            records: Arc::new(row.output),
        });
        let spans = contiguous_from(spans.collect(), from);
        // Read once more before a partition is stopped: the offset decides, not what was known of it.
        let still = || async { self.shared.group_offset(partition.number).await == Some(GroupOffset::At(from)) };
        let is_past = |row: &PositionRow| spans.is_empty() && row.position > from && row.halted_reason.is_none();
        if let Some(row) = row.filter(is_past) {
            if still().await {
                let reason = HaltReason::OutboxRowMissing { offset: from, position: row.position };
                self.shared.halt(partition, &reason).await?;
            } else {
                partition.unpublished().doubt();
            }
        }
        Ok(spans)
    }

    /// One transaction; whether it committed.
    async fn publish(&mut self, loads: Vec<Load>) -> bool {
        let Some(producer) = self.producer().await else { return false };
        let Some((number, loads, transaction)) = self.begin(producer, loads) else { return false };
        let began = Instant::now();
        let ended = timeout(TRANSACTION_TIMEOUT + OPEN_TIMEOUT + WATCHDOG, transaction).await;
        self.shared.metrics.spent(Stage::Publish, began.elapsed());
        let result = match ended {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => {
                self.shared.fatal(format!("the publishing thread failed: {panic}"));
                return false;
            }
            Err(_) => {
                self.producer_overdue();
                in_doubt(&loads);
                self.shared.serving.end(number);
                return false;
            }
        };
        let committed = result.is_ok();
        match result {
            Ok(()) => self.committed(&loads),
            Err(error) => self.failed(error, &loads).await,
        }
        self.shared.serving.end(number);
        committed
    }

    /// Takes the list of partitions and the group's metadata under the lock that the rebalance callback takes, and starts
    /// the blocking part on a thread of its own.
    #[allow(clippy::type_complexity)]
    fn begin(
        &self,
        producer: Arc<TransactionalProducer>,
        loads: Vec<Load>,
    ) -> Option<(u64, Vec<Load>, tokio::task::JoinHandle<Result<(), PublishError>>)> {
        let topics = self.shared.output_topics();
        if self.shared.topic_gone.load(Ordering::Relaxed) {
            return None;
        }
        let mut serving = self.shared.serving.lock();
        let loads: Vec<Load> = loads.into_iter().filter(|load| serving.serves(&load.partition)).collect();
        if loads.is_empty() {
            return None;
        }
        let next = loads.iter().map(|load| (load.partition.number, load.to));
        let offsets = publisher::offsets(&self.shared.topics.change_events, next).ok()?;
        let group = self.shared.consumer().consumer().group_metadata()?;
        let (number, abandoned) =
            serving.begin(loads.iter().map(|load| load.partition.number).collect::<BTreeSet<i32>>());
        drop(serving);
        let spans: Vec<(i64, Arc<Output>)> = loads
            .iter()
            .flat_map(|load| load.spans.iter().map(|span| (load.from, Arc::clone(&span.records))))
            .collect();
        let transaction = spawn_blocking(move || {
            // Below the group's offset is what an earlier transaction published.
            let records = spans.iter().flat_map(|(from, produced)| {
                produced.records.iter().filter(move |record| record.source_offset >= *from)
            });
            let (topics, offsets, group, abandoned) = (&topics, &offsets, &group, &abandoned);
            publisher::publish(&producer, Content { topics, records, offsets, group, abandoned })
        });
        Some((number, loads, transaction))
    }

    fn committed(&mut self, loads: &[Load]) {
        self.backoff.reset();
        self.shared.up(Dependency::Kafka);
        rights::may_publish(&self.shared);
        for load in loads {
            {
                let mut unpublished = load.partition.unpublished();
                if load.read_back {
                    unpublished.published_from_outbox(load.to, &load.spans);
                } else {
                    unpublished.published(load.to);
                }
            }
            load.partition.notify_changed();
            self.clearable.insert(load.partition.number, load.to);
            for received_ms in load.spans.iter().flat_map(|span| &span.records.received_ms) {
                self.shared.metrics.audit_latency.observe(seconds_since(*received_ms));
            }
        }
    }

    async fn failed(&mut self, error: PublishError, loads: &[Load]) {
        self.shared.metrics.retried(Dependency::Kafka);
        rights::may_not_publish(&self.shared, error.cause());
        match error {
            PublishError::Aborted(KafkaError::Canceled) => {
                tracing::info!("Kafka transaction aborted, a partition that it carried is given up");
                self.drop_producer();
                in_doubt(loads);
            }
            PublishError::Aborted(cause) => tracing::info!(%cause, "Kafka transaction aborted, to be sent again"),
            PublishError::Doubt(cause) => {
                tracing::warn!(%cause, "Kafka transaction in doubt: the committed offset decides");
                self.drop_producer();
                in_doubt(loads);
            }
            PublishError::Fenced(cause) => {
                tracing::warn!(%cause, "Kafka producer fenced");
                self.drop_producer();
                in_doubt(loads);
                // One heartbeat: a member that lost its place is told so by the group first.
                sleep(Duration::from_secs(1)).await;
            }
        }
        sleep(self.backoff.next_wait()).await;
    }

    /// The producer in use, or a new one with the same transactional id, which ends what the former left open.
    async fn producer(&mut self) -> Option<Arc<TransactionalProducer>> {
        if let Some(producer) = &self.producer {
            return Some(Arc::clone(producer));
        }
        let config = self.shared.producer_config.clone();
        match timeout(OPEN_TIMEOUT + WATCHDOG, spawn_blocking(move || publisher::open(&config))).await {
            Ok(Ok(Ok(producer))) => {
                self.producer = Some(Arc::new(producer));
                self.producer.clone()
            }
            Ok(Ok(Err(error))) => {
                self.shared.down(Dependency::Kafka, &error);
                rights::may_not_publish(&self.shared, &error);
                sleep(self.backoff.next_wait()).await;
                None
            }
            Ok(Err(panic)) => {
                self.shared.fatal(format!("the publishing thread failed: {panic}"));
                None
            }
            Err(_) => {
                self.producer_overdue();
                None
            }
        }
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

    async fn clear_outbox(&mut self, now: bool) {
        if self.clearable.is_empty() || (!now && self.cleared_at.elapsed() < CLEAR_INTERVAL) {
            return;
        }
        let published: Vec<(i32, i64)> = std::mem::take(&mut self.clearable).into_iter().collect();
        self.cleared_at = Instant::now();
        // What stays is cleared with the next batch of rows: each deletion reaches down to the first.
        match timeout(Duration::from_secs(5), self.delete_published(&published)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::debug!(%fault, "outbox not cleared"),
            Err(_) => tracing::debug!("outbox not cleared in time"),
        }
    }

    async fn delete_published(&self, published: &[(i32, i64)]) -> Result<(), Fault> {
        let lease = self.shared.database.lease().await?;
        outbox::delete_up_to(&*lease, &self.shared.topics.change_events, published).await?;
        lease.give_back();
        Ok(())
    }
}
