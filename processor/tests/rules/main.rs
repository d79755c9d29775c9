//! The core, tried from outside: events in, rows and reports out, against a DoS in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod batches;
mod comparing;
mod generators;
mod golden;
mod histories;
mod laws;
mod matching;
mod pending;
mod properties;
mod sequence;
mod specified;
mod support;
