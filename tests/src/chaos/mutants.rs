//! Deliberate defects of dosi under the same faults: a harness that finds none of them proves nothing.

use anyhow::{Context, Result, bail};
use dosi::fault_injection::Mutant;
use tokio::runtime::Handle;

use super::checker::is_of_harness;
use super::parts::Parts;
use super::{Outcome, Settings, run};

/// Of what is found, enough to see that it is the defect.
const SHOWN: usize = 160;

/// The defects of a list like `row-not-next,late-offset`, or `all`.
pub fn named(names: &str) -> Result<Vec<Mutant>> {
    if names == "all" {
        return Ok(Mutant::ALL.to_vec());
    }
    let find = |name: &str| Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
    names.split(',').map(|name| find(name).with_context(|| format!("{name} is no defect"))).collect()
}

/// Tries each defect with one seed after the other until it is found, and dosi as it is with all of them. Prints a line for
/// each; whether all were found.
pub fn find(parts: &mut Parts, defects: &[Mutant], settings: &[Settings], runtime: &Handle) -> Result<bool> {
    for settings in settings {
        let outcome = run(parts, *settings, runtime)?;
        if let Some(finding) = outcome.tally.findings.first() {
            bail!("without any defect, seed {}: {finding}", settings.seed);
        }
    }
    println!("| defect | found with seed | by |\n|---|---|---|");
    println!("| none | | |");
    let mut all = true;
    for defect in defects {
        let found = first_found(parts, *defect, settings, runtime)?;
        all &= found.is_some();
        let (seed, by) = found.map_or(("none".to_owned(), String::new()), |(seed, by)| (seed.to_string(), by));
        println!("| {} | {seed} | {by} |", defect.name());
    }
    Ok(all)
}

fn first_found(
    parts: &mut Parts,
    defect: Mutant,
    settings: &[Settings],
    runtime: &Handle,
) -> Result<Option<(u64, String)>> {
    for settings in settings {
        eprintln!("{}, seed {}", defect.name(), settings.seed);
        let outcome = run(parts, Settings { defect: Some(defect), ..*settings }, runtime)?;
        let Outcome { tally, logs, .. } = outcome;
        if let Some(logs) = logs {
            std::fs::remove_dir_all(logs)?;
        }
        if let Some(finding) = tally.findings.iter().find(|finding| !is_of_harness(finding)) {
            let line = finding.lines().next().unwrap_or_default();
            return Ok(Some((settings.seed, line.chars().take(SHOWN).collect())));
        }
    }
    Ok(None)
}
