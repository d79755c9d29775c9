//! Drives one target by coverage with libFuzzer: `DOSI_FUZZ_TARGET` names it, the arguments are libFuzzer's. See `make fuzz`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod engine {
    use std::sync::LazyLock;

    use dosi_fuzz::{Target, mutated_json, target};
    use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

    static TARGET: LazyLock<Target> = LazyLock::new(|| {
        let name = std::env::var("DOSI_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("DOSI_FUZZ_TARGET: there is no target {name:?}"))
    });

    fuzz_target!(|data: &[u8]| (TARGET.run)(data));

    // Every other time part by part, where the input is JSON.
    fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
        if TARGET.is_json && seed % 2 == 0 {
            let text = std::str::from_utf8(&data[..size]).ok();
            let mutated = text.and_then(|text| mutated_json(text, seed / 2)).filter(|text| text.len() <= max_size);
            if let Some(mutated) = mutated {
                data[..mutated.len()].copy_from_slice(mutated.as_bytes());
                return mutated.len();
            }
        }
        fuzzer_mutate(data, size, max_size)
    });
}

/// Without the engine it only names the targets.
#[cfg(not(fuzzing))]
fn main() {
    for target in dosi_fuzz::TARGETS {
        println!("{}", target.name);
    }
}
