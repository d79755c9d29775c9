//! `make bench-profile`: where dosi spends its processor time, as flame graphs.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use dosi_benches::england::{AFTER, BEFORE, England};
use dosi_benches::ground::picture;
use dosi_tests::stack::Scratch;
use dosi_tests::topics::Record;

/// Folder of inferno's programs, as `deploy/local/install --bench` says.
const INFERNO: &str = "DOSI_BENCH_INFERNO";
const SAMPLES: &str = "samples";
const SAMPLES_A_SECOND: &str = "99";
/// Bytes of stack kept with each sample, to be unwound later: the optimised program keeps no frame pointers.
const STACKS: &str = "dwarf,65528";
/// Narrower frames, in percent of all, are left out.
const NARROWEST: &str = "0.3";

pub(crate) async fn profile(england: &mut England, suffix: &str) -> Result<()> {
    let mixed = england.records.clone();
    let unchanged = england.unchanged();
    draw(england, "England's events", BEFORE, mixed, &format!("profile-england{suffix}.svg")).await?;
    draw(england, "Profiles that change nothing", AFTER, unchanged, &format!("profile-unchanged{suffix}.svg")).await
}

async fn draw(england: &mut England, title: &str, template: &str, events: Vec<Record>, name: &str) -> Result<()> {
    let topic = england.ground.publish(events).await?;
    let subject = england.ground.subject(template, &topic).await?;
    let scratch = Scratch::new("profile")?;
    let samples = scratch.path().join(SAMPLES).display().to_string();
    let perf = [
        "perf",
        "record",
        "--quiet",
        "--no-buildid-cache",
        "--freq",
        SAMPLES_A_SECOND,
        "--call-graph",
        STACKS,
        "--output",
    ];
    let perf = [&perf[..], &[&samples, "--"]].concat();
    let ended = subject.dosi.clone().under(&perf).start(&["run", "--exit-at-end"])?.wait()?;
    if !ended.status.success() {
        bail!("dosi under perf ended with {}:\n{}", ended.status, ended.stderr);
    }
    flame_graph(scratch.path(), title, &picture(name)?)?;
    subject.remove(&england.ground).await
}

fn flame_graph(scratch: &Path, title: &str, picture: &Path) -> Result<()> {
    // A picture that is there stays until the new one is whole.
    let drawing = scratch.join("drawing");
    let inferno: PathBuf = env::var_os(INFERNO).context("no inferno: start this with `make bench-profile`")?.into();
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "--input"]).arg(scratch.join(SAMPLES));
    let mut script = script.stdout(Stdio::piped()).spawn()?;
    let mut collapse = Command::new(inferno.join("inferno-collapse-perf"))
        .stdin(script.stdout.take().context("no output")?)
        .stdout(Stdio::piped())
        .spawn()?;
    let drawn = Command::new(inferno.join("inferno-flamegraph"))
        .args(["--title", title, "--minwidth", NARROWEST, "--countname", "ns", "--hash"])
        .stdin(collapse.stdout.take().context("no output")?)
        .stdout(File::create(&drawing)?)
        .status()?;
    if !(script.wait()?.success() && collapse.wait()?.success() && drawn.success()) {
        bail!("the samples could not be drawn");
    }
    fs::copy(&drawing, picture)?;
    println!("picture: {}", picture.display());
    Ok(())
}
