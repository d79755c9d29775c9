//! The protocol's publishing side under one lock: the rebalance callback, the lanes and the publisher take it.
//!
//! A partition leaves the list before it is given up, and is given up only when no transaction that carries it is under way
//! (design: rebalancing).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc::UnboundedReceiver;

use super::partition::{Delivery, Partition};
use crate::{
    fault_injection::{Mutant, is},
    postgres::outbox::Output,
    protocol::publisher::{Bounds, Ended, Publisher, Transaction},
};

/// How much is carried and held.
const BOUNDS: Bounds = Bounds { partition_bytes: 2 << 20, transaction_bytes: 8 << 20, held_bytes: 16 << 20 };

/// What is to be published, and when.
pub type Protocol = Publisher<Arc<Output>>;

/// The partitions served and the transaction under way.
#[derive(Debug)]
pub struct Serving {
    inner: Mutex<Inner>,
    ended: Condvar,
}

#[derive(Debug)]
pub struct Inner {
    pub protocol: Protocol,
    partitions: BTreeMap<i32, Arc<Partition>>,
    /// Tells the thread of the transaction under way to send nothing more.
    abandoned: Arc<AtomicBool>,
}

impl Default for Serving {
    fn default() -> Self {
        let protocol = Publisher::new(BOUNDS);
        let inner = Inner { protocol, partitions: BTreeMap::new(), abandoned: Arc::default() };
        Self { inner: Mutex::new(inner), ended: Condvar::new() }
    }
}

impl Inner {
    /// Begins a transaction with this producer; the flag says when it is to send no more.
    pub fn begin(&mut self, producer: u64) -> Option<(Transaction<Arc<Output>>, Arc<AtomicBool>)> {
        let transaction = self.protocol.begin(producer)?;
        self.abandoned = Arc::default();
        Some((transaction, Arc::clone(&self.abandoned)))
    }
}

impl Serving {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    /// A new assignment of the partition, and the end that its lane reads.
    pub fn add(&self, number: i32) -> (Arc<Partition>, UnboundedReceiver<Delivery>) {
        let mut inner = self.lock();
        let (partition, deliveries) = Partition::new(inner.protocol.assign(number));
        inner.partitions.insert(number, Arc::clone(&partition));
        (partition, deliveries)
    }

    /// Takes partitions off the list: nothing of theirs is put into a transaction from now on.
    pub fn remove(&self, partitions: &[i32]) {
        let mut inner = self.lock();
        inner.protocol.revoke(partitions);
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
    pub fn end(&self, transaction: u64, ended: Ended) -> Option<Transaction<Arc<Output>>> {
        let transaction = self.lock().protocol.ended(transaction, ended);
        self.ended.notify_all();
        transaction
    }

    /// Waits until no transaction carries any of these. One that does not end in time is abandoned: it sends nothing more,
    /// and its producer will be dropped; `false` then.
    pub fn wait_ended(&self, partitions: &[i32], timeout: Duration) -> bool {
        let carries = |inner: &mut Inner| !is(Mutant::LateOffset) && inner.protocol.carries_any(partitions);
        let Ok((inner, timeout)) = self.ended.wait_timeout_while(self.lock(), timeout, carries) else { return false };
        inner.abandoned.fetch_or(timeout.timed_out(), Ordering::Relaxed);
        !timeout.timed_out()
    }
}
