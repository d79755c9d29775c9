//! The whole program on real parts: events in a topic, rows in DoS, records read back with a client that is not dosi's.
//! `make test` starts the parts; without them every test here fails and says so.
//!
//! - [`golden`]: what the service that this project replaces did, case by case; the run that others are held against
//! - [`instances`]: two instances, one of which goes; one that is killed before it has published anything
//! - [`england`]: a country, against the core's serial run
//! - [`bad_input`]: what must not stop a partition, each with its exact outcome
//! - [`markers`]: what stands in the log and is no record
//! - [`edges`]: partitions that are added, gaps, large records, retention, two instances with one name, a server that takes no writes
//! - [`faults`], [`outages`]: what the database refuses, parts that go away
//! - [`bounds`]: memory, whatever waits and however large it is; brokers that are slow
//! - [`takeover`]: how soon others go on
//! - [`crashes`]: the process ends before or after each durable step
//! - [`security`]: TLS, passwords, certificates and rights, and the search for what must show nowhere
//! - [`audit_reader`], [`dos_database`]: the tests' own eyes
//! - [`ending`]: what a run left, and what must hold of every run
//! - [`support`], [`support_faults`], [`group`]: runs of dosi on the same events, and where the group stands

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod audit_reader;
mod bad_input;
mod bad_records;
mod bounds;
// The core's own tests have DoS in memory, and the golden cases' words.
#[allow(dead_code, reason = "the core's tests use the rest")]
#[path = "../../processor/tests/rules/support/mod.rs"]
mod core_support;
mod crashes;
mod dos_database;
mod edges;
mod ending;
mod england;
mod faults;
mod golden;
mod group;
mod instances;
mod markers;
mod outages;
mod repair;
mod security;
mod settings;
mod support;
mod support_faults;
mod takeover;
