//! Fuzz targets: everything that reads bytes from outside, each with what must hold for any input.
//!
//! `make fuzz` drives them by coverage; `tests/corpus.rs` tries every kept input in `make test`. A target panics when a law is
//! broken. Inputs in `corpus/NAME` begin as something valid of its kind; a finding is kept there under the name of its fault.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a target fails by panicking")]

#[path = "../../processor/tests/rules/generators.rs"]
mod generators;
#[path = "../../processor/tests/rules/laws.rs"]
mod laws;
mod mutation;
#[expect(dead_code, reason = "the tests of the core need more of it")]
#[path = "../../processor/tests/rules/support/mod.rs"]
mod support;
mod targets;

pub use mutation::mutated_json;

/// One parser, or one family of them, with its laws.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The folder of its corpus.
    pub name: &'static str,
    /// Panics when a law is broken.
    pub run: fn(&[u8]),
    /// Its inputs are JSON, which is also varied part by part.
    pub is_json: bool,
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target { name: "value", run: targets::value::run, is_json: true },
    Target { name: "avro", run: targets::avro::run, is_json: false },
    Target { name: "headers", run: targets::headers::run, is_json: false },
    Target { name: "events", run: targets::events::run, is_json: false },
    Target { name: "fields", run: targets::fields::run, is_json: false },
    Target { name: "history", run: targets::history::run, is_json: true },
    Target { name: "pending", run: targets::pending::run, is_json: true },
    Target { name: "outbox", run: targets::outbox::run, is_json: false },
    Target { name: "assignment", run: targets::assignment::run, is_json: false },
    Target { name: "lines", run: targets::lines::run, is_json: true },
    Target { name: "database-url", run: targets::database_url::run, is_json: false },
    Target { name: "settings", run: targets::settings::run, is_json: false },
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
