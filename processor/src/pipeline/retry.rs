//! What follows an error of a batch's transaction (rules 9.1, 9.2; design: errors): retried for as long as it takes, redone
//! event by event, or one event dead-lettered. Every later event of the partition waits meanwhile, so order holds (rule 9.4).

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    Shared,
    backoff::Backoff,
    batch::{Attempt, Batch, Prepared, Refusal, attempt},
    lane::stopped,
    partition::Partition,
};
use crate::{
    domain::batch::DeadLetter,
    postgres::{Fault, outbox::Output, position},
    protocol::{
        applying::{self, Applying, Class, How, Progress, Step, Tried, Wait},
        unpublished::OutboxSpan,
    },
    telemetry::metrics::Dependency,
};

/// One of five tries: its longest statement.
const TRY_STATEMENT_TIMEOUT: Duration = Duration::from_millis(800);
/// One such try as a whole: five of them stay below 5 s.
const TRY_TIMEOUT: Duration = Duration::from_millis(950);
/// From one such try to the next.
const TRY_SPACING: Duration = Duration::from_millis(200);
/// How the application of a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Applied,
    /// The position was not where it should be.
    Fenced,
    Stopped,
}

impl applying::Event for Prepared {
    fn offset(&self) -> i64 {
        self.record.offset
    }

    fn ods_code(&self) -> Option<&str> {
        self.decoded.ods_code.as_deref()
    }
}

impl applying::Failure for Fault {
    fn class(&self) -> Class {
        match self {
            Self::Content { .. } => Class::Content,
            Self::Contention { .. } => Class::Contention,
            Self::Dependency { .. } => Class::Dependency,
            Self::ConnectionLost { .. } => Class::ConnectionLost,
            Self::Unclear { .. } => Class::Unclear,
        }
    }

    fn reason(&self) -> String {
        Self::reason(self)
    }
}

/// Applies batches of one lane, whatever the database says.
#[derive(Debug)]
pub struct Applier {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    stop: watch::Receiver<bool>,
    /// One of the places in the database that lanes share; given up while the lane waits for something.
    place: Option<OwnedSemaphorePermit>,
}

/// How long to wait, longer each time until something succeeds.
struct Waits {
    failure: Backoff,
    no_events_fault: Backoff,
    tried_at: Instant,
}

impl Waits {
    fn new() -> Self {
        Self {
            failure: Backoff::new(Duration::from_millis(20), Duration::from_secs(5)),
            no_events_fault: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            tried_at: Instant::now(),
        }
    }
}

impl Applier {
    pub fn new(shared: Arc<Shared>, partition: Arc<Partition>, stop: watch::Receiver<bool>) -> Self {
        Self { shared, partition, stop, place: None }
    }

    /// Waits for a place in the database.
    pub async fn place(&mut self) -> Result<(), Done> {
        if self.place.is_none() {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Err(Done::Stopped),
                place = Arc::clone(&self.shared.places).acquire_owned() => self.place = place.ok(),
            }
        }
        Ok(())
    }

    /// Lets another lane have the place.
    pub fn leave_place(&mut self) {
        self.place = None;
    }

    /// Applies `events` and moves the position behind the last of them, or to `end` if that is further.
    pub async fn apply(&mut self, events: Vec<Prepared>, end: Option<i64>, progress: &mut Progress) -> Done {
        let mut applying = Applying::new(events, end, progress.clone());
        let mut waits = Waits::new();
        loop {
            match applying.step() {
                Step::Applied => {
                    *progress = applying.into_progress();
                    return Done::Applied;
                }
                Step::Fenced => return Done::Fenced,
                Step::Probe => applying.probed(self.database_answers().await),
                Step::Wait(wait) => {
                    if self.wait(&wait, &mut waits).await.is_err() {
                        return Done::Stopped;
                    }
                    applying.waited();
                }
                Step::Try(one) => {
                    if self.place().await.is_err() {
                        return Done::Stopped;
                    }
                    waits.tried_at = Instant::now();
                    let tried = self.try_once(&applying.events()[one.events.clone()], &one).await;
                    if tried == Tried::Applied {
                        waits = Waits::new();
                    }
                    applying.tried(tried);
                }
            }
        }
    }

    async fn try_once(&mut self, events: &[Prepared], one: &applying::Try<Fault>) -> Tried<Fault> {
        let is_published = self.shared.serving.lock().protocol.is_published(self.partition.assignment, one.to);
        let mut batch =
            Batch { from: one.from, to: one.to, events, refused: None, is_published, statement_timeout: None };
        let number = self.partition.number;
        let tried = match &one.how {
            How::Together => attempt(&self.shared, number, batch, None).await,
            How::Alone => {
                batch.statement_timeout = Some(TRY_STATEMENT_TIMEOUT);
                attempt(&self.shared, number, batch, Some(TRY_TIMEOUT)).await
            }
            How::Refused { failure, attempts } => {
                let letter = DeadLetter { reason: failure.reason(), detail: failure.detail() };
                let refusal = Refusal { letter, attempts: *attempts };
                batch.refused = Some(&refusal);
                attempt(&self.shared, number, batch, None).await
            }
        };
        match tried {
            Ok(Attempt::Applied(span)) => {
                self.moved(span);
                Tried::Applied
            }
            Ok(Attempt::Fenced) => Tried::Fenced,
            Ok(Attempt::TooLarge) => Tried::TooLarge,
            Err(fault) => Tried::Failed(fault),
        }
    }

    /// The commit is known: the publisher may have the rows.
    fn moved(&mut self, span: OutboxSpan<Arc<Output>>) {
        self.shared.lane_goes_on(Dependency::Database, self.partition.number);
        self.partition.set_position(span.end);
        self.shared.serving.lock().protocol.applied(self.partition.assignment, span);
        self.shared.publish_now.notify_one();
    }

    /// Says where an operator looks what is waited for, and waits.
    async fn wait(&mut self, wait: &Wait<Fault>, waits: &mut Waits) -> Result<(), Done> {
        if !matches!(wait, Wait::Spacing) {
            self.shared.metrics.retried(Dependency::Database);
        }
        let pause = match wait {
            Wait::Failure(fault) if fault.is_contention() => {
                tracing::debug!(partition = self.partition.number, %fault, "contention");
                waits.failure.next_wait().min(Duration::from_millis(500))
            }
            Wait::Failure(fault) => {
                self.shared.lane_waits(Dependency::Database, self.partition.number, fault);
                waits.failure.next_wait()
            }
            Wait::Spacing => TRY_SPACING.saturating_sub(waits.tried_at.elapsed()),
            Wait::NoEventsFault(fault) => {
                self.shared.lane_waits(Dependency::Database, self.partition.number, fault);
                waits.no_events_fault.next_wait()
            }
        };
        self.leave_place();
        tokio::select! {
            () = stopped(&mut self.stop) => Err(Done::Stopped),
            () = sleep(pause) => Ok(()),
        }
    }

    /// `SELECT 1` and an empty batch, rolled back, answer at once.
    async fn database_answers(&self) -> bool {
        matches!(timeout(Duration::from_secs(1), self.probe()).await, Ok(Ok(())))
    }

    async fn probe(&self) -> Result<(), Fault> {
        let mut lease = self.shared.database.lease().await?;
        position::probe(&mut lease, &self.shared.topics.change_events, self.partition.number).await?;
        lease.give_back();
        Ok(())
    }
}
