//! One partition's lane: records in the order of the log, one transaction at a time, from the position in the database on.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    Shared,
    backoff::Backoff,
    batch::{Prepared, decode},
    partition::{BACKLOG_BYTES_MAX, BACKLOG_EVENTS_MAX, Delivery, Partition, size},
    retry::{Applier, Done},
};
use crate::{
    kafka::registry::SchemaKind,
    postgres::{
        Fault, outbox,
        position::{self, PositionRow},
    },
    protocol::{
        applying::Progress,
        lane::{Halted, Lane as Protocol, Step},
        position::{Applied, GroupOffset},
        unpublished::Backlog,
    },
    telemetry::metrics::{Dependency, Stage},
    wire::{
        change_event::{ValueForm, value_form},
        record::InputRecord,
    },
};

/// Bytes of records in one batch, beside its most events: larger batches cost memory and are no faster.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How often a halted lane looks whether it was repaired.
const REPAIR_LOOK: Duration = Duration::from_secs(5);
/// A lane that is fenced again and again waits no longer than a session time-out between two looks.
const FENCED_WAIT_MAX: Duration = Duration::from_secs(6);
/// How long a lane waits for the group's offset before it applies without: an answer that a dead process's transaction holds back
/// takes many seconds, every other one much less.
const GROUP_OFFSET_WAIT: Duration = Duration::from_secs(1);
/// Between two looks at what the broker has not told yet.
const BROKER_LOOK: Duration = Duration::from_millis(50);

/// Why the lane stops applying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Read the position and begin again.
    Restart,
    /// The same, and hold the position against the log's ends.
    CheckLog,
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
}

/// What the lane is to apply next.
#[derive(Default)]
struct Hand {
    events: VecDeque<InputRecord>,
    /// The position may move this far when nothing else is to be applied.
    end: Option<i64>,
}

impl Lane {
    /// Runs until stopped.
    pub async fn run(mut self) {
        let mut protocol = Protocol::new();
        let mut fenced = Backoff::new(Duration::from_millis(50), FENCED_WAIT_MAX);
        let mut away = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut ending = self.stop.clone();
        tokio::select! {
            biased;
            () = stopped(&mut ending) => return,
            () = self.hear_of_group() => {}
        }
        loop {
            let step = protocol.step();
            if let Step::Apply { from } = step {
                away.reset();
                let began = Instant::now();
                match self.apply_from(from).await {
                    Turn::Stop => return,
                    Turn::Restart => protocol.restart(),
                    Turn::CheckLog => protocol.check_log(),
                }
                if began.elapsed() > FENCED_WAIT_MAX {
                    fenced.reset();
                }
                if self.pause(fenced.next_wait()).await.is_err() {
                    return;
                }
                continue;
            }
            let carried_out = tokio::select! {
                biased;
                () = stopped(&mut ending) => return,
                carried_out = self.carry_out(step, &mut protocol) => carried_out,
            };
            if let Err(fault) = carried_out {
                self.shared.metrics.retried(Dependency::Database);
                self.shared.down(Dependency::Database, &fault);
                protocol.restart();
                if self.pause(away.next_wait()).await.is_err() {
                    return;
                }
            }
        }
    }

    /// A group without an offset tells that the log is another one than it was: better known before anything of it is applied.
    async fn hear_of_group(&self) {
        let heard = self.partition.wait_until(|| (self.group_offset() != GroupOffset::Unknown).then_some(()));
        let _ = timeout(GROUP_OFFSET_WAIT, heard).await;
    }

    /// One step on the way to applying.
    async fn carry_out(&mut self, step: Step, protocol: &mut Protocol) -> Result<(), Fault> {
        match step {
            Step::ReadPosition => self.read_position(protocol).await?,
            Step::ReadLogEnds => {
                let ends = self.shared.log_ends(self.partition.number).await;
                protocol.log_ends_read(ends, self.group_offset());
            }
            Step::ConfirmGroup => {
                let group = self.shared.group_offset(self.partition.number).await;
                if !protocol.group_confirmed(group) {
                    self.shared.serving.lock().protocol.doubt(self.partition.assignment);
                }
                if group.is_none() {
                    sleep(BROKER_LOOK).await;
                }
            }
            Step::Begin { from, life } => self.begin(from, life, protocol).await,
            step => {
                match step {
                    Step::InsertStart(at) => self.insert_start(at).await?,
                    Step::CommitStart(at) => self.commit_start(at).await,
                    Step::AwaitBroker => self.await_broker().await,
                    Step::Halt(reason) => self.shared.halt(&self.partition, &reason).await?,
                    Step::StayHalted(halted) => self.stay_halted(halted).await?,
                    Step::CountBacklog(position) => self.count_backlog(position).await?,
                    Step::ReadPosition
                    | Step::ReadLogEnds
                    | Step::ConfirmGroup
                    | Step::Begin { .. }
                    | Step::Apply { .. } => {}
                }
                protocol.done();
            }
        }
        Ok(())
    }

    /// What is known of the group's offset.
    fn group_offset(&self) -> GroupOffset {
        self.shared.serving.lock().protocol.group_offset(self.partition.assignment)
    }

    async fn read_position(&mut self, protocol: &mut Protocol) -> Result<(), Fault> {
        if self.drain() {
            protocol.check_log();
        }
        let (topic, number) = (&self.shared.topics.change_events, self.partition.number);
        let rows = self.shared.database.ask(async |lease| position::read(&**lease, topic, &[number]).await);
        let row = rows.await?.remove(&number);
        if self.partition.is_halted() && row.as_ref().is_some_and(|row| row.halted_reason.is_none()) {
            // Repaired: whatever was told of the group's offset before this was read may be older than that.
            self.shared.set_halted(&self.partition, None);
            self.shared.serving.lock().protocol.doubt(self.partition.assignment);
        }
        let applied = row.as_ref().map(|row| Applied { position: row.position, start: row.start });
        let halted = row.and_then(|PositionRow { position, halted_reason, .. }| {
            halted_reason.map(|line| Halted { position, line })
        });
        protocol.position_read(applied, halted, self.group_offset());
        Ok(())
    }

    /// Drops what was delivered before the lane begins; whether the log was to be looked at.
    fn drain(&mut self) -> bool {
        let mut check_log = false;
        self.partition.set_oldest(None);
        while let Ok(delivery) = self.deliveries.try_recv() {
            match delivery {
                Delivery::Record(record) => self.partition.taken(&record),
                Delivery::CheckLog => check_log = true,
                Delivery::Begun(_) | Delivery::QuietEnd(_) | Delivery::CommitsLost => {}
            }
        }
        check_log
    }

    async fn insert_start(&self, at: i64) -> Result<(), Fault> {
        let (topic, number) = (&self.shared.topics.change_events, self.partition.number);
        self.shared.database.ask(async |lease| position::insert_start(&**lease, topic, number, at).await).await?;
        Ok(())
    }

    async fn commit_start(&self, at: i64) {
        let assignment = self.partition.assignment;
        self.shared.serving.lock().protocol.commit_start(assignment, Some(at));
        self.shared.publish_now.notify_one();
        self.partition.wait_until(|| matches!(self.group_offset(), GroupOffset::At(_)).then_some(())).await;
        self.shared.serving.lock().protocol.commit_start(assignment, None);
    }

    async fn await_broker(&self) {
        self.shared.publish_now.notify_one();
        self.partition.wait_until(|| (self.group_offset() != GroupOffset::Unknown).then_some(())).await;
        sleep(BROKER_LOOK).await;
    }

    /// What a former life of this lane, or a former owner, left unpublished lies in the outbox.
    async fn count_backlog(&self, position: i64) -> Result<(), Fault> {
        self.restart_publishing(position).await?;
        if let GroupOffset::At(offset) = self.group_offset() {
            self.shared.tell_behind(self.partition.number, position, offset);
        }
        self.partition.set_position(position);
        self.shared.set_halted(&self.partition, None);
        // Rows that could not be read may be gone with a repair.
        self.shared.readiness.clear(&super::reading_component(self.partition.number));
        self.shared.publish_now.notify_one();
        self.shared.lane_goes_on(Dependency::Database, self.partition.number);
        Ok(())
    }

    async fn restart_publishing(&self, position: i64) -> Result<(), Fault> {
        let (topic, number) = (&self.shared.topics.change_events, self.partition.number);
        let unpublished = self.shared.database.ask(async |lease| outbox::unpublished(&**lease, topic, &[number]).await);
        let unpublished = unpublished.await?;
        let ours = unpublished.first();
        let backlog = ours.map_or_else(Backlog::default, |row| Backlog {
            batches: usize_of(row.batches),
            events: usize_of(row.events),
            bytes: usize_of(row.bytes),
        });
        self.shared.serving.lock().protocol.restart(self.partition.assignment, position, backlog);
        Ok(())
    }

    /// Stays assigned and paused until a person has settled it; what is applied goes on being published.
    async fn stay_halted(&self, Halted { position, line }: Halted) -> Result<(), Fault> {
        if !self.shared.ends.is_empty() {
            self.shared.fatal(line.clone());
        }
        self.shared.set_halted(&self.partition, Some(line));
        self.shared.consumer().hold(self.partition.number);
        self.restart_publishing(position).await?;
        self.partition.set_position(position);
        // A repair sets the group's offset, too: what is known of it is stale.
        self.shared.serving.lock().protocol.doubt(self.partition.assignment);
        self.shared.publish_now.notify_one();
        sleep(REPAIR_LOOK).await;
        Ok(())
    }

    async fn begin(&mut self, from: i64, life: u64, protocol: &mut Protocol) {
        self.shared.consumer().begin(self.partition.number, from, life);
        while protocol.step() == (Step::Begin { from, life }) {
            match self.deliveries.recv().await {
                Some(Delivery::Begun(life)) => protocol.begun(life),
                Some(Delivery::CheckLog) => protocol.check_log(),
                // Of a former life of this lane.
                Some(Delivery::Record(record)) => self.partition.taken(&record),
                Some(Delivery::QuietEnd(_) | Delivery::CommitsLost) => {}
                None => return,
            }
        }
    }

    /// Applies what comes, batch by batch.
    async fn apply_from(&mut self, from: i64) -> Turn {
        let mut progress = Progress::new(from);
        let mut applier = Applier::new(Arc::clone(&self.shared), Arc::clone(&self.partition), self.stop.clone());
        loop {
            if let Err(turn) = self.apply_hand(&mut applier, &mut progress).await {
                return turn;
            }
        }
    }

    async fn apply_hand(&mut self, applier: &mut Applier, progress: &mut Progress) -> Result<(), Turn> {
        let first = self.next_delivery().await?;
        if let Delivery::Record(record) = &first {
            self.partition.set_oldest(Some(record.timestamp_ms));
        }
        self.wait_for_publisher().await?;
        // Taken once there is a place in the database: what came while others were at work makes one batch.
        applier.place().await.map_err(|_| Turn::Stop)?;
        let Hand { mut events, end } = self.take(first, progress.position)?;
        let done = loop {
            let prepared = self.prepare(&mut events, applier).await?;
            let done = applier.apply(prepared, end.filter(|_| events.is_empty()), progress).await;
            if done != Done::Applied || events.is_empty() {
                break done;
            }
            self.partition.set_oldest(events.front().map(|record| record.timestamp_ms));
        };
        applier.leave_place();
        self.partition.set_oldest(None);
        match done {
            Done::Applied => Ok(()),
            Done::Fenced => Err(Turn::Restart),
            Done::Stopped => Err(Turn::Stop),
        }
    }

    /// Everything that is there, up to a batch's bounds.
    fn take(&mut self, first: Delivery, position: i64) -> Result<Hand, Turn> {
        let mut hand = Hand::default();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(delivery) = next {
            match delivery {
                Delivery::Record(record) => {
                    bytes += size(&record);
                    // Below the position: delivered again by the broker, applied long since.
                    if record.offset >= position {
                        hand.events.push_back(record);
                        hand.end = None;
                    }
                }
                Delivery::QuietEnd(offset) => hand.end = hand.end.max(Some(offset)),
                Delivery::Begun(_) => {}
                Delivery::CommitsLost => return Err(Turn::Restart),
                Delivery::CheckLog => return Err(Turn::CheckLog),
            }
            if hand.events.len() >= self.shared.batch_events_max || bytes >= BATCH_BYTES_MAX {
                break;
            }
            next = self.deliveries.try_recv().ok();
            if let Some(Delivery::Record(record)) = &next {
                self.partition.taken(record);
            }
        }
        self.partition.set_oldest(hand.events.front().map(|record| record.timestamp_ms));
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
        let room = self.partition.wait_until(|| {
            let serving = self.shared.serving.lock();
            // Served no longer: the lane is told to stop.
            let unpublished = serving.protocol.unpublished(self.partition.assignment)?;
            if self.partition.is_halted() || unpublished.group() == GroupOffset::Missing {
                return Some(Err(Turn::Restart));
            }
            let backlog = unpublished.backlog();
            (backlog.events < BACKLOG_EVENTS_MAX && backlog.bytes < BACKLOG_BYTES_MAX).then_some(Ok(()))
        });
        tokio::select! {
            biased;
            room = room => room,
            () = stopped(&mut self.stop) => Err(Turn::Stop),
        }
    }

    /// Reads records up to the next one whose frame has a schema id that is not known: what comes before it does not wait for the
    /// registry. When the very first is such a one, the registry is asked.
    async fn prepare(
        &mut self,
        records: &mut VecDeque<InputRecord>,
        applier: &mut Applier,
    ) -> Result<Vec<Prepared>, Turn> {
        let mut prepared = Vec::with_capacity(records.len());
        if let Some(id) = records.front().and_then(schema_id)
            && self.shared.registry.remembered(id).is_none()
        {
            let kind = self.ask_registry(id, applier).await?;
            prepared.extend(records.pop_front().map(|record| decode(record, Some(kind))));
        }
        let decoding = Instant::now();
        let registry = &self.shared.registry;
        while let Some(record) = records.pop_front() {
            let id = schema_id(&record);
            let kind = id.and_then(|id| registry.remembered(id));
            if id.is_some() && kind.is_none() {
                records.push_front(record);
                break;
            }
            prepared.push(decode(record, kind));
        }
        self.shared.metrics.spent(Stage::Decode, decoding.elapsed());
        Ok(prepared)
    }

    /// What kind of schema the id names, however long it takes to hear.
    async fn ask_registry(&mut self, id: u32, applier: &mut Applier) -> Result<SchemaKind, Turn> {
        // A registry that is slow or away holds up this partition and no other.
        applier.leave_place();
        let number = self.partition.number;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let answer = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Err(Turn::Stop),
                answer = self.shared.registry.schema_type(id) => answer,
            };
            match answer {
                Ok(kind) => {
                    self.shared.lane_goes_on(Dependency::Registry, number);
                    return Ok(kind);
                }
                Err(error) => {
                    self.shared.lane_waits(Dependency::Registry, number, &error);
                    self.pause(backoff.next_wait()).await?;
                    self.shared.metrics.retried(Dependency::Registry);
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

/// The schema id of a record's frame.
fn schema_id(record: &InputRecord) -> Option<u32> {
    match value_form(record.value.as_deref()?)? {
        ValueForm::Framed { schema_id } => Some(schema_id),
        ValueForm::Plain => None,
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
