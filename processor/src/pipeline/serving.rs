//! Which partitions this instance serves, and the Kafka transaction that is under way for them.
//!
//! The rebalance callback and the publisher take the same lock: a partition leaves the list before it is given up, and is
//! given up only when no transaction that carries it is under way (design: rebalancing).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::partition::Partition;

/// The partitions served and the transaction under way.
#[derive(Debug, Default)]
pub struct Serving {
    inner: Mutex<Inner>,
    ended: Condvar,
}

#[derive(Debug, Default)]
pub struct Inner {
    partitions: BTreeMap<i32, Arc<Partition>>,
    in_flight: Option<InFlight>,
    transactions: u64,
}

/// The transaction under way.
#[derive(Debug)]
struct InFlight {
    number: u64,
    /// Partitions that it carries.
    carried: BTreeSet<i32>,
    abandoned: Arc<AtomicBool>,
}

impl InFlight {
    fn carries_any(&self, partitions: &[i32]) -> bool {
        partitions.iter().any(|number| self.carried.contains(number))
    }
}

impl Inner {
    /// The partition, if it is still this very assignment of it.
    pub fn serves(&self, partition: &Arc<Partition>) -> bool {
        self.partitions.get(&partition.number).is_some_and(|served| Arc::ptr_eq(served, partition))
    }

    /// Marks a transaction as under way; its number ends it, and the flag says when it is to send no more.
    pub fn begin(&mut self, carried: BTreeSet<i32>) -> (u64, Arc<AtomicBool>) {
        self.transactions += 1;
        let (number, abandoned) = (self.transactions, Arc::default());
        self.in_flight = Some(InFlight { number, carried, abandoned: Arc::clone(&abandoned) });
        (number, abandoned)
    }
}

impl Serving {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    pub fn add(&self, partition: Arc<Partition>) {
        self.lock().partitions.insert(partition.number, partition);
    }

    /// Takes partitions off the list: nothing of theirs is put into a transaction from now on.
    pub fn remove(&self, partitions: &[i32]) {
        let mut inner = self.lock();
        for number in partitions {
            inner.partitions.remove(number);
        }
    }

    pub fn get(&self, number: i32) -> Option<Arc<Partition>> {
        self.lock().partitions.get(&number).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.lock().partitions.values().cloned().collect()
    }

    /// The transaction's end is known, or its producer was dropped.
    pub fn end(&self, transaction: u64) {
        let mut inner = self.lock();
        if inner.in_flight.as_ref().is_some_and(|one| one.number == transaction) {
            inner.in_flight = None;
        }
        drop(inner);
        self.ended.notify_all();
    }

    /// Waits until no transaction carries any of these. One that does not end in time is abandoned: it sends nothing more,
    /// and its producer will be dropped; `false` then.
    pub fn wait_ended(&self, partitions: &[i32], timeout: Duration) -> bool {
        let carries = |inner: &mut Inner| inner.in_flight.as_ref().is_some_and(|one| one.carries_any(partitions));
        let Ok((inner, timeout)) = self.ended.wait_timeout_while(self.lock(), timeout, carries) else { return false };
        if timeout.timed_out() {
            if let Some(one) = &inner.in_flight {
                one.abandoned.store(true, Ordering::Relaxed);
            }
        }
        !timeout.timed_out()
    }
}
