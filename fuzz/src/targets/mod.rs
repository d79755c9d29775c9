//! One module for each target.

pub(crate) mod assignment;
pub(crate) mod avro;
pub(crate) mod database_url;
pub(crate) mod events;
pub(crate) mod fields;
pub(crate) mod headers;
pub(crate) mod history;
pub(crate) mod lines;
pub(crate) mod outbox;
pub(crate) mod pending;
mod records;
pub(crate) mod settings;
pub(crate) mod value;

/// A family name in `Staff` of the corpus's events; nothing else in them holds it.
const PLANTED: &str = "Quillfeather";

fn holds_planted(bytes: &[u8]) -> bool {
    bytes.windows(PLANTED.len()).any(|window| window == PLANTED.as_bytes())
}
