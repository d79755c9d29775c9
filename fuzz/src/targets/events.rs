//! Whole events against a whole DoS. An input's bytes are the choices of the generators that the properties of the core use
//! too, so that the engine varies events and rows and not their spelling.

use dosi::{domain::batch::Input, wire::change_event::decode};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use super::records::{audit, dead_letter};
use crate::support::{
    dos::Dos,
    examples::event_with,
    generators::{FIELDS, any_json, dos, event},
    golden_form::record,
    laws,
};

/// Needed bytes of a usual choice of everything.
const BYTES_MIN: usize = 16;

pub(crate) fn run(data: &[u8]) {
    if data.len() < BYTES_MIN {
        return;
    }
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::PassThrough, data));
    let any_field = (select(FIELDS), any_json()).prop_map(|(field, value)| event_with(json!({field: value})));
    let events = vec(prop_oneof![3 => event(), 1 => any_field], 1..4);
    let Ok((dos, events)) = (dos(), events).new_tree(&mut runner).map(|tree| tree.current()) else { return };
    check(&dos, &events);
}

fn check(dos: &Dos, events: &[Value]) {
    let records: Vec<_> = events
        .iter()
        .zip(1..)
        .map(|(event, number)| record(event.to_string().as_bytes(), &number.to_string()))
        .collect();
    let decoded: Vec<_> = records.iter().map(|record| decode(record, Ok(record.value.as_deref().unwrap()))).collect();
    let inputs: Vec<Input> = decoded.iter().map(|decoded| decoded.input.clone()).collect();
    for input in &inputs {
        laws::deciding_again_changes_nothing(dos.clone(), input);
    }
    laws::rows_come_in_any_order(dos.clone(), &inputs);
    laws::a_batch_is_its_events(dos.clone(), &inputs);
    let decisions = dos.clone().batch(&inputs);
    for ((record, decoded), decision) in records.iter().zip(&decoded).zip(&decisions) {
        audit(record, decoded, decision);
        dead_letter(record, decoded, 1 << 20);
    }
}
