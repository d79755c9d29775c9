//! Data directories of running parts: outside the source tree, gone when the part is, swept up after a parent that was killed.
//!
//! Under a stack (`with-stack`) they lie in its own directory, which goes last, whatever became of the programs under it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

const PREFIX: &str = "dosi-stack-";
const PARENT: &str = "DOSI_TEST_SCRATCH";

/// A directory of its own, under that of a stack around this process or else the system's (`TMPDIR`). Removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub fn new(name: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let parent = match std::env::var_os(PARENT) {
            Some(parent) => PathBuf::from(parent),
            None => std::env::temp_dir(),
        };
        sweep(&parent);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let owner = std::process::id();
        let started = started_at(owner).context("failed to read /proc")?;
        // Short, as a socket's path in it must stay under 108 bytes.
        let path = parent.join(format!("{PREFIX}{owner}-{started}-{number}-{name}"));
        fs::create_dir(&path).with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The environment in which a child puts its own directories into this one.
    pub fn to_env(&self) -> (&'static str, String) {
        (PARENT, self.path.display().to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A process that was just killed may still be writing its last file: once more then.
        if fs::remove_dir_all(&self.path).is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes what owners left behind that did not live to do it.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_orphan) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A process id alone would not do: it may have been given to another process since.
fn is_orphan(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('-');
    let (Some(Ok(owner)), Some(started)) = (parts.next().map(str::parse), parts.next()) else { return false };
    started_at(owner).as_deref() != Some(started)
}

/// When a process started, in clock ticks since boot; `None` when there is none.
fn started_at(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; the start is the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}
