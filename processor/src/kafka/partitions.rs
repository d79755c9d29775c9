//! Whom the consumer thread works for.

use std::collections::HashMap;

use crate::wire::record::InputRecord;

/// Whether a partition may be handed more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Plenty,
    /// Nothing more is to be fetched; what has been may still come, for it would have to be fetched again.
    Little,
    None,
}

/// What the consumer thread tells the pipeline. Every method is called on that thread.
pub trait Partitions: Send + Sync + 'static {
    /// Where these partitions are to begin, as far as that can be told within 2 s.
    fn positions(&self, partitions: &[i32]) -> HashMap<i32, i64>;
    /// The partitions, if any, are assigned and paused until [`super::consumer::ConsumerHandle::begin`].
    fn assigned(&self, partitions: &[i32]);
    /// The partitions are about to go: stop their work within 5 s.
    fn revoked(&self, partitions: &[i32]);
    /// From here on `record` delivers what follows `offset` of the last [`super::consumer::ConsumerHandle::begin`].
    fn begun(&self, partition: i32, life: u64);
    /// Takes a record, and says what room is left then.
    fn record(&self, record: InputRecord) -> Room;
    /// Whether a partition that was told to have little room or none has plenty again.
    fn has_room(&self, partition: i32) -> bool;
    /// Nothing came for a while ([`super::consumer::QUIET`]); everything below `offset` has been delivered.
    fn quiet_end(&self, partition: i32, offset: i64);
    /// The broker refused an offset as outside of a log, it does not say whose.
    fn offset_out_of_range(&self);
    /// Records behind the last stable offset of the partition that are not yet handed over.
    fn lag(&self, partition: i32, end: i64);
    fn brokers_reachable(&self, reachable: bool);
    /// The brokers no longer let this client do what it must: a right or a password was taken away, a certificate is out of date.
    fn refused(&self, line: String);
    /// Some partition has records that cannot be read, whatever time passes; `None` when that is over.
    fn unreadable(&self, line: Option<String>);
    /// The broker does not know the topic: nothing can go on, and no offset of it may be committed any more.
    fn topic_gone(&self, line: String);
    /// Nothing can go on.
    fn fatal(&self, line: String);
}
