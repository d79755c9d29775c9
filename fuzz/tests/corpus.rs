//! Every kept input of every target, and variations of those that are JSON: the laws hold.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, time::Instant};

use dosi_fuzz::{TARGETS, Target, mutated_json};

/// Variations of each kept input.
const VARIATIONS: u32 = 20;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_kept_input_keeps_the_laws() {
    for target in &TARGETS {
        let begin = Instant::now();
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for input in &inputs {
            (target.run)(input);
            let text = std::str::from_utf8(input).ok().filter(|_| target.is_json);
            for mutated in text.into_iter().flat_map(|text| (0..VARIATIONS).filter_map(|seed| mutated_json(text, seed)))
            {
                (target.run)(mutated.as_bytes());
            }
        }
        println!("{}: {} kept inputs, {:?}", target.name, inputs.len(), begin.elapsed());
    }
}

#[test]
fn every_corpus_has_a_target() {
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap();
    for folder in folders {
        let name = folder.unwrap().file_name();
        assert!(TARGETS.iter().any(|target| name == target.name), "{} belongs to no target", name.display());
    }
}
