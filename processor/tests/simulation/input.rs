//! The input of a schedule, and a count of what happens in many.

use std::collections::BTreeMap;

use rand::{Rng, rngs::SmallRng};

use crate::database::{Event, Kind};

/// The input.
#[derive(Debug)]
pub(crate) struct Log(BTreeMap<i32, PartitionLog>);

#[derive(Debug)]
pub(crate) struct PartitionLog {
    pub(crate) first: i64,
    /// In order; gaps are markers of transactions.
    pub(crate) events: Vec<Event>,
    pub(crate) end: i64,
}

impl Log {
    pub(crate) fn partition(&self, partition: i32) -> &PartitionLog {
        &self.0[&partition]
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.0.keys().copied()
    }

    pub(crate) fn random(random: &mut SmallRng) -> Self {
        let partitions = random.random_range(1..=3);
        let mut log = BTreeMap::new();
        for partition in 0..partitions {
            let first = random.random_range(0..3);
            let mut next = first;
            let mut has_unclear = false;
            let mut events = Vec::new();
            for _ in 0..random.random_range(0..12) {
                let kind = match random.random_range(0..20) {
                    0 => Kind::Refused,
                    1 if !has_unclear => Kind::Unclear,
                    _ => Kind::Good,
                };
                has_unclear |= kind == Kind::Unclear;
                events.push(Event { offset: next, kind });
                next += random.random_range(1..=2);
            }
            log.insert(partition, PartitionLog { first, events, end: next });
        }
        Self(log)
    }
}

/// What has happened, to see that enough has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) crashes: u64,
    pub(crate) zombies: u64,
    pub(crate) moves: u64,
    pub(crate) abandoned: u64,
    pub(crate) left_behind: u64,
    pub(crate) timed_out: u64,
    pub(crate) lost: u64,
    pub(crate) commits_lost: u64,
    pub(crate) fenced: u64,
    pub(crate) refused_offsets: u64,
    pub(crate) read_back: u64,
    pub(crate) dead_letters: u64,
    pub(crate) stale_offsets: u64,
}

impl Seen {
    fn all(&mut self) -> [&mut u64; 13] {
        [
            &mut self.crashes,
            &mut self.zombies,
            &mut self.moves,
            &mut self.abandoned,
            &mut self.left_behind,
            &mut self.timed_out,
            &mut self.lost,
            &mut self.commits_lost,
            &mut self.fenced,
            &mut self.refused_offsets,
            &mut self.read_back,
            &mut self.dead_letters,
            &mut self.stale_offsets,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, more) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    pub(crate) fn everything_happened(mut self) -> bool {
        self.all().into_iter().all(|count| *count > 0)
    }
}
