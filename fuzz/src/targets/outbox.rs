//! Payloads of outbox rows: what can be read is written and read again as the same.

use dosi::postgres::outbox::{decode, encode};

pub(crate) fn run(payload: &[u8]) {
    let Ok(output) = decode(payload) else { return };
    let again = encode(&output);
    assert_eq!(decode(&again).ok(), Some(output));
    assert!(again.len() <= payload.len(), "a number has one shortest form");
}
