//! What the lane, the consumer thread and the publisher share about one assigned partition.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
};

use tokio::sync::{Notify, mpsc};

use crate::{kafka::partitions::Room, protocol::publisher::Assignment, wire::record::InputRecord};

/// Records that wait for a lane: past either bound the partition is paused as soon as what is fetched has been handed over.
pub const INBOX_EVENTS: usize = 1_000;
/// Bytes that wait for a lane.
pub const INBOX_BYTES: usize = 3 << 18;
/// Past either of these it is paused at once, and what is fetched is dropped, to be fetched again.
pub const INBOX_EVENTS_MAX: usize = 5_000;
/// The same in bytes; a producer's usual batch still fits in.
pub const INBOX_BYTES_MAX: usize = 2 * INBOX_BYTES;
/// Applied but unpublished work of one partition past which its lane pauses: more than 30 s at 400 events a second.
pub const BACKLOG_EVENTS_MAX: usize = 20_000;
/// The same in bytes of the outbox.
pub const BACKLOG_BYTES_MAX: usize = 256 << 20;

/// What a record takes besides its bytes: itself and two allocations.
const RECORD_BYTES: usize = size_of::<InputRecord>() + 2 * ALLOCATION_BYTES;
/// What a header takes besides its bytes.
const HEADER_BYTES: usize = size_of::<(String, Option<Vec<u8>>)>() + 2 * ALLOCATION_BYTES;
/// An allocation's least.
const ALLOCATION_BYTES: usize = 16;

/// What a lane is handed, in the order of the log.
#[derive(Debug)]
pub enum Delivery {
    /// What follows starts at the offset that the lane asked for when it began this life.
    Begun(u64),
    Record(InputRecord),
    /// Nothing came for a while; everything below the offset came before this.
    QuietEnd(i64),
    /// The broker refused some offset: hold the position against the log's ends.
    CheckLog,
    /// The database came back without its last commits.
    CommitsLost,
}

/// One assigned partition.
#[derive(Debug)]
pub struct Partition {
    pub number: i32,
    pub assignment: Assignment,
    inbox: mpsc::UnboundedSender<Delivery>,
    queued_events: AtomicUsize,
    queued_bytes: AtomicUsize,
    /// Timestamp of the oldest record handed to the lane and not yet applied; `i64::MAX` for none.
    oldest_ms: AtomicI64,
    /// Offset after the last record that was applied, for the lag; below 0 until it is known.
    position: AtomicI64,
    halted: AtomicBool,
    changed: Notify,
}

impl Partition {
    /// The partition and the end that its lane reads.
    pub fn new(assignment: Assignment) -> (Arc<Self>, mpsc::UnboundedReceiver<Delivery>) {
        // Unbounded by type, bounded by count: the consumer pauses the partition.
        let (inbox, deliveries) = mpsc::unbounded_channel();
        let partition = Self {
            number: assignment.partition,
            assignment,
            inbox,
            queued_events: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            oldest_ms: AtomicI64::new(i64::MAX),
            position: AtomicI64::new(-1),
            halted: AtomicBool::new(false),
            changed: Notify::new(),
        };
        (Arc::new(partition), deliveries)
    }

    /// Hands something to the lane, and says what room is left then.
    pub fn deliver(&self, delivery: Delivery) -> Room {
        if let Delivery::Record(record) = &delivery {
            self.queued_events.fetch_add(1, Ordering::Relaxed);
            self.queued_bytes.fetch_add(size(record), Ordering::Relaxed);
            self.oldest_ms.fetch_min(record.timestamp_ms, Ordering::Relaxed);
        }
        // A lane that is gone was revoked; what it did not take is read again by the next owner.
        let _ = self.inbox.send(delivery);
        if self.holds_less(INBOX_EVENTS, INBOX_BYTES) {
            Room::Plenty
        } else if self.holds_less(INBOX_EVENTS_MAX, INBOX_BYTES_MAX) {
            Room::Little
        } else {
            Room::None
        }
    }

    /// Room for a good part of what an inbox takes, so that pausing and resuming do not alternate quickly.
    pub fn has_room(&self) -> bool {
        self.holds_less(INBOX_EVENTS / 2, INBOX_BYTES / 2)
    }

    fn holds_less(&self, events: usize, bytes: usize) -> bool {
        self.queued_events.load(Ordering::Relaxed) < events && self.queued_bytes.load(Ordering::Relaxed) < bytes
    }

    /// The lane took a record out of its inbox.
    pub fn taken(&self, record: &InputRecord) {
        self.queued_events.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(size(record), Ordering::Relaxed);
    }

    /// The lane has nothing in hand that is older than this.
    pub fn set_oldest(&self, timestamp_ms: Option<i64>) {
        self.oldest_ms.store(timestamp_ms.unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Timestamp of the oldest record in hand.
    pub fn oldest_ms(&self) -> Option<i64> {
        Some(self.oldest_ms.load(Ordering::Relaxed)).filter(|&oldest| oldest != i64::MAX)
    }

    pub fn position(&self) -> i64 {
        self.position.load(Ordering::Relaxed)
    }

    pub fn set_position(&self, position: i64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// Waits for a person.
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    pub fn set_halted(&self, halted: bool) {
        self.halted.store(halted, Ordering::Relaxed);
    }

    /// Wakes the lane where it waits for the publisher.
    pub fn notify_changed(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until `ready` says so; the publisher's changes are looked at as they come.
    pub async fn wait_until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(value) = ready() {
                return value;
            }
            changed.await;
        }
    }
}

/// Bytes a record holds in memory, roughly.
pub fn size(record: &InputRecord) -> usize {
    let bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
    let headers: usize = record.headers.iter().map(|(key, value)| HEADER_BYTES + key.len() + bytes(value)).sum();
    RECORD_BYTES + bytes(&record.value) + bytes(&record.key) + headers
}
