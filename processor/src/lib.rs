//! dosi keeps the NHS Directory of Services in step with NHS.uk.
//!
//! # Layout
//!
//! In reading order:
//!
//! - [`domain`]: the rules, pure: what an event means, what differs, what is to be written and reported
//! - [`wire`]: what crosses the boundary: change events in, audit records and dead letters out
//! - [`postgres`]: locked reads, set-based writes, positions, outbox, archive
//! - [`cli`], [`config`], [`error`], [`telemetry`], [`version`]: settings in, lines and metrics out

pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod output;
pub mod postgres;
pub mod telemetry;
pub mod version;
pub mod wire;
