//! The `dosi` binary as a child process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::dos::roles;
use crate::stack::{Addresses, Part, Scratch, bound_to_parent, free_port, signal};
use crate::topics;
use crate::{http, planted};

const COMMAND_WITHIN: Duration = Duration::from_secs(120);

/// Settings of one dosi: a database, topics and a group of its own, so that tests side by side never meet.
#[derive(Clone, Debug)]
pub struct Dosi {
    settings: BTreeMap<String, String>,
    has_fault_injection: bool,
    /// A program with its arguments that runs dosi; none as a rule.
    under: Vec<String>,
}

/// How a process of dosi ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Dosi {
    /// With the input, audit and dead-letter topics and the group named by nobody else. Nothing is created.
    pub fn new(addresses: &Addresses, database_url: &str) -> Self {
        Self::named(addresses, database_url, &topics::unique("dosi"))
    }

    /// With topics and group named after `own`: `<own>.change-events`, `<own>.audit` and so on.
    pub fn named(addresses: &Addresses, database_url: &str, own: &str) -> Self {
        let settings = [
            ("DOSI_KAFKA_BOOTSTRAP_SERVERS", addresses.kafka_bootstrap_servers.clone()),
            ("DOSI_SCHEMA_REGISTRY_URL", addresses.schema_registry_url.clone()),
            ("DOSI_DATABASE_URL", database_url.to_owned()),
            ("DOSI_CHANGE_EVENTS_TOPIC", format!("{own}.change-events")),
            ("DOSI_AUDIT_TOPIC", format!("{own}.audit")),
            ("DOSI_DEAD_LETTER_TOPIC", format!("{own}.change-events.dead-letter")),
            ("DOSI_GROUP_ID", own.to_owned()),
            ("DOSI_INSTANCE_ID", "first".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
        Self { settings, has_fault_injection: false, under: Vec::new() }
    }

    /// The same with a setting changed or added.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same without a setting.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// The same with the binary that has fail points and defects to choose from.
    #[must_use]
    pub fn with_fault_injection(mut self) -> Self {
        self.has_fault_injection = true;
        self
    }

    /// The same under a program that runs the command behind its own arguments, such as a profiler. The process of what is
    /// started is that program.
    #[must_use]
    pub fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(ToString::to_string).collect();
        self
    }

    /// Value of a setting; `""` when it is not set here.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// All settings that are set here.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn input_topic(&self) -> &str {
        self.setting("DOSI_CHANGE_EVENTS_TOPIC")
    }

    pub fn audit_topic(&self) -> &str {
        self.setting("DOSI_AUDIT_TOPIC")
    }

    pub fn dead_letter_topic(&self) -> &str {
        self.setting("DOSI_DEAD_LETTER_TOPIC")
    }

    /// Runs a command to its end, however it ends; one that has not ended after two minutes is killed. A migration is followed
    /// by the grants that an administrator then gives.
    pub fn run(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = self.command(arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("failed to run dosi")?;
        let process = child.id().to_string();
        let (ended, has_ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            if has_ended.recv_timeout(COMMAND_WITHIN) == Err(RecvTimeoutError::Timeout) {
                signal("KILL", &process);
            }
        });
        let output = child.wait_with_output().context("failed to run dosi")?;
        drop(ended);
        let ended = Ended {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        planted::keep("output", &format!("{}\n{}", ended.stdout, ended.stderr));
        if arguments == ["migrate"] && ended.status.success() {
            roles::grant(self.setting("DOSI_DATABASE_URL"))?;
        }
        Ok(ended)
    }

    /// Runs a command that must succeed, and gives what it printed on stdout.
    pub fn done(&self, arguments: &[&str]) -> Result<String> {
        let ended = self.run(arguments)?;
        if !ended.status.success() {
            bail!("dosi {} ended with {}:\n{}", arguments.join(" "), ended.status, ended.stderr);
        }
        Ok(ended.stdout)
    }

    /// `dosi migrate` and `dosi topics`: all that `run` needs.
    pub fn set_up(&self) -> Result<()> {
        self.done(&["migrate"])?;
        self.done(&["topics"])?;
        Ok(())
    }

    /// Starts a command that goes on, such as `run`, with a health port of its own unless one is set.
    ///
    /// It ends with the thread that calls this.
    pub fn start(&self, arguments: &[&str]) -> Result<Running> {
        let scratch = Scratch::new("dosi")?;
        let log = scratch.path().join("log");
        self.launch(&log, Some(scratch), arguments)
    }

    /// As [`Self::start`], with its log in a file that stays.
    pub fn start_logging_to(&self, log: &Path, arguments: &[&str]) -> Result<Running> {
        self.launch(log, None, arguments)
    }

    fn launch(&self, log: &Path, scratch: Option<Scratch>, arguments: &[&str]) -> Result<Running> {
        let mut listening = self.clone();
        listening.settings.entry("DOSI_HTTP_LISTEN".to_owned()).or_insert(format!("127.0.0.1:{}", free_port()?));
        let http = listening.setting("DOSI_HTTP_LISTEN").to_owned();
        let part = Part::start("dosi", listening.command(arguments)?, log)?;
        Ok(Running { part, http, _scratch: scratch })
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let bound = bound_to_parent("KILL", binary(self.has_fault_injection)?);
        let mut command = match self.under.split_first() {
            None => bound,
            Some((program, arguments)) => {
                let mut command = bound_to_parent("KILL", program);
                command.args(arguments).arg(bound.get_program()).args(bound.get_args());
                command
            }
        };
        // Nothing of the surroundings but what a program cannot do without: what a test does not set is not set.
        let kept = ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "RUST_BACKTRACE"];
        command.env_clear().envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&self.settings).args(arguments);
        // Never as the superuser: a right that is missing in what operators grant shows at once.
        let url = self.setting("DOSI_DATABASE_URL");
        if !url.is_empty() {
            command.env("DOSI_DATABASE_URL", roles::url_for(arguments.first().unwrap_or(&""), url));
        }
        Ok(command)
    }
}

/// A process of dosi that goes on. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    // Before `_scratch`: the process must be gone before its directory.
    part: Part,
    http: String,
    _scratch: Option<Scratch>,
}

impl Running {
    /// Returns when `/readyz` says so.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let url = self.url("/readyz");
        self.part.wait_until(|| http::get(&url).is_ok_and(|answer| answer.status == 200))
    }

    /// Asks until the answer is yes; the end of dosi before that, or two minutes without, is an error that shows its log.
    pub fn wait_until(&mut self, ready: impl FnMut() -> bool) -> Result<()> {
        self.part.wait_until(ready)
    }

    /// Waits for dosi to end by itself, for two minutes at most.
    pub fn wait(mut self) -> Result<Ended> {
        match self.part.wait(COMMAND_WITHIN)? {
            Some(status) => Ok(self.ended(status)),
            None => bail!("dosi has not ended in {COMMAND_WITHIN:?}:\n{}", self.log()),
        }
    }

    /// Ends it with a signal and tells how it ended; one that has not ended after 10 seconds is killed.
    pub fn stop(mut self, signal: &str) -> Result<Ended> {
        self.keep_metrics();
        let status = self.part.stop(signal)?;
        Ok(self.ended(status))
    }

    pub fn signal(&self, name: &str) -> bool {
        self.part.signal(name)
    }

    pub fn pid(&self) -> u32 {
        self.part.pid()
    }

    /// The page of its metrics.
    pub fn metrics(&self) -> Result<String> {
        Ok(http::get(&self.url("/metrics"))?.body)
    }

    /// What it has printed so far, on stdout and stderr.
    pub fn log(&self) -> String {
        self.part.log()
    }

    /// URL of its health port.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Value of a metric with exactly these labels, written as in the exposition (`name{label="value"}`).
    pub fn metric(&self, series: &str) -> Result<Option<f64>> {
        let page = self.metrics()?;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.trim().parse().context("a metric is no number")).transpose()
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.part.wait(Duration::ZERO)?.is_none())
    }

    /// Largest resident memory so far, in KiB.
    pub fn peak_memory_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        line.trim().trim_end_matches(" kB").parse().context("VmHWM is no number")
    }

    /// A process that does not answer has no metrics to keep.
    fn keep_metrics(&self) {
        if let Ok(page) = self.metrics() {
            planted::keep("metrics", &page);
        }
        if let Ok(page) = http::get(&self.url("/readyz")) {
            planted::keep("readyz", &page.body);
        }
    }

    fn ended(&self, status: ExitStatus) -> Ended {
        Ended { status, stdout: String::new(), stderr: self.log() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running().unwrap_or(false) {
            self.keep_metrics();
        }
        planted::keep("log", &self.log());
    }
}

/// `DOSI_TEST_BINARY`, or the binary beside this program, as cargo and the Makefile lay them out.
fn binary(has_fault_injection: bool) -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("DOSI_TEST_BINARY").filter(|_| !has_fault_injection) {
        return Ok(binary.into());
    }
    let name = if has_fault_injection { "dosi-fault-injection" } else { "dosi" };
    let this = std::env::current_exe()?;
    let binary = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|file| file.is_file());
    binary.context("dosi is not built: start this with `make test`")
}
