//! The rules, pure: no IO, no clock, no async, no logging. Facts in, decisions out.
//!
//! In reading order: [`change_event`] and [`service`] are the two sides; [`matching`] brings them together (section 3),
//! [`diff`] compares them (section 5) by way of one module for each kind of value; [`changes`] names what changes,
//! [`history`] and [`service_update`] tell of it (sections 7, 8); [`batch`] works through several events and draws up
//! what to write (section 6).

pub mod address;
pub mod audit;
pub mod batch;
pub mod change_event;
pub mod changes;
pub mod commissioned_services;
mod decide;
pub mod diff;
mod effects;
mod finish;
pub mod history;
pub mod json;
pub mod london;
pub mod matching;
pub mod ods_code;
pub mod opening_times;
mod pending_changes;
pub mod phone;
pub mod postcode;
pub mod rejection;
pub mod service;
pub mod service_update;
pub mod text;
pub mod website;
pub mod widths;
