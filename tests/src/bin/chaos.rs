//! `chaos --seeds 1,2 --minutes 2 [--events-per-second 30] [--report FILE]`: dosi under faults; see [`dosi_tests::chaos`].
//! With `--defects all` (or some names, with commas between): the same with a defect of dosi, which must be found.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dosi::fault_injection::Mutant;
use dosi_tests::chaos::parts::Parts;
use dosi_tests::chaos::{Settings, mutants, report, run};

/// Set in the process that has its own mounts.
const OWN_MOUNTS: &str = "DOSI_CHAOS_OWN_MOUNTS";

struct Arguments {
    seeds: Vec<u64>,
    minutes: f64,
    events_per_second: u32,
    report: Option<PathBuf>,
    defects: Vec<Mutant>,
}

/// Not async: the parts and dosi end with the thread that starts them, which is this one.
fn main() -> ExitCode {
    match arguments().and_then(|arguments| run_all(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments> {
    let mut read = Arguments { seeds: vec![1], minutes: 2.0, events_per_second: 30, report: None, defects: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--seeds" => read.seeds = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--minutes" => read.minutes = value.parse()?,
            "--events-per-second" => read.events_per_second = value.parse()?,
            "--defects" => read.defects = mutants::named(&value)?,
            "--report" => read.report = Some(value.into()),
            _ => bail!("unknown: {name}"),
        }
    }
    Ok(read)
}

fn run_all(arguments: &Arguments) -> Result<bool> {
    take_own_mounts();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    eprintln!("starting PostgreSQL, three Kafka nodes and the schema registry");
    let mut parts = Parts::start(runtime.handle())?;
    let length = Duration::from_secs_f64(arguments.minutes * 60.0);
    let settings =
        |seed: &u64| Settings { seed: *seed, length, events_per_second: arguments.events_per_second, defect: None };
    let settings: Vec<Settings> = arguments.seeds.iter().map(settings).collect();
    if !arguments.defects.is_empty() {
        return mutants::find(&mut parts, &arguments.defects, &settings, runtime.handle());
    }
    let mut outcomes = Vec::new();
    for settings in settings {
        eprintln!("seed {}, {} minutes", settings.seed, arguments.minutes);
        outcomes.push(run(&mut parts, settings, runtime.handle())?);
    }
    let table = report::table(&outcomes);
    println!("{table}");
    // Last, where they are seen first.
    for outcome in &outcomes {
        print!("{}", report::details(outcome));
    }
    if let Some(file) = &arguments.report {
        std::fs::write(file, &table).with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(outcomes.iter().all(dosi_tests::chaos::Outcome::passed))
}

/// Starts itself again with mounts of its own, which go with it however it ends; where that is not allowed it goes on as it is.
fn take_own_mounts() {
    if std::env::var_os(OWN_MOUNTS).is_some() {
        return;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        command
    };
    let allowed = unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if let (true, Ok(this)) = (allowed, std::env::current_exe()) {
        // Comes back only when it fails, and then nothing has changed.
        let _ = unshare().arg(this).args(std::env::args_os().skip(1)).env(OWN_MOUNTS, "1").exec();
    }
}
