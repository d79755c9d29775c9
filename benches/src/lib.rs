//! What the benchmarks and the demo share.
//!
//! # Layout
//!
//! - [`country`]: a made-up country of any size: what DoS holds and what NHS.uk sends
//! - [`metrics`]: what dosi's metrics page says
//! - [`table`]: tables for a terminal
//! - [`scene`]: a country in DoS and a dosi set up for it
//! - [`story`]: what became of one organisation, told from DoS and the audit topic
//! - [`audit_totals`]: what became of all events

pub mod audit_totals;
pub mod metrics;
pub mod scene;
pub mod story;
pub mod table;

pub use dosi_tests::country;
