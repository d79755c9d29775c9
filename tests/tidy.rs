//! What a reader may rely on in the source itself: files stay short, and the core stays pure.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;

/// What would give `domain` or `protocol` a clock, an input or an output.
const IMPURE: [&str; 14] = [
    "async",
    "tokio",
    "rdkafka",
    "tokio_postgres",
    "deadpool_postgres",
    "tracing",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "SystemTime",
    "Instant",
    "Utc::now",
    "Local::now",
];

#[test]
fn no_source_file_is_long() {
    let sources = sources(&root());
    assert!(sources.len() > 10, "only {} source files found", sources.len());
    let long: Vec<_> = sources.iter().filter(|file| read(file).lines().count() > FILE_LINES_MAX).collect();
    assert!(long.is_empty(), "over {FILE_LINES_MAX} lines: {long:#?}");
}

#[test]
fn the_core_touches_nothing_outside() {
    let mut faults = Vec::new();
    for pure in ["domain", "protocol"] {
        let sources = sources(&root().join("processor/src").join(pure));
        assert!(!sources.is_empty(), "processor/src/{pure} is not where it was");
        faults.extend(sources.iter().flat_map(|file| impurities(file)));
    }
    assert!(faults.is_empty(), "the core must stay pure:\n{}", faults.join("\n"));
}

fn impurities(file: &Path) -> Vec<String> {
    let code = code(&read(file));
    let found = IMPURE.iter().filter(|word| names(&code, word));
    found.map(|word| format!("{} names {word}", file.display())).collect()
}

/// Without comments, which may speak of anything, and with `use std::{fs, …}` written out.
fn code(text: &str) -> String {
    let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let lists = code.split("use std::{").skip(1).filter_map(|rest| rest.split(';').next());
    let words = lists.flat_map(|list| list.split(|character: char| !character.is_alphanumeric()));
    let written_out: Vec<_> = words.map(|word| format!("std::{word}")).collect();
    [code.as_str(), &written_out.join("\n")].join("\n")
}

/// Whether `word` stands in the code by itself, not as a part of a longer name.
fn names(code: &str, word: &str) -> bool {
    let in_name = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(in_name) && !code[at + word.len()..].starts_with(in_name))
}

#[test]
fn what_is_impure_is_seen_through_its_spellings() {
    assert!(names("use tokio::time;", "tokio"));
    assert!(names("let now = std::time::Instant::now();", "Instant"));
    assert!(names(&code("use std::{\n    collections::BTreeMap,\n    fs,\n};"), "std::fs"));
    assert!(!names(&code("// tokio is not for us"), "tokio"));
    assert!(!names("use tokio_postgres::Client;", "tokio"));
    assert!(!names("fn InstantOf()", "Instant"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rust files under a folder, without what is built.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the source tree is readable").flatten();
    entries
        .map(|entry| entry.path())
        .flat_map(|path| match path.file_name().and_then(|name| name.to_str()) {
            Some("target" | ".git") => Vec::new(),
            _ if path.is_dir() => sources(&path),
            Some(name) if Path::new(name).extension().is_some_and(|extension| extension == "rs") => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("a source file is text")
}
