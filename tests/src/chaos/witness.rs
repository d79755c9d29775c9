//! Looks on while dosi works. What is published before it is committed, or a group's offset that goes back, may come right in
//! the end, and was a lie meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::runtime::Handle;

use super::world::{ASK_WITHIN, positions};
use crate::group::Group;

const LOOKS_EVERY: Duration = Duration::from_millis(100);
/// Until a broker that started knows again what is on all the others: it may wait that long for one that is still starting.
const SETTLES: Duration = Duration::from_secs(40);

/// Compares the group's offsets with the positions, and with what they were, until it is dropped.
#[derive(Debug)]
pub struct Witness {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// A database that has lost its last commits is behind the group, and nothing is wrong with that.
    is_excused: AtomicBool,
    /// A coordinator that has moved may tell offsets of before until then.
    moves_until: Mutex<Option<Instant>>,
    seen: Mutex<Option<String>>,
}

impl Witness {
    pub fn start(group: Group, database_url: String, topic: String, runtime: Handle) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let look_on = move || {
            let mut furthest = BTreeMap::new();
            while !own.stop.load(Ordering::SeqCst) {
                // Parts that are away have nothing to tell.
                if let Ok(committed) = group.committed() {
                    if let Some(told) = gone_back(&mut furthest, &committed)
                        && !own.coordinators_move()
                    {
                        own.tell(told);
                    }
                    if let Ok(Some(told)) = ahead(&committed, &database_url, &topic, &runtime) {
                        own.tell_unless_excused(told);
                    }
                }
                thread::sleep(LOOKS_EVERY);
            }
        };
        Self { shared, thread: Some(thread::spawn(look_on)) }
    }

    /// From now on, because the database is about to lose commits.
    pub fn excuse(&self) {
        self.shared.is_excused.store(true, Ordering::SeqCst);
    }

    /// Brokers are killed and come back within this time.
    pub fn expect_moves(&self, within: Duration) {
        *self.shared.moves_until.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + within + SETTLES);
    }

    /// The first thing that was wrong.
    pub fn seen(&self) -> Option<String> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn tell(&self, what: String) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }

    fn coordinators_move(&self) -> bool {
        let until = self.moves_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn tell_unless_excused(&self, what: String) {
        // Asked after the look, which may have begun before the excuse.
        if !self.is_excused.load(Ordering::SeqCst) {
            self.tell(what);
        }
    }
}

/// Whatever the database has lost: what is published stays published.
fn gone_back(furthest: &mut BTreeMap<i32, i64>, committed: &BTreeMap<i32, i64>) -> Option<String> {
    let mut told = None;
    for (&partition, &offset) in committed {
        let before = *furthest.entry(partition).and_modify(|before| *before = offset.max(*before)).or_insert(offset);
        if offset < before {
            told = Some(format!("the group's offset of partition {partition} went back from {before} to {offset}"));
        }
    }
    told
}

/// The group's offsets were asked for first: positions only grow meanwhile.
fn ahead(committed: &BTreeMap<i32, i64>, database_url: &str, topic: &str, runtime: &Handle) -> Result<Option<String>> {
    let read = async { tokio::time::timeout(ASK_WITHIN, positions(database_url, topic)).await };
    let (positions, _) = runtime.block_on(read)??;
    let ahead = committed.iter().find(|(partition, offset)| positions.get(partition).unwrap_or(&0) < offset);
    Ok(ahead.map(|(partition, offset)| {
        let position = positions.get(partition);
        format!("the group has committed {offset} of partition {partition} when the position was {position:?}")
    }))
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed; there is nothing to be done about it here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_below_the_highest_is_seen_each_time() {
        let mut furthest = BTreeMap::new();
        let mut look = |offset| gone_back(&mut furthest, &BTreeMap::from([(0, 7), (1, offset)])).is_some();
        assert_eq!([5, 9, 8, 8, 9, 10].map(&mut look), [false, false, true, true, false, false]);
    }
}
