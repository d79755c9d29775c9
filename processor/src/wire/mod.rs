//! What crosses the program's boundary: records in, records out.

pub mod audit;
pub mod avro_event;
pub mod change_event;
pub mod dead_letter;
pub mod headers;
pub mod record;
pub mod redaction;
