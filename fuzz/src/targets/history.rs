//! The stored history of a service: an entry goes in front and no older byte is touched.

use crate::laws;

pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        laws::no_history_is_lost(text);
    }
}
