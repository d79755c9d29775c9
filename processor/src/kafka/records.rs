//! Records as librdkafka hands them over, made into plain values.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rdkafka::{
    Message,
    message::{BorrowedHeaders, BorrowedMessage, Headers as _},
};

use crate::wire::record::{Headers, InputRecord};

thread_local! {
    static READING_A_HEADER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is at a call that may panic because of what a record holds, and where the panic is caught.
pub fn may_panic() -> bool {
    READING_A_HEADER.get()
}

/// A record with everything that outlives the message.
pub(super) fn read(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> InputRecord {
    InputRecord {
        topic: Arc::clone(topic),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: message.headers().map_or_else(Vec::new, headers),
    }
}

/// All headers but those whose name is not UTF-8: the client library panics there, and no reader of ours could name them.
/// One such record must not end the process, and the next owner's, and so on.
fn headers(headers: &BorrowedHeaders) -> Headers {
    READING_A_HEADER.set(true);
    let read = (0..headers.count())
        .filter_map(|index| {
            let header = catch_unwind(AssertUnwindSafe(|| {
                let header = headers.get(index);
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            }));
            header.map_err(|_| tracing::warn!("a header whose name is not UTF-8 is left out")).ok()
        })
        .collect();
    READING_A_HEADER.set(false);
    read
}
