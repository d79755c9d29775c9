//! What follows an error of a batch's transaction (rules 9.1, 9.2; design: errors): retried for as long as it takes, redone
//! event by event, or one event dead-lettered. Every later event of the partition waits meanwhile, so order holds (rule 9.4).

use std::{ops::Range, slice, sync::Arc, time::Duration};

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
    domain::{batch::DeadLetter, position::GroupOffset, publishing::OutboxSpan},
    postgres::{Fault, outbox::Output, position},
    telemetry::metrics::Dependency,
};

/// Tries of one event whose error may or may not be its own (rule 9.2).
const TRIES: i32 = 5;
/// One such try's longest statement.
const TRY_STATEMENT_TIMEOUT: Duration = Duration::from_millis(800);
/// One such try as a whole: five of them stay below 5 s.
const TRY_TIMEOUT: Duration = Duration::from_millis(950);
/// SQLSTATE of a statement that was cancelled: by its own time-out, or with the try as a whole.
const CANCELLED: &str = "57014";
/// A connection lost this often on the same events, while the database answers, is theirs to answer for.
const LOSSES: u32 = 5;

/// Outbox rows of all partitions that memory keeps for the publisher.
const HELD_BYTES_MAX: usize = 16 << 20;

/// How the application of a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Applied,
    /// The position was not where it should be.
    Fenced,
    Stopped,
}

/// How trying events together ended, short of [`Done`].
enum Verdict {
    Done(Done),
    /// The error is, or may be, one event's own.
    Suspect(Fault),
    /// What the events make is too much for one transaction.
    TooLarge,
}

/// Applies batches of one lane, whatever the database says.
#[derive(Debug)]
pub struct Applier {
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    position: i64,
    stop: watch::Receiver<bool>,
    /// One of the places in the database that lanes share; given up while the lane waits for something.
    place: Option<OwnedSemaphorePermit>,
    /// The unclear error that the event before this one was dead-lettered for, with its ODS code.
    last_unclear: Option<(String, Option<String>)>,
}

impl Applier {
    pub fn new(shared: Arc<Shared>, partition: Arc<Partition>, position: i64, stop: watch::Receiver<bool>) -> Self {
        Self { shared, partition, position, stop, place: None, last_unclear: None }
    }

    /// The position in the database as far as this lane knows.
    pub fn position(&self) -> i64 {
        self.position
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
    pub async fn apply(&mut self, events: Vec<Prepared>, end: Option<i64>) -> Done {
        let behind_last = events.last().map_or(self.position, |event| event.record.offset + 1);
        let to = behind_last.max(end.unwrap_or(behind_last));
        if to == self.position {
            return Done::Applied;
        }
        if self.place().await.is_err() {
            return Done::Stopped;
        }
        let mut parts = Vec::from([Range { start: 0, end: events.len() }]);
        while let Some(part) = parts.pop() {
            let next = if part.end == events.len() { to } else { events[part.end - 1].record.offset + 1 };
            let done = match self.try_together(&events[part.clone()], next).await {
                Verdict::Done(done) => done,
                Verdict::TooLarge => {
                    let middle = part.start.midpoint(part.end);
                    parts.extend([middle..part.end, part.start..middle]);
                    continue;
                }
                Verdict::Suspect(fault) if part.len() == 1 => self.settle(&events[part.start], next, fault).await,
                Verdict::Suspect(_) => {
                    parts.extend(part.rev().map(|event| event..event + 1));
                    continue;
                }
            };
            if done != Done::Applied {
                return done;
            }
        }
        Done::Applied
    }

    /// Tries until done or until an event comes under suspicion.
    async fn try_together(&mut self, events: &[Prepared], to: i64) -> Verdict {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        let mut losses = 0;
        loop {
            let batch = self.batch(events, to);
            let fault = match attempt(&self.shared, self.partition.number, batch).await {
                Ok(Attempt::TooLarge) => return Verdict::TooLarge,
                Ok(attempt) => return Verdict::Done(self.ended(attempt)),
                Err(fault) => fault,
            };
            if fault.is_connection_lost() && !events.is_empty() && self.database_answers().await {
                losses += 1;
                if losses >= LOSSES {
                    return Verdict::Suspect(fault);
                }
            }
            if (fault.is_content() || fault.is_unclear()) && !events.is_empty() {
                return Verdict::Suspect(fault);
            }
            if self.wait_out(&fault, &mut backoff).await == Err(Done::Stopped) {
                return Verdict::Done(Done::Stopped);
            }
        }
    }

    /// One event alone, refused or suspected.
    async fn settle(&mut self, event: &Prepared, to: i64, fault: Fault) -> Done {
        if fault.is_content() {
            return self.dead_letter(event, to, &fault, 1).await;
        }
        let mut fault = fault;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match self.try_alone(event, to, fault).await {
                Ok(done) => return done,
                Err(last) => fault = last,
            }
            if fault.is_content() {
                return self.dead_letter(event, to, &fault, TRIES).await;
            }
            // Not this event's fault when the database is not well, or when another organisation's event has just
            // failed in the same way.
            if self.database_answers().await && !self.fails_like_the_last(event, &fault) {
                self.last_unclear = Some((fault.reason(), event.decoded.ods_code.clone()));
                return self.dead_letter(event, to, &fault, TRIES).await;
            }
            self.shared.lane_waits(self.partition.number, &fault);
            if self.pause(backoff.next_wait()).await.is_err() {
                return Done::Stopped;
            }
        }
    }

    /// The five tries; the last error when none succeeds. What another writer or the database itself is in the way of is
    /// no try of this event.
    async fn try_alone(&mut self, event: &Prepared, to: i64, mut fault: Fault) -> Result<Done, Fault> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        let mut tries = 0;
        while tries < TRIES {
            let batch =
                Batch { statement_timeout: Some(TRY_STATEMENT_TIMEOUT), ..self.batch(slice::from_ref(event), to) };
            let began = Instant::now();
            fault = match timeout(TRY_TIMEOUT, attempt(&self.shared, self.partition.number, batch)).await {
                Ok(Ok(attempt)) => return Ok(self.ended(attempt)),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::unclear(CANCELLED),
            };
            if fault.is_content() {
                return Err(fault);
            }
            let is_ours = fault.is_connection_lost() && self.database_answers().await;
            if fault.is_contention() || fault.is_dependency() || (fault.is_connection_lost() && !is_ours) {
                if let Err(done) = self.wait_out(&fault, &mut backoff).await {
                    return Ok(done);
                }
                continue;
            }
            tries += 1;
            self.shared.metrics.retried(Dependency::Database);
            let spacing = Duration::from_millis(200).saturating_sub(began.elapsed());
            if self.pause(spacing).await.is_err() {
                return Ok(Done::Stopped);
            }
        }
        Err(fault)
    }

    fn fails_like_the_last(&self, event: &Prepared, fault: &Fault) -> bool {
        self.last_unclear
            .as_ref()
            .is_some_and(|(reason, code)| *reason == fault.reason() && *code != event.decoded.ods_code)
    }

    /// Nothing of the event is applied; what says so is durable before the next event is looked at.
    async fn dead_letter(&mut self, event: &Prepared, to: i64, fault: &Fault, attempts: i32) -> Done {
        let letter = DeadLetter { reason: fault.reason(), detail: fault.detail() };
        tracing::warn!(
            correlation_id = event.decoded.input.correlation_id,
            ods_code = event.decoded.ods_code,
            partition = self.partition.number,
            offset = event.record.offset,
            reason = letter.reason,
            detail = letter.detail,
            "event dead-lettered"
        );
        let refusal = Refusal { letter, attempts };
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let batch = Batch { refused: Some(&refusal), ..self.batch(slice::from_ref(event), to) };
            let fault = match attempt(&self.shared, self.partition.number, batch).await {
                Ok(Attempt::Applied(span)) => {
                    self.moved(span);
                    return Done::Applied;
                }
                Ok(Attempt::Fenced | Attempt::TooLarge) => return Done::Fenced,
                Err(fault) => fault,
            };
            if self.wait_out(&fault, &mut backoff).await.is_err() {
                return Done::Stopped;
            }
        }
    }

    fn batch<'a>(&self, events: &'a [Prepared], to: i64) -> Batch<'a> {
        let group = self.partition.unpublished().group();
        let is_published = matches!(group, GroupOffset::At(offset) if to <= offset);
        Batch { from: self.position, to, events, refused: None, is_published, statement_timeout: None }
    }

    fn ended(&mut self, attempt: Attempt) -> Done {
        match attempt {
            Attempt::Applied(span) => {
                self.last_unclear = None;
                self.moved(span);
                Done::Applied
            }
            // One event alone is never too large.
            Attempt::Fenced | Attempt::TooLarge => Done::Fenced,
        }
    }

    /// The commit is known: the publisher may have the rows.
    fn moved(&mut self, span: OutboxSpan<Arc<Output>>) {
        self.shared.lane_goes_on(self.partition.number);
        self.position = span.end;
        self.partition.set_position(span.end);
        let has_room = self.shared.held_bytes() + span.bytes <= HELD_BYTES_MAX;
        self.partition.unpublished().applied_row(span, has_room);
        self.shared.publish_now.notify_one();
    }

    /// A failure that may pass: says so where an operator looks, and waits.
    async fn wait_out(&mut self, fault: &Fault, backoff: &mut Backoff) -> Result<(), Done> {
        self.shared.metrics.retried(Dependency::Database);
        if fault.is_contention() {
            tracing::debug!(partition = self.partition.number, %fault, "contention");
        } else {
            self.shared.lane_waits(self.partition.number, fault);
        }
        let wait = backoff.next_wait();
        self.pause(if fault.is_contention() { wait.min(Duration::from_millis(500)) } else { wait }).await
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

    async fn pause(&mut self, wait: Duration) -> Result<(), Done> {
        self.leave_place();
        tokio::select! {
            () = stopped(&mut self.stop) => return Err(Done::Stopped),
            () = sleep(wait) => {}
        }
        self.place().await
    }
}
