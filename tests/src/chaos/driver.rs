//! Carries out a plan: begins each fault when it is due and free to come, and mends it when it has lasted long enough.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::runtime::Handle;

use super::Settings;
use super::parts::Parts;
use super::plan::{Kind, Plan, Planned, Resource};
use super::takeover::Takeover;
use super::undo::Undo;
use super::world::World;

const TICK: Duration = Duration::from_millis(20);
/// Between questions to the parts, which have other things to do.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// So many events less than caught up counts as caught up while more are produced.
const CALM_BEHIND: i64 = 100;
/// Brokers that were all killed take most of it to find each other again on a busy machine.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(240);
/// With a deliberate defect the same would be waited for in vain; the run without one shows that this is enough.
const CATCHES_UP_WITH_DEFECT_WITHIN: Duration = Duration::from_secs(75);
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// What happened in a run.
#[derive(Debug, Default)]
pub struct Tally {
    pub faults: BTreeMap<Kind, u32>,
    /// Faults that could not be brought about where the plan had them.
    pub without_effect: BTreeMap<Kind, u32>,
    /// From kill -9 until the last of the dead one's partitions went on, with no other fault about.
    pub takeovers: Vec<Duration>,
    pub backups_put_back: u32,
    /// What is worth knowing and breaks no promise.
    pub notes: Vec<String>,
    /// Promises broken.
    pub findings: Vec<String>,
}

/// A fault that is there.
#[derive(Debug)]
struct Active {
    planned: Planned,
    until: Instant,
    undo: Undo,
}

/// The hand that strikes.
pub struct Driver<'a> {
    pub parts: &'a mut Parts,
    pub world: &'a mut World,
    pub runtime: Handle,
    pub tally: Tally,
    active: Vec<Active>,
    pub takeover: Option<Takeover>,
    began: Instant,
    /// When the parts were last asked.
    asked: Instant,
    catches_up_within: Duration,
}

impl<'a> Driver<'a> {
    pub fn new(parts: &'a mut Parts, world: &'a mut World, runtime: &Handle) -> Self {
        let now = Instant::now();
        Self {
            parts,
            world,
            runtime: runtime.clone(),
            tally: Tally::default(),
            active: Vec::new(),
            takeover: None,
            began: now,
            asked: now,
            catches_up_within: CATCHES_UP_WITHIN,
        }
    }

    /// From the first instance's start to a dosi that has caught up and ended. Then everything is there to be checked.
    pub fn run(mut self, plan: &Plan, settings: Settings) -> Result<Tally> {
        if settings.defect.is_some() {
            self.catches_up_within = CATCHES_UP_WITH_DEFECT_WITHIN;
        }
        for instance in &mut self.world.instances[..2] {
            instance.start()?;
        }
        // Only a position that was there at the backup can be put back.
        self.wait_until_caught_up(CALM_BEHIND)?;
        self.began = Instant::now();
        let result = self.strike(plan, settings.length).and_then(|()| self.finish());
        if let Err(error) = result {
            self.tally.findings.push(format!("{error:#}"));
            self.mend_all()?;
            self.world.stop_input()?;
        }
        Ok(self.tally)
    }

    fn strike(&mut self, plan: &Plan, length: Duration) -> Result<()> {
        for planned in &plan.faults {
            if planned.calm_before {
                while !self.active.is_empty() {
                    self.tick()?;
                }
                self.say("everything is mended");
                self.wait_until_caught_up(CALM_BEHIND)?;
                self.say("dosi has caught up");
            }
            let due = Instant::now() + planned.gap;
            while Instant::now() < due || !self.is_free(planned) {
                self.tick()?;
            }
            if self.began.elapsed() > length {
                break;
            }
            self.begin(planned)?;
        }
        Ok(())
    }

    fn begin(&mut self, planned: &Planned) -> Result<()> {
        self.say(&format!("{} ({:.1} s)", planned.kind.name(), planned.hold.as_secs_f64()));
        match self.inflict(planned)? {
            Some(undo) => self.active.push(Active { planned: *planned, until: Instant::now() + planned.hold, undo }),
            None => *self.tally.without_effect.entry(planned.kind).or_default() += 1,
        }
        Ok(())
    }

    fn say(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// A death whose takeover is measured comes alone and stays alone.
    fn is_free(&self, planned: &Planned) -> bool {
        if planned.is_measured() || self.active.iter().any(|active| active.planned.is_measured()) {
            return self.active.is_empty();
        }
        let taken: Vec<Resource> =
            self.active.iter().flat_map(|active| active.planned.kind.resources()).copied().collect();
        !planned.kind.resources().iter().any(|resource| taken.contains(resource))
    }

    /// Looks after everything that goes on.
    fn tick(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(due) = self.active.iter().position(|active| active.until <= now || self.is_done(&active.undo)) {
            let active = self.active.swap_remove(due);
            self.mend(active)?;
        }
        for instance in &mut self.world.instances {
            match instance.look() {
                Ok(told) => self.tally.notes.extend(told),
                Err(broken) => self.tally.findings.push(format!("{broken:#}")),
            }
        }
        if self.world.is_broken() {
            bail!("producing has broken off");
        }
        self.watch_takeover();
        thread::sleep(TICK);
        Ok(())
    }

    /// Whether the fault has had its effect, however long it was to last.
    fn is_done(&self, undo: &Undo) -> bool {
        matches!(undo, Undo::LoseNoAnswer { wire, lost_before } if self.answers_lost(*wire) > *lost_before)
    }

    fn mend(&mut self, active: Active) -> Result<()> {
        if self.undo(active.undo)? {
            *self.tally.faults.entry(active.planned.kind).or_default() += 1;
        } else {
            *self.tally.without_effect.entry(active.planned.kind).or_default() += 1;
        }
        Ok(())
    }

    fn watch_takeover(&mut self) {
        let Some(takeover) = &mut self.takeover else { return };
        if self.asked.elapsed() < ASK_EVERY {
            return;
        }
        self.asked = Instant::now();
        let done = self.world.positions().ok().and_then(|(positions, _)| takeover.look(&positions));
        if let Some(time) = done {
            self.tally.takeovers.push(time);
        } else if !takeover.is_given_up() {
            return;
        } else {
            self.tally.findings.push("the partitions of a killed instance did not go on within 60 s".to_owned());
        }
        self.takeover = None;
    }

    fn mend_all(&mut self) -> Result<()> {
        while let Some(active) = self.active.pop() {
            self.mend(active)?;
        }
        self.takeover = None;
        self.parts.networks.iter().for_each(super::parts::Network::clear);
        Ok(())
    }

    fn wait_until_caught_up(&mut self, behind_most: i64) -> Result<()> {
        let began = Instant::now();
        let mut last = "nothing was asked".to_owned();
        let within = self.catches_up_within;
        while began.elapsed() < within {
            self.tick()?;
            if self.asked.elapsed() < ASK_EVERY {
                continue;
            }
            let behind = self.world.behind();
            self.asked = Instant::now();
            match behind {
                Ok(behind) if behind <= behind_most => return Ok(()),
                Ok(behind) => last = format!("{behind} behind"),
                Err(error) => last = format!("{error:#}"),
            }
        }
        let shown = self.world.dosi.run(&["position", "show"]).map(|ended| ended.stdout + &ended.stderr);
        bail!("dosi has not caught up within {within:?} ({last}):\n{}", shown.unwrap_or_default())
    }

    /// Everything mended, no more events, dosi caught up and ended.
    fn finish(&mut self) -> Result<()> {
        self.mend_all()?;
        self.say("everything is mended");
        self.world.stop_input()?;
        self.say("the last event is in the topic");
        self.wait_until_caught_up(0)?;
        self.say("dosi has caught up");
        self.world.instances.iter_mut().for_each(super::instance::Instance::terminate);
        let deadline = Instant::now() + STOPS_WITHIN;
        while !self.world.instances.iter().all(super::instance::Instance::is_down) && Instant::now() < deadline {
            self.tick()?;
        }
        self.say("dosi has ended");
        Ok(())
    }
}
