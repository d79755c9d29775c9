//! dosi keeps the NHS Directory of Services in step with NHS.uk.
//!
//! # Layout
//!
//! In reading order:
//!
//! - [`domain`]: the rules, pure: what an event means, what differs, what is to be written and reported
//! - [`wire`]: what crosses the boundary: change events in, audit records and dead letters out

pub mod domain;
pub mod wire;
