//! The core: allocations.

use dosi_tests::country::generate;
use dosi_tests::sample::Sample;

use crate::{ORGANISATIONS, SEED};

// Counted: 31, 223 (what stands for the database's answers among them), 21.
const PARSE_ALLOCATIONS_MAX: u64 = 36;
const DECIDE_ALLOCATIONS_MAX: u64 = 255;
const ENCODE_ALLOCATIONS_MAX: u64 = 27;

#[test]
fn an_event_costs_the_core_what_it_did() {
    let country = generate(SEED, ORGANISATIONS);
    let mut totals = [0; 3];
    for event in &country.events {
        let sample = Sample::of(&country, event).unwrap();
        // What is made once for all events is made here.
        let decoded = sample.parse();
        let (decisions, _) = sample.decide(&decoded, sample.load(&decoded));
        sample.encode(&decoded, &decisions).unwrap();
        let state = sample.load(&decoded);
        let of_each = [
            allocations(|| drop(sample.parse())),
            allocations(|| drop(sample.decide(&decoded, state))),
            allocations(|| drop(sample.encode(&decoded, &decisions))),
        ];
        totals.iter_mut().zip(of_each).for_each(|(total, allocations)| *total += allocations);
    }
    let [parse, decide, encode] = totals.map(|total| total / country.events.len() as u64);
    eprintln!("allocations an event: parse {parse}, decide {decide}, encode {encode}");
    assert!(parse < PARSE_ALLOCATIONS_MAX, "{parse} allocations to parse an event");
    assert!(decide < DECIDE_ALLOCATIONS_MAX, "{decide} allocations to decide an event");
    assert!(encode < ENCODE_ALLOCATIONS_MAX, "{encode} allocations to encode an event");
}

fn allocations(doing: impl FnOnce()) -> u64 {
    allocation_counter::measure(doing).count_total
}
