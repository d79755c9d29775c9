//! What tests, benchmarks and the demo share: real parts to run against, and independent eyes to look at them with.
//!
//! # Layout
//!
//! - [`stack`]: PostgreSQL, Kafka and the schema registry, started as processes and stopped again
//! - [`program`]: the `dosi` binary as a child process
//! - [`golden_form`]: services, locations and events in the JSON form of the golden cases
//! - [`dos`]: DoS databases: made, loaded from that form, and read back into it
//! - [`topics`]: topics made and events produced
//! - [`by_hand`]: a record that no client library sends
//! - [`audit`]: topics read back with a client that is not the one dosi writes with
//! - [`group`]: where a group and the log of its topic stand
//! - [`country`]: a made-up country of any size: what DoS holds and what NHS.uk sends
//! - [`serial`]: what the core makes of events one after the other, to hold a run against
//! - [`sample`]: one event and the part of DoS that it concerns, for what the core costs
//! - [`chaos`]: the fault harness
//! - [`http`]: GET and POST, nothing more
//! - [`planted`]: personal data and secrets that are planted, and the search for them in all that dosi leaves behind

pub mod audit;
pub mod by_hand;
pub mod chaos;
pub mod country;
pub mod dos;
pub mod golden_form;
pub mod group;
pub mod http;
pub mod planted;
pub mod program;
pub mod sample;
pub mod serial;
pub mod stack;
pub mod topics;
