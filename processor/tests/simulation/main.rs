//! The protocol under a seeded scheduler: instances that crash, hang and come back, replies that are lost, transactions that
//! time out, partitions that move, a database that loses its last commits. No clock, no thread, no IO: one seed is one
//! schedule, the same each time.
//!
//! - [`world`]: the scheduler: which of all that could happen next does
//! - [`instance`], [`transaction`]: one process: what the pipeline does around the protocol's state machines, and nothing that
//!   they decide
//! - [`call`]: what instances ask and are told
//! - [`input`]: the log, and what has happened
//! - [`database`], [`broker`]: the other two sides, as far as the protocol sees them
//! - [`check`]: what must hold at the end
//!
//! `DOSI_SIMULATION_SCHEDULES` says how many (100,000), `DOSI_SIMULATION_SEED` where to begin.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod broker;
mod call;
mod check;
mod database;
mod input;
mod instance;
mod transaction;
mod world;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use world::World;

const SCHEDULES: u64 = 100_000;

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// One schedule; what it did, in words.
fn run(seed: u64) -> Result<input::Seen, String> {
    let mut world = World::new(seed);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        world.run();
        check::check(&world);
    }));
    match ended {
        Ok(()) => Ok(world.seen),
        Err(panic) => {
            let why = panic.downcast_ref::<String>().map(String::as_str);
            let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
            Err(format!("{why}\n{}", world.story()))
        }
    }
}

/// Defects of the state machines themselves, and of what stands for the pipeline, the database and the broker here.
#[cfg(feature = "fault-injection")]
#[test]
fn every_defect_is_found() {
    use dosi::fault_injection::{Mutant, with};

    const WITHIN: u64 = 50_000;
    let elsewhere = [
        Mutant::PositionOutsideTransaction,
        Mutant::OffsetOutsideTransaction,
        Mutant::SequenceWithoutLock,
        Mutant::RowsWithoutLock,
    ];
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mutant in Mutant::ALL.into_iter().filter(|mutant| !elsewhere.contains(mutant)) {
        let found = (0..WITHIN).find_map(|seed| with(mutant, || run(seed)).err().map(|why| (seed, why)));
        match found {
            Some((seed, why)) => {
                println!("{}: found by schedule {seed}: {}", mutant.name(), why.lines().next().unwrap_or_default());
            }
            None => missed.push(mutant.name()),
        }
    }
    assert!(missed.is_empty(), "not found in {WITHIN} schedules: {missed:?}");
}

#[test]
fn every_schedule_ends_with_each_event_once_and_in_order() {
    let first = setting("DOSI_SIMULATION_SEED").unwrap_or(0);
    let schedules = setting("DOSI_SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(first);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let seen = thread::scope(|scope| {
        let work = || {
            let mut sum = input::Seen::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + schedules {
                    return sum;
                }
                match run(seed) {
                    Ok(one) => sum.add(&one),
                    Err(why) => panic!(
                        "{why}\nagain: DOSI_SIMULATION_SEED={seed} DOSI_SIMULATION_SCHEDULES=1 \
                         cargo test -p dosi --test simulation"
                    ),
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = input::Seen::default();
        for worker in workers {
            match worker.join() {
                Ok(sum) => all.add(&sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    println!("{schedules} schedules: {seen:?}");
    // A simulation in which nothing happens proves nothing.
    if schedules >= 1_000 {
        assert!(seen.everything_happened(), "{seen:?}");
    }
}
