//! Everything that talks to the database: the pool, the set-based reads and writes of a batch's transaction, and the tables
//! of schema `dos_integration`. It knows no Kafka; the order of the steps is the pipeline's.
//!
//! Layout, in reading order:
//! - [`pool`] (with `libpq` and `tls`), [`database`]: settings, sessions, connections on loan
//! - [`errors`]: what a failure means (design: errors)
//! - [`migrations`], [`setup`]: the schema of our own, and whether a database is fit to work on
//! - [`position`]: where each partition stands
//! - [`load`], [`services`]: what decisions are made against, locked and read
//! - [`apply`], [`archive`], [`mail_queue`], [`outbox`]: what a batch leaves behind
//!
//! Promised of every statement: its number does not depend on the batch's size, its plan does not depend on statistics.

pub mod apply;
pub mod archive;
pub mod database;
pub mod errors;
pub mod load;
pub mod mail_queue;
pub mod migrations;
mod opening_times;
pub mod outbox;
pub mod pool;
pub mod position;
pub mod services;
pub mod setup;
mod statement;
mod time_of_day;
mod tls;

pub use deadpool_postgres::{Client, GenericClient, Pool, Transaction};
pub use errors::Fault;

/// What every function here gives back.
pub type Result<T> = std::result::Result<T, Fault>;
