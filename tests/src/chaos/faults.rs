//! How each fault is brought about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::driver::Driver;
use super::other_writer::{hold_rows, lock_in_opposite_order};
use super::parts::INSTANCES;
use super::plan::{Kind, Planned};
use super::proxy::{Passage, Proxy, Weather, Wire};
use super::takeover::Takeover;
use super::undo::{PutBack, Undo};
use crate::dos::Dos;

/// The instance that is only there at times.
const THIRD: usize = 2;
const DELAY: Duration = Duration::from_millis(150);
const BYTES_PER_SECOND: u32 = 30_000;
const CLOCK_STEPS: [&str; 4] = ["+3600", "-3600", "+86400", "-90"];
const BLOCKED_WITHIN: Duration = Duration::from_secs(3);

impl Driver<'_> {
    /// Begins a fault; `None`: there is nothing for it to hit at the moment, or this machine does not allow it.
    pub(super) fn inflict(&mut self, planned: &Planned) -> Result<Option<Undo>> {
        use Kind::{
            Added, BrokerKilled, BrokersAway, BrokersCut, BrokersDelayed, BrokersSilent, BrokersThrottled,
            ClockStepped, CommitAnswerLost, CoordinatorKilled, DatabaseCut, DatabaseDelayed, DatabaseSilent,
            DatabaseStoppedFast, DatabaseStoppedImmediately, DatabaseStoppedSlowly, DatabaseThrottled, DiskFull,
            EndOfTransactionAnswerLost, KilledAndLeft, KilledAndRestarted, Paused, PausedInTransaction,
            PutBackAcrossRestart, PutBackWhileRunning, RegistryAway, RegistryAwayAtStart, RowsHeld,
            RowsLockedInOppositeOrder, SessionsTerminated, Terminated,
        };
        let pick = planned.pick;
        match planned.kind {
            KilledAndRestarted | KilledAndLeft | Terminated | Paused | Added | ClockStepped => {
                self.inflict_on_instance(planned)
            }
            PausedInTransaction => Ok(self.pause_in_transaction(pick)),
            RegistryAwayAtStart => {
                self.registry(Passage::Refused);
                let Some(instance) = self.one_that_is_up(pick) else { return Ok(Some(Undo::Network(Wire::Other))) };
                self.world.instances[instance].kill();
                self.world.instances[instance].start()?;
                Ok(Some(Undo::Network(Wire::Other)))
            }
            RegistryAway => {
                self.registry(if pick.is_multiple_of(2) { Passage::Refused } else { Passage::Silent });
                Ok(Some(Undo::Network(Wire::Other)))
            }
            DatabaseStoppedFast => self.stop_database("INT"),
            DatabaseStoppedImmediately => self.stop_database("QUIT"),
            DatabaseStoppedSlowly => Ok(self.parts.stack.postgres.signal("TERM").then_some(Undo::StopAndStartDatabase)),
            SessionsTerminated => self.terminate_sessions(pick),
            PutBackWhileRunning => self.back_up(false),
            PutBackAcrossRestart => self.back_up(true),
            DiskFull => match &self.parts.small_disk {
                Some(disk) => disk.fill().map(|()| Some(Undo::EmptyDisk)),
                None => Ok(None),
            },
            RowsHeld | RowsLockedInOppositeOrder => Ok(Some(self.lock_rows(planned))),
            BrokerKilled => {
                let nodes: Vec<_> = self.parts.stack.kafka.nodes().collect();
                self.kill_nodes(vec![nodes[among(pick, nodes.len())]], planned.hold)
            }
            CoordinatorKilled => match self.leader_of_transactions(pick) {
                Some(node) => self.kill_nodes(vec![node], planned.hold),
                None => Ok(None),
            },
            BrokersAway => self.kill_nodes(self.parts.stack.kafka.nodes().collect(), planned.hold),
            DatabaseCut | DatabaseDelayed | DatabaseThrottled | DatabaseSilent | CommitAnswerLost => {
                Ok(Some(self.inflict_on_network(planned, Wire::Postgres)))
            }
            BrokersCut | BrokersDelayed | BrokersThrottled | BrokersSilent | EndOfTransactionAnswerLost => {
                Ok(Some(self.inflict_on_network(planned, Wire::Kafka)))
            }
        }
    }

    fn inflict_on_instance(&mut self, planned: &Planned) -> Result<Option<Undo>> {
        if planned.kind == Kind::Added {
            self.world.instances[THIRD].start()?;
            return Ok(Some(Undo::TakeAway(THIRD)));
        }
        if planned.kind == Kind::ClockStepped {
            let Some(clock) = &self.world.clock else { return Ok(None) };
            std::fs::write(clock, CLOCK_STEPS[among(planned.pick, CLOCK_STEPS.len())])?;
            return Ok(Some(Undo::Clock));
        }
        let Some(number) = self.one_that_is_up(planned.pick) else { return Ok(None) };
        let owners = planned.is_measured().then(|| self.world.group.owners().ok()).flatten();
        let owned = owners.and_then(|owners| owners.get(INSTANCES[number]).cloned()).unwrap_or_default();
        let instance = &mut self.world.instances[number];
        match planned.kind {
            Kind::Terminated => instance.terminate(),
            Kind::Paused => {
                instance.signal("STOP");
                return Ok(Some(Undo::Continue(number)));
            }
            _ => instance.kill(),
        }
        self.takeover = (!owned.is_empty()).then(|| Takeover::begin(owned));
        Ok(Some(Undo::Start(number)))
    }

    /// Stops the process while its transaction waits for a row that another writer holds.
    fn pause_in_transaction(&mut self, pick: u64) -> Option<Undo> {
        let release = Arc::new(AtomicBool::new(false));
        let code = self.world.often[among(pick, self.world.often.len())].clone();
        self.runtime.spawn(hold_rows(self.world.database_url.clone(), code, Arc::clone(&release)));
        let deadline = Instant::now() + BLOCKED_WITHIN;
        let mut blocked = None;
        while blocked.is_none() && Instant::now() < deadline {
            blocked = self.blocked_instance().unwrap_or_default();
            thread::sleep(Duration::from_millis(10));
        }
        let stopped = blocked.filter(|number| self.world.instances[*number].signal("STOP"));
        release.store(true, Ordering::SeqCst);
        stopped.map(Undo::Continue)
    }

    /// An instance with a session that waits for a lock.
    fn blocked_instance(&self) -> Result<Option<usize>> {
        let query = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'dosi-%' AND wait_event_type = 'Lock'";
        let name: Option<String> = self.runtime.block_on(async {
            let dos = Dos::open(&self.world.database_url).await?;
            anyhow::Ok(dos.client().query_opt(&format!("{query} LIMIT 1"), &[]).await?.map(|row| row.get(0)))
        })?;
        Ok(name.and_then(|name| INSTANCES.iter().position(|instance| name == format!("dosi-{instance}"))))
    }

    fn stop_database(&mut self, with: &str) -> Result<Option<Undo>> {
        self.parts.stack.postgres.stop(with)?;
        Ok(Some(Undo::StartDatabase))
    }

    /// All of dosi's sessions, or those of one instance.
    fn terminate_sessions(&self, pick: u64) -> Result<Option<Undo>> {
        let whose =
            if pick.is_multiple_of(2) { "dosi-%".to_owned() } else { format!("dosi-{}", INSTANCES[among(pick, 2)]) };
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE $1";
        let ended: i64 = self.runtime.block_on(async {
            let dos = Dos::open(&self.world.database_url).await?;
            anyhow::Ok(dos.client().query_one(terminate, &[&whose]).await?.get(0))
        })?;
        Ok((ended > 0).then_some(Undo::Nothing))
    }

    /// A base backup now; it is put back at the end of the fault.
    fn back_up(&mut self, across_restart: bool) -> Result<Option<Undo>> {
        let writer = Arc::clone(&self.world.writer);
        let _held = self.runtime.block_on(writer.hold());
        let moved = self.parts.small_disk.as_mut().map(super::small_disk::SmallDisk::move_for_backup);
        let backup = self.parts.stack.postgres.base_backup(moved.as_slice())?;
        let tablespace = moved.map(|(_, to)| to);
        Ok(Some(Undo::PutBack(PutBack { backup, tablespace, writes: writer.count(), across_restart })))
    }

    fn lock_rows(&self, planned: &Planned) -> Undo {
        let release = Arc::new(AtomicBool::new(false));
        let (url, often) = (self.world.database_url.clone(), &self.world.often);
        if planned.kind == Kind::RowsHeld {
            let code = often[among(planned.pick, often.len())].clone();
            self.runtime.spawn(hold_rows(url, code, Arc::clone(&release)));
        } else {
            self.runtime.spawn(lock_in_opposite_order(url, often.clone(), Arc::clone(&release)));
        }
        Undo::Release(release)
    }

    fn kill_nodes(&mut self, nodes: Vec<usize>, hold: Duration) -> Result<Option<Undo>> {
        self.world.witness.expect_moves(hold);
        for node in &nodes {
            self.parts.stack.kafka.stop_node(*node, "KILL")?;
        }
        Ok(Some(Undo::Nodes(nodes)))
    }

    /// The broker that coordinates a share of the transactions.
    fn leader_of_transactions(&self, pick: u64) -> Option<usize> {
        let servers = &self.world.addresses.kafka_bootstrap_servers;
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", servers).create().ok()?;
        let metadata = client.fetch_metadata(Some("__transaction_state"), Duration::from_secs(3)).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let leader = partitions.get(among(pick, partitions.len()))?.leader();
        usize::try_from(leader).ok().filter(|node| self.parts.stack.kafka.nodes().contains(node))
    }

    fn inflict_on_network(&self, planned: &Planned, wire: Wire) -> Undo {
        let pick = planned.pick;
        // Two times of three one instance alone.
        let hit = |number: usize| pick.is_multiple_of(3) || number == among(pick / 3, 2);
        let numbered = self.parts.networks.iter().enumerate();
        let proxies = numbered.filter(|(number, _)| hit(*number)).flat_map(|(_, network)| network.of(wire));
        let weather = match planned.kind {
            Kind::DatabaseCut | Kind::BrokersCut => {
                proxies.for_each(Proxy::cut);
                return Undo::Nothing;
            }
            Kind::CommitAnswerLost | Kind::EndOfTransactionAnswerLost => {
                proxies.for_each(|proxy| proxy.lose_next_answer(true));
                return Undo::LoseNoAnswer { wire, lost_before: self.answers_lost(wire) };
            }
            Kind::DatabaseDelayed | Kind::BrokersDelayed => Weather { delay: DELAY, ..Weather::default() },
            Kind::DatabaseThrottled | Kind::BrokersThrottled => {
                Weather { bytes_per_second: Some(BYTES_PER_SECOND), ..Weather::default() }
            }
            _ => Weather { passage: Passage::Silent, ..Weather::default() },
        };
        proxies.for_each(|proxy| proxy.set(weather));
        Undo::Network(wire)
    }

    /// How many answers of this wire were lost so far.
    pub(super) fn answers_lost(&self, wire: Wire) -> u64 {
        self.parts.networks.iter().flat_map(|network| network.of(wire)).map(Proxy::answers_lost).sum()
    }

    fn registry(&self, passage: Passage) {
        for network in &self.parts.networks {
            network.registry.set(Weather { passage, ..Weather::default() });
        }
    }

    /// Of the two that are usually there.
    fn one_that_is_up(&self, pick: u64) -> Option<usize> {
        let up: Vec<_> = (0..THIRD).filter(|number| self.world.instances[*number].is_up()).collect();
        up.get(among(pick, up.len().max(1))).copied()
    }
}

/// Chooses one of `count`.
fn among(pick: u64, count: usize) -> usize {
    usize::try_from(pick % count.max(1) as u64).unwrap_or_default()
}
