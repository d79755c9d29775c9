//! Tells the program which commit it was built from (`DOSI_COMMIT`), for `dosi --version` and `dosi_build_info`.

use std::{path::PathBuf, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A build without a repository (a container image) may be told the commit.
    println!("cargo:rerun-if-env-changed=DOSI_COMMIT");
    let told = std::env::var("DOSI_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = told.or_else(|| git(&["rev-parse", "--short=12", "HEAD"])).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=DOSI_COMMIT={commit}");
    watch_head();
}

/// Rebuilds when another commit is checked out. A watched file that does not exist would mean a rebuild every time.
fn watch_head() {
    for name in ["HEAD", "logs/HEAD", "packed-refs"] {
        let Some(path) = git(&["rev-parse", "--git-path", name]).map(PathBuf::from) else { return };
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
}

/// One line of git's answer; `None` without git, or outside a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}
