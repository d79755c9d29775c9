//! Exactly once, as decisions without IO (design: exactly once): what is to be done next, given what was answered so far.
//!
//! Two cursors for each partition: the position in the database says what is applied, the group's offset in Kafka what is
//! published; the outbox holds what lies between. Nothing here waits, reads a clock or talks to anybody: the pipeline does
//! what a step says and brings the answer back, and so does the simulation that tries these rules against crashes,
//! lost replies, zombies and a database that loses its last commits.
//!
//! - [`position`]: the two cursors and the log's ends held against each other
//! - [`lane`]: how one partition begins, and begins again
//! - [`applying`]: one hand of events: together, event by event, as a dead letter
//! - [`unpublished`]: what of one partition is applied and not yet published
//! - [`publisher`]: the partitions that an instance serves, and the one Kafka transaction under way for them
//! - [`pace`]: how soon the next one follows

pub mod applying;
pub mod lane;
pub mod pace;
pub mod position;
pub mod publisher;
pub mod unpublished;
