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
//! - [`ground`]: where benchmarks run: parts of their own, and a program set up on a copy of a prepared DoS
//! - [`england`], [`floor`]: England's events, what they leave, and what PostgreSQL alone needs to store that
//! - [`backlog`]: the whole program working off what a topic holds
//! - [`mix`], [`load`]: the usual mix of events, and an open loop that sends it
//! - [`grown`]: a DoS that has grown
//! - [`sink`]: what else one might pick: a generic sink
//! - [`chart`]: line charts as SVG
//! - [`statements`], [`processes`]: what PostgreSQL and the kernel counted meanwhile
//! - [`figures`]: the numbers of several runs and their medians

pub mod audit_totals;
pub mod backlog;
pub mod chart;
pub mod england;
pub mod figures;
pub mod floor;
pub mod ground;
pub mod grown;
pub mod load;
pub mod metrics;
pub mod mix;
pub mod processes;
pub mod scene;
pub mod sink;
pub mod statements;
pub mod story;
pub mod table;

pub use dosi_tests::country;
