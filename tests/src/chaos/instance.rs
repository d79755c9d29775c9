//! One instance of dosi, as a supervisor keeps it: started, killed, asked to stop, and started again when it ends by itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::program::{Dosi, Ended, Running};

/// Asked to stop, it must end within 10 s whatever hangs; the rest is for a machine that is busy.
const STOPS_WITHIN: Duration = Duration::from_secs(13);

/// One of [`super::parts::INSTANCES`].
#[derive(Debug)]
pub struct Instance {
    pub name: &'static str,
    dosi: Dosi,
    logs: PathBuf,
    starts: u32,
    state: State,
    /// Whether it should be there.
    wanted: bool,
}

#[derive(Debug)]
enum State {
    Down,
    Up(Running),
    /// Since when it has been asked to stop.
    Stopping(Running, Instant),
}

impl Instance {
    pub fn new(name: &'static str, dosi: Dosi, logs: PathBuf) -> Self {
        Self { name, dosi, logs, starts: 0, state: State::Down, wanted: false }
    }

    /// From now on it should be there.
    pub fn start(&mut self) -> Result<()> {
        self.wanted = true;
        if matches!(self.state, State::Down) {
            self.starts += 1;
            let log = self.logs.join(format!("{}-{:03}.log", self.name, self.starts));
            self.state = State::Up(self.dosi.start_logging_to(&log, &["run"])?);
        }
        Ok(())
    }

    /// As a power cut would.
    pub fn kill(&mut self) {
        self.wanted = false;
        self.state = State::Down;
    }

    /// Asks it to stop; [`Self::look`] tells what came of it.
    pub fn terminate(&mut self) {
        self.wanted = false;
        self.state = match std::mem::replace(&mut self.state, State::Down) {
            State::Up(running) => {
                running.signal("TERM");
                State::Stopping(running, Instant::now())
            }
            other => other,
        };
    }

    pub fn signal(&self, name: &str) -> bool {
        match &self.state {
            State::Up(running) | State::Stopping(running, _) => running.signal(name),
            State::Down => false,
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    /// How it ended by itself, if it did, and starts it again where it should be there. An error is a promise broken.
    pub fn look(&mut self) -> Result<Option<String>> {
        let ended = match &mut self.state {
            State::Down => None,
            State::Up(running) => ended(running)?,
            State::Stopping(running, since) => match ended(running)? {
                None if since.elapsed() > STOPS_WITHIN => {
                    self.state = State::Down;
                    bail!("{} did not stop within {STOPS_WITHIN:?} of SIGTERM", self.name);
                }
                ended => ended,
            },
        };
        let told = if ended.is_some() { self.told()? } else { None };
        if self.wanted {
            self.start()?;
        }
        Ok(told)
    }

    /// Of one that has ended.
    fn told(&mut self) -> Result<Option<String>> {
        let (running, asked) = match std::mem::replace(&mut self.state, State::Down) {
            State::Up(running) => (running, false),
            State::Stopping(running, _) => (running, true),
            State::Down => return Ok(None),
        };
        let Ended { status, stderr, .. } = running.wait()?;
        if stderr.contains("panicked at") {
            bail!("{} panicked ({} starts)", self.name, self.starts);
        }
        // Before its first line it has not begun to listen.
        if asked && !status.success() && !stderr.is_empty() {
            bail!("{} ended with {status} when it was asked to stop", self.name);
        }
        let line = stderr.lines().rev().find(|line| line.starts_with("dosi: ")).unwrap_or("without a word");
        Ok((!asked).then(|| format!("{} ended by itself, {status}: {line}", self.name)))
    }
}

fn ended(running: &mut Running) -> Result<Option<()>> {
    Ok((!running.is_running().context("failed to look after dosi")?).then_some(()))
}
