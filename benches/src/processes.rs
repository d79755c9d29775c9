//! Processor time of processes, from /proc.

use std::fs;

use anyhow::{Context, Result};

/// `USER_HZ`, the same on every Linux that this runs on.
const TICKS_A_SECOND: f64 = 100.0;
/// Fields behind the program's name: user and system time of the process, then of its children that have ended.
const OWN: [usize; 2] = [11, 12];
const ENDED_CHILDREN: [usize; 2] = [13, 14];
const PARENT: usize = 1;

/// Whose time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    Alone,
    /// And its children, those that have ended and those that live.
    WithChildren,
}

/// Seconds so far.
pub fn processor_of(process: u32, whose: Processor) -> Result<f64> {
    loop {
        let fields = fields_of(&process.to_string())?;
        let mut ticks = sum(&fields, OWN);
        if whose == Processor::Alone {
            return Ok(ticks / TICKS_A_SECOND);
        }
        let ended = sum(&fields, ENDED_CHILDREN);
        let processes = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        // A process may end between the two looks.
        let others = processes.filter_map(|id| fields_of(&id).ok());
        let children = others.filter(|fields| fields.get(PARENT).is_some_and(|parent| *parent == process.to_string()));
        ticks += ended + children.map(|fields| sum(&fields, OWN)).sum::<f64>();
        // One that ended in between would be missing from both: once more then.
        if (sum(&fields_of(&process.to_string())?, ENDED_CHILDREN) - ended).abs() < 0.5 {
            return Ok(ticks / TICKS_A_SECOND);
        }
    }
}

/// Seconds of this process's children that have ended: exact where looking at a child from time to time is not.
pub fn processor_of_ended_children() -> Result<f64> {
    Ok(sum(&fields_of("self")?, ENDED_CHILDREN) / TICKS_A_SECOND)
}

fn fields_of(process: &str) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("no name")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

fn sum(fields: &[String], at: [usize; 2]) -> f64 {
    at.iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum()
}
