//! Whole events against a whole DoS. An input holds choices and no text: seeds for the generators that the properties of the
//! core use too, and for each event the variations that it goes through one after the other, so that the engine varies events
//! and rows and not their spelling.

use dosi::{
    domain::batch::Input,
    wire::{change_event::decode, record::InputRecord},
};
use proptest::{
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use super::records::{audit, dead_letter, has_staff};
use crate::{
    generators::{FIELDS, any_json, dos, event},
    laws, mutated_json,
    support::{dos::Dos, examples::event_with, golden_form::record},
};

const EVENTS_MAX: usize = 4;
const VARIATIONS_MAX: u8 = 8;
/// A document can double with each variation.
const TEXT_BYTES_MAX: usize = 16 * 1024;

pub(crate) fn run(data: &[u8]) {
    let mut choices = data.iter().copied();
    let Some(dos) = generated(dos(), &mut choices) else { return };
    let records: Vec<InputRecord> = (1..)
        .map_while(|number| Some(record(event_text(&mut choices)?.as_bytes(), &number.to_string())))
        .take(EVENTS_MAX)
        .collect();
    check(&dos, &records);
}

/// A value of a strategy, chosen by four bytes; `None` when there are none left.
fn generated<T>(strategy: impl Strategy<Value = T>, choices: &mut impl Iterator<Item = u8>) -> Option<T> {
    let mut seed = [0; 32];
    for byte in &mut seed[..4] {
        *byte = choices.next()?;
    }
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let tree = strategy.new_tree(&mut TestRunner::new_with_rng(Config::default(), random));
    Some(tree.expect("no generator filters").current())
}

fn event_text(choices: &mut impl Iterator<Item = u8>) -> Option<String> {
    let any_field = (select(FIELDS), any_json()).prop_map(|(field, value)| event_with(json!({field: value})));
    let event: Value = generated(prop_oneof![3 => event(), 1 => any_field], choices)?;
    let mut text = event.to_string();
    for _ in 0..choices.next().unwrap_or_default() % (VARIATIONS_MAX + 1) {
        let seed = u32::from(choices.next()?) << 8 | u32::from(choices.next()?);
        text = mutated_json(&text, seed).filter(|text| text.len() <= TEXT_BYTES_MAX)?;
    }
    Some(text)
}

fn check(dos: &Dos, records: &[InputRecord]) {
    let decoded: Vec<_> = records.iter().map(|record| decode(record, Ok(record.value.as_deref().unwrap()))).collect();
    let inputs: Vec<Input> = decoded.iter().map(|decoded| decoded.input.clone()).collect();
    for input in &inputs {
        laws::deciding_again_changes_nothing(dos.clone(), input);
    }
    laws::rows_come_in_any_order(dos.clone(), &inputs);
    laws::what_no_event_reaches_changes_nothing(dos, &inputs);
    laws::a_batch_is_its_events(dos.clone(), &inputs);
    let decisions = dos.clone().batch(&inputs);
    for ((record, decoded), decision) in records.iter().zip(&decoded).zip(&decisions) {
        audit(record, decoded, decision);
        dead_letter(record, decoded, 1 << 20);
        assert!(!decoded.archive().is_some_and(has_staff), "a member Staff is archived");
    }
}
