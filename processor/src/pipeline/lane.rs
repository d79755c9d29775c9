//! One partition's lane: records in the order of the log, one transaction at a time, from the position in the database on.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{Instant, sleep},
};

use super::{
    Shared,
    backoff::Backoff,
    batch::{Prepared, decode},
    partition::{BACKLOG_BYTES_MAX, BACKLOG_EVENTS_MAX, Delivery, Partition, size},
    retry::{Applier, Done},
};
use crate::{
    domain::{
        position::{Applied, GroupOffset, Start, needs_log_ends, start},
        publishing::Backlog,
    },
    kafka::registry::SchemaKind,
    postgres::{
        Fault, outbox,
        position::{self, PositionRow},
    },
    telemetry::metrics::{Dependency, Stage},
    wire::{
        change_event::{FRAME_BYTES, Undecodable, ValueForm, value_form},
        record::InputRecord,
    },
};

/// Bytes of records in one batch, beside its most events: larger batches cost memory and are no faster.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How often a halted lane looks whether it was repaired.
const REPAIR_LOOK: Duration = Duration::from_secs(5);
/// A lane that is fenced again and again waits no longer than a session time-out between two looks.
const FENCED_WAIT_MAX: Duration = Duration::from_secs(6);

/// Why the lane stops doing what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Read the position and begin again.
    Restart,
    /// The partition was revoked, or the process is to end.
    Stop,
}

/// A lane.
#[derive(Debug)]
pub struct Lane {
    pub shared: Arc<Shared>,
    pub partition: Arc<Partition>,
    pub deliveries: UnboundedReceiver<Delivery>,
    /// Turns true when the lane is to finish what it has in hand and end.
    pub stop: watch::Receiver<bool>,
    /// How often the lane has begun.
    pub life: u64,
}

/// What the lane is to apply next.
#[derive(Default)]
struct Hand {
    events: Vec<InputRecord>,
    /// The position may move this far when nothing else is to be applied.
    end: Option<i64>,
}

impl Lane {
    /// Runs until stopped.
    pub async fn run(mut self) {
        let mut fenced = Backoff::new(Duration::from_millis(50), FENCED_WAIT_MAX);
        let mut check_log = false;
        loop {
            let Some(position) = self.start(check_log).await else { return };
            check_log = false;
            let began = Instant::now();
            match self.apply_from(position, &mut check_log).await {
                Turn::Stop => return,
                Turn::Restart => {
                    if began.elapsed() > FENCED_WAIT_MAX {
                        fenced.reset();
                    }
                    if self.pause(fenced.next_wait()).await == Err(Turn::Stop) {
                        return;
                    }
                }
            }
        }
    }

    /// Finds out where to begin, however long that takes; `None` when stopped.
    async fn start(&mut self, mut check_log: bool) -> Option<i64> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut stop = self.stop.clone();
        loop {
            check_log |= self.drain();
            let found = tokio::select! {
                biased;
                () = stopped(&mut stop) => return None,
                found = self.start_step(check_log) => found,
            };
            match found {
                Ok(Some(position)) => {
                    self.shared.up(Dependency::Database);
                    return Some(position);
                }
                Ok(None) => check_log = false,
                Err(fault) => {
                    self.shared.down(Dependency::Database, &fault);
                    self.pause(backoff.next_wait()).await.ok()?;
                }
            }
        }
    }

    /// Drops what was delivered before the lane begins; whether the log was to be looked at.
    fn drain(&mut self) -> bool {
        let mut check_log = false;
        self.partition.set_oldest(None);
        while let Ok(delivery) = self.deliveries.try_recv() {
            match delivery {
                Delivery::Record(record) => self.partition.taken(&record),
                Delivery::CheckLog => check_log = true,
                Delivery::Begun(_) | Delivery::EndReached | Delivery::QuietEnd(_) => {}
            }
        }
        check_log
    }

    /// One look at where the partition stands; `Some` when it can begin.
    async fn start_step(&self, check_log: bool) -> Result<Option<i64>, Fault> {
        let (topic, number) = (&self.shared.topics.change_events, self.partition.number);
        let lease = self.shared.database.lease().await?;
        let row = position::read(&*lease, topic, &[number]).await?.remove(&number);
        lease.give_back();
        if let Some(PositionRow { position, halted_reason: Some(line), .. }) = row {
            self.halted(position, line).await?;
            return Ok(None);
        }
        let applied = row.map(|row| Applied { position: row.position, start: row.start });
        let group = self.partition.unpublished().group();
        let log = if check_log || needs_log_ends(applied, group) { self.shared.log_ends(number).await } else { None };
        match start(applied, group, log) {
            Start::Apply(from) => self.begin(from).await,
            Start::Insert(at) => {
                let lease = self.shared.database.lease().await?;
                position::insert_start(&*lease, topic, number, at).await?;
                lease.give_back();
                Ok(None)
            }
            Start::CommitStart(at) => {
                self.partition.commit_start(Some(at));
                self.shared.publish_now.notify_one();
                self.partition
                    .wait_until(|unpublished| matches!(unpublished.group(), GroupOffset::At(_)).then_some(()))
                    .await;
                self.partition.commit_start(None);
                Ok(None)
            }
            Start::AwaitGroupOffset => {
                self.shared.publish_now.notify_one();
                self.partition.group_offset().await;
                // The broker may not have told the log's ends, which decide as well: not in a tight loop.
                sleep(Duration::from_millis(50)).await;
                Ok(None)
            }
            Start::Halt(reason) => {
                self.shared.halt(&self.partition, &reason).await?;
                Ok(None)
            }
        }
    }

    async fn begin(&self, from: i64) -> Result<Option<i64>, Fault> {
        self.restart_publishing(from).await?;
        if let GroupOffset::At(offset) = self.partition.unpublished().group() {
            self.shared.tell_behind(self.partition.number, from, offset);
        }
        self.partition.set_position(from);
        self.shared.set_halted(&self.partition, None);
        self.shared.publish_now.notify_one();
        Ok(Some(from))
    }

    /// What a former life of this lane, or a former owner, left unpublished lies in the outbox.
    async fn restart_publishing(&self, position: i64) -> Result<(), Fault> {
        let lease = self.shared.database.lease().await?;
        let unpublished =
            outbox::unpublished(&*lease, &self.shared.topics.change_events, Some(self.partition.number)).await?;
        lease.give_back();
        let ours = unpublished.first();
        let backlog = ours.map_or_else(Backlog::default, |row| Backlog {
            batches: usize_of(row.batches),
            events: usize_of(row.events),
            bytes: usize_of(row.bytes),
        });
        self.partition.unpublished().restart(position, backlog);
        Ok(())
    }

    /// Stays assigned and paused until a person has settled it; what is applied goes on being published.
    async fn halted(&self, position: i64, line: String) -> Result<(), Fault> {
        let number = self.partition.number;
        if !self.shared.ends.is_empty() {
            self.shared.fatal(line.clone());
        }
        self.shared.set_halted(&self.partition, Some(line));
        self.shared.consumer().hold(number);
        self.restart_publishing(position).await?;
        // A repair sets the group's offset, too: what is known of it is stale.
        self.partition.unpublished().doubt();
        self.shared.publish_now.notify_one();
        sleep(REPAIR_LOOK).await;
        self.partition.unpublished().doubt();
        Ok(())
    }

    /// Applies what comes, batch by batch.
    async fn apply_from(&mut self, from: i64, check_log: &mut bool) -> Turn {
        self.life += 1;
        self.shared.consumer().begin(self.partition.number, from, self.life);
        loop {
            match self.next_delivery().await {
                Err(turn) => return turn,
                Ok(Delivery::Begun(life)) if life == self.life => break,
                Ok(Delivery::CheckLog) => {
                    *check_log = true;
                    return Turn::Restart;
                }
                // Of a former life of this lane.
                Ok(_) => {}
            }
        }
        let shared = Arc::clone(&self.shared);
        let partition = Arc::clone(&self.partition);
        let mut applier = Applier::new(shared, partition, from, self.stop.clone());
        loop {
            let turn = self.step(&mut applier, check_log).await;
            if let Err(turn) = turn {
                return turn;
            }
        }
    }

    async fn step(&mut self, applier: &mut Applier, check_log: &mut bool) -> Result<(), Turn> {
        let first = self.next_delivery().await?;
        if let Delivery::Record(record) = &first {
            self.partition.set_oldest(Some(record.timestamp_ms));
        }
        self.wait_for_publisher().await?;
        // Taken once there is a place in the database: what came while others were at work makes one batch.
        applier.place().await.map_err(|_| Turn::Stop)?;
        let hand = self.take(first, applier.position(), check_log)?;
        let end = hand.end;
        let prepared = self.prepare(hand.events, applier).await?;
        let done = applier.apply(prepared, end).await;
        applier.leave_place();
        self.partition.set_oldest(None);
        match done {
            Done::Applied => Ok(()),
            Done::Fenced => Err(Turn::Restart),
            Done::Stopped => Err(Turn::Stop),
        }
    }

    /// Everything that is there, up to a batch's bounds.
    fn take(&mut self, first: Delivery, position: i64, check_log: &mut bool) -> Result<Hand, Turn> {
        let mut hand = Hand::default();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(delivery) = next {
            match delivery {
                Delivery::Record(record) => {
                    bytes += size(&record);
                    // Below the position: delivered again by the broker, applied long since.
                    if record.offset >= position {
                        hand.events.push(record);
                        hand.end = None;
                    }
                }
                Delivery::EndReached => hand.end = hand.end.max(self.shared.end_at_start(self.partition.number)),
                Delivery::QuietEnd(offset) => hand.end = hand.end.max(Some(offset)),
                Delivery::Begun(_) => {}
                Delivery::CheckLog => {
                    *check_log = true;
                    return Err(Turn::Restart);
                }
            }
            if hand.events.len() >= self.shared.batch_events_max || bytes >= BATCH_BYTES_MAX {
                break;
            }
            next = self.deliveries.try_recv().ok();
            if let Some(Delivery::Record(record)) = &next {
                self.partition.taken(record);
            }
        }
        self.partition.set_oldest(hand.events.first().map(|record| record.timestamp_ms));
        Ok(hand)
    }

    async fn next_delivery(&mut self) -> Result<Delivery, Turn> {
        let delivery = tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return Err(Turn::Stop),
            delivery = self.deliveries.recv() => delivery.ok_or(Turn::Stop)?,
        };
        if let Delivery::Record(record) = &delivery {
            self.partition.taken(record);
        }
        Ok(delivery)
    }

    /// Applying never waits for publishing, but what is unpublished is bounded.
    async fn wait_for_publisher(&mut self) -> Result<(), Turn> {
        let room = self.partition.wait_until(|unpublished| {
            let backlog = unpublished.backlog();
            if self.partition.is_halted() || unpublished.group() == GroupOffset::Missing {
                return Some(Err(Turn::Restart));
            }
            (backlog.events < BACKLOG_EVENTS_MAX && backlog.bytes < BACKLOG_BYTES_MAX).then_some(Ok(()))
        });
        tokio::select! {
            biased;
            room = room => room,
            () = stopped(&mut self.stop) => Err(Turn::Stop),
        }
    }

    /// Reads the records; only a frame with a schema id not seen before asks the registry.
    async fn prepare(&mut self, records: Vec<InputRecord>, applier: &mut Applier) -> Result<Vec<Prepared>, Turn> {
        let decoding = Instant::now();
        let mut prepared = Vec::with_capacity(records.len());
        for record in records {
            let json = self.json_of(&record, applier).await?;
            prepared.push(decode(record, json));
        }
        self.shared.metrics.spent(Stage::Decode, decoding.elapsed());
        Ok(prepared)
    }

    async fn json_of(
        &mut self,
        record: &InputRecord,
        applier: &mut Applier,
    ) -> Result<Result<std::ops::Range<usize>, Undecodable>, Turn> {
        let value = record.value.as_deref().unwrap_or_default();
        let schema_id = match value_form(value) {
            None => return Ok(Err(Undecodable::Frame)),
            Some(ValueForm::Plain) => return Ok(Ok(0..value.len())),
            Some(ValueForm::Framed { schema_id }) => schema_id,
        };
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match self.shared.registry.schema_type(schema_id).await {
                Ok(kind) => {
                    self.shared.up(Dependency::Registry);
                    return Ok(match kind {
                        SchemaKind::Json => Ok(FRAME_BYTES..value.len()),
                        SchemaKind::Unknown => Err(Undecodable::Schema),
                        SchemaKind::Avro | SchemaKind::Protobuf => Err(Undecodable::OtherFormat),
                    });
                }
                Err(error) => {
                    self.shared.down(Dependency::Registry, &error);
                    // A registry that is away holds up this partition and no other.
                    applier.leave_place();
                    self.pause(backoff.next_wait()).await?;
                }
            }
        }
    }

    async fn pause(&mut self, wait: Duration) -> Result<(), Turn> {
        tokio::select! {
            () = stopped(&mut self.stop) => Err(Turn::Stop),
            () = sleep(wait) => Ok(()),
        }
    }
}

/// Resolves once the lane is to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn usize_of(count: i64) -> usize {
    usize::try_from(count).unwrap_or(0)
}
