//! One process of the stack.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const POLL: Duration = Duration::from_millis(25);
/// Generous, as two cores may be shared with a compiler and a second stack.
const READY_WITHIN: Duration = Duration::from_secs(120);
const END_WITHIN: Duration = Duration::from_secs(10);
const LOG_TAIL_LINES: usize = 30;

static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Lets every wait for a part to be ready fail from now on: someone wants this process to end.
pub fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
}

/// A command that gets `signal` when the thread that starts it ends, killed or not.
pub fn bound_to_parent(signal: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]).arg(program);
    command
}

/// Sends a signal to a process, or with a minus before the id to a process group. `false` when there is none.
pub fn signal(name: &str, process: &str) -> bool {
    let kill = Command::new("sh").args(["-c", r#"kill -s "$0" -- "$1""#, name, process]).stderr(Stdio::null()).status();
    kill.is_ok_and(|status| status.success())
}

/// A long-running process with its log in a file. Dropping it kills it.
#[derive(Debug)]
pub struct Part {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Part {
    /// `command` should come from [`bound_to_parent`].
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
        // A group of its own: Ctrl-C in a terminal is for the parent to act on, in its own order.
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks until the answer is yes; an end of the process before that, or two minutes without, is an error that shows its log.
    pub fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it answered:\n{}", self.name, self.log_tail());
            }
            if GIVEN_UP.load(Ordering::Relaxed) {
                bail!("{} was not waited for", self.name);
            }
            if Instant::now() > deadline {
                bail!("{} did not answer in {READY_WITHIN:?}:\n{}", self.name, self.log_tail());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits for a short-lived process to succeed, for two minutes at most.
    pub fn finish(mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline && !GIVEN_UP.load(Ordering::Relaxed) {
            match self.child.try_wait()? {
                None => thread::sleep(POLL),
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} failed ({status}):\n{}", self.name, self.log_tail()),
            }
        }
        bail!("{} did not end:\n{}", self.name, self.log_tail())
    }

    /// Sends a signal and waits for the end; kills what has not ended after 10 seconds.
    pub fn stop(&mut self, with: &str) -> Result<ExitStatus> {
        self.signal(with);
        if let Some(status) = self.wait(END_WITHIN)? {
            return Ok(status);
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    pub fn signal(&self, name: &str) -> bool {
        signal(name, &self.pid().to_string())
    }

    /// Waits for the end; `None` when it has not come in time.
    pub fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
