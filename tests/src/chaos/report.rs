//! What is told of the runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Outcome;
use super::plan::Kind;

/// Findings shown of one run; all are in its logs' folder.
const FINDINGS_SHOWN: usize = 15;

/// Of all runs together, as Markdown.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut faults: BTreeMap<Kind, u32> = BTreeMap::new();
    for (kind, count) in outcomes.iter().flat_map(|outcome| &outcome.tally.faults) {
        *faults.entry(*kind).or_default() += count;
    }
    let mut text = String::from("| fault | times |\n|---|---|\n");
    for kind in Kind::all() {
        let count = faults.get(&kind).copied().unwrap_or(0);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {count} |", kind.name());
    }
    let sum = |of: &dyn Fn(&Outcome) -> usize| outcomes.iter().map(of).sum::<usize>();
    let _ = writeln!(text, "| all | {} |\n", faults.values().sum::<u32>());
    let _ = writeln!(text, "| seen | |\n|---|---|");
    let seeds: Vec<_> = outcomes.iter().map(|outcome| outcome.settings.seed.to_string()).collect();
    let _ = writeln!(text, "| seeds | {} |", seeds.join(", "));
    let minutes = outcomes.iter().map(|outcome| outcome.settings.length.as_secs_f64() / 60.0).sum::<f64>();
    let _ = writeln!(text, "| minutes under faults | {minutes:.1} |");
    let _ = writeln!(text, "| events | {} |", sum(&|outcome| outcome.events));
    let _ = writeln!(text, "| writes of the other writer | {} |", sum(&|outcome| outcome.writes));
    let _ = writeln!(
        text,
        "| faults without effect | {} |",
        sum(&|outcome| { outcome.tally.without_effect.values().map(|count| *count as usize).sum() })
    );
    let _ = writeln!(text, "| takeover after kill -9 | {} |", takeovers(outcomes));
    let verdict = if outcomes.iter().all(Outcome::passed) {
        "nothing lost, nothing twice, nothing out of order"
    } else {
        "FAILED"
    };
    let _ = writeln!(text, "| verdict | {verdict} |");
    text
}

fn takeovers(outcomes: &[Outcome]) -> String {
    let mut times: Vec<Duration> = outcomes.iter().flat_map(|outcome| outcome.tally.takeovers.clone()).collect();
    times.sort_unstable();
    match (times.first(), times.get(times.len() / 2), times.last()) {
        (Some(least), Some(median), Some(most)) => {
            let seconds = |time: &Duration| format!("{:.1} s", time.as_secs_f64());
            format!("{} min, {} median, {} max of {}", seconds(least), seconds(median), seconds(most), times.len())
        }
        _ => "not measured".to_owned(),
    }
}

/// What one run has to say besides, and how to have it again.
pub fn details(outcome: &Outcome) -> String {
    let mut text = String::new();
    let seed = outcome.settings.seed;
    for note in &outcome.tally.notes {
        let _ = writeln!(text, "seed {seed}: {note}");
    }
    for (kind, times) in &outcome.tally.without_effect {
        let _ = writeln!(text, "seed {seed}: without effect, {times} times: {}", kind.name());
    }
    if outcome.passed() {
        return text;
    }
    let findings = &outcome.tally.findings;
    for finding in findings.iter().take(FINDINGS_SHOWN) {
        let _ = writeln!(text, "seed {seed}: {finding}");
    }
    if findings.len() > FINDINGS_SHOWN {
        let _ = writeln!(text, "seed {seed}: and {} findings more", findings.len() - FINDINGS_SHOWN);
    }
    if let Some(logs) = &outcome.logs {
        let _ = writeln!(text, "logs and all findings: {}", logs.display());
    }
    let minutes = outcome.settings.length.as_secs_f64() / 60.0;
    let _ = writeln!(text, "again: make chaos SEED={seed} MINUTES={minutes}");
    text
}
