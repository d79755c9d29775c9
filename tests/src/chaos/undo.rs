//! How each fault is mended.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::driver::Driver;
use super::proxy::{Weather, Wire};
use crate::stack::BaseBackup;

/// What is to be done about a fault in the end.
#[derive(Debug)]
pub(super) enum Undo {
    Nothing,
    Start(usize),
    Continue(usize),
    TakeAway(usize),
    Clock,
    StartDatabase,
    StopAndStartDatabase,
    PutBack(PutBack),
    EmptyDisk,
    Release(Arc<AtomicBool>),
    Nodes(Vec<usize>),
    Network(Wire),
    /// There was an effect if more answers of this wire are lost by now.
    LoseNoAnswer {
        wire: Wire,
        lost_before: u64,
    },
}

/// A backup and what must be known to put it back.
#[derive(Debug)]
pub(super) struct PutBack {
    pub backup: BaseBackup,
    /// Where the backup's copy of the small disk's tablespace lies.
    pub tablespace: Option<PathBuf>,
    /// How many writes of the other writer it holds.
    pub writes: usize,
    pub across_restart: bool,
}

impl Driver<'_> {
    /// Ends a fault; `false`: it had no effect.
    pub(super) fn undo(&mut self, undo: Undo) -> Result<bool> {
        match undo {
            Undo::Nothing => {}
            Undo::Start(instance) => self.world.instances[instance].start()?,
            Undo::Continue(instance) => {
                self.world.instances[instance].signal("CONT");
            }
            Undo::TakeAway(instance) => self.world.instances[instance].terminate(),
            Undo::Clock => {
                if let Some(clock) = &self.world.clock {
                    fs::write(clock, "+0")?;
                }
            }
            Undo::StartDatabase => self.start_database()?,
            Undo::StopAndStartDatabase => {
                self.parts.stack.postgres.stop("INT")?;
                self.start_database()?;
            }
            Undo::PutBack(put_back) => self.put_back(put_back)?,
            Undo::EmptyDisk => {
                if let Some(disk) = &self.parts.small_disk {
                    disk.empty()?;
                }
            }
            Undo::Release(release) => release.store(true, Ordering::SeqCst),
            Undo::Nodes(nodes) => nodes.into_iter().try_for_each(|node| self.parts.stack.kafka.launch_node(node))?,
            Undo::Network(wire) => {
                let proxies = self.parts.networks.iter().flat_map(|network| network.of(wire));
                proxies.for_each(|proxy| proxy.set(Weather::default()));
            }
            Undo::LoseNoAnswer { wire, lost_before } => {
                let proxies = self.parts.networks.iter().flat_map(|network| network.of(wire));
                proxies.for_each(|proxy| proxy.lose_next_answer(false));
                return Ok(self.answers_lost(wire) > lost_before);
            }
        }
        Ok(true)
    }

    fn start_database(&mut self) -> Result<()> {
        self.parts.stack.postgres.launch()?;
        self.parts.stack.postgres.wait_until_ready()
    }

    fn put_back(&mut self, put_back: PutBack) -> Result<()> {
        let PutBack { backup, tablespace, writes, across_restart } = put_back;
        let up: Vec<_> =
            (0..self.world.instances.len()).filter(|number| self.world.instances[*number].is_up()).collect();
        if across_restart {
            for number in &up {
                self.world.instances[*number].kill();
            }
        }
        self.world.witness.excuse();
        self.parts.stack.postgres.stop("QUIT")?;
        {
            // Its transaction fails with the server; what it logs before the gate opens is gone, too.
            let writer = Arc::clone(&self.world.writer);
            let _held = self.runtime.block_on(writer.hold());
            writer.put_back(writes);
            self.parts.stack.postgres.put_back(&backup)?;
            if let (Some(disk), Some(to)) = (&mut self.parts.small_disk, tablespace) {
                disk.moved(&to)?;
            }
        }
        self.start_database()?;
        self.tally.backups_put_back += 1;
        if across_restart {
            up.iter().try_for_each(|number| self.world.instances[*number].start())?;
        }
        Ok(())
    }
}
