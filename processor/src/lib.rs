//! dosi keeps the NHS Directory of Services in step with NHS.uk.
//!
//! # Layout
//!
//! In reading order:
//!
//! - [`domain`]: the rules, pure: what an event means, what differs, what is to be written and reported
//! - [`protocol`]: exactly once, pure: what to do next, given what was answered so far
//! - [`wire`]: what crosses the boundary: change events in, audit records and dead letters out
//! - [`postgres`]: locked reads, set-based writes, positions, outbox, archive
//! - [`kafka`]: consumer thread, transactions, registry, topics
//! - [`pipeline`]: the only place that knows the order of the steps and joins Kafka and PostgreSQL
//! - [`run`], [`position`], [`publish`]: the commands' shells
//! - [`fault_injection`]: defects for tests to find; nothing in a release
//! - [`cli`], [`config`], [`error`], [`telemetry`], [`version`]: settings in, lines and metrics out

pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod fault_injection;
pub mod kafka;
pub mod output;
pub mod pipeline;
pub mod position;
pub mod postgres;
pub mod protocol;
pub mod publish;
pub mod run;
pub mod telemetry;
pub mod version;
pub mod wire;
