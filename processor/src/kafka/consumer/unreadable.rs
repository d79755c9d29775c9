//! Records that the broker has and this client cannot read: of an unknown compression, or damaged. The same fetch fails again and
//! again, and the error does not say on which partition.

use std::time::{Duration, Instant};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use super::Loop;

/// Such a fetch is tried again within a second: one that has not failed for this long has passed.
const PASSED_AFTER: Duration = Duration::from_secs(5);

/// When such an error last came, if it has not passed.
#[derive(Debug, Default)]
pub(super) struct Unreadable(Option<Failed>);

#[derive(Debug)]
struct Failed {
    at: Instant,
    record_came: bool,
}

impl Unreadable {
    /// Whether that is news.
    fn failed(&mut self, now: Instant) -> bool {
        self.0.replace(Failed { at: now, record_came: false }).is_none()
    }

    pub(super) fn record_came(&mut self) {
        if let Some(failed) = &mut self.0 {
            failed.record_came = true;
        }
    }

    /// Whether it has passed since that was last asked: records of other partitions come all the while.
    fn has_passed(&mut self, now: Instant) -> bool {
        let passed = |failed: &mut Failed| failed.record_came && now.duration_since(failed.at) > PASSED_AFTER;
        self.0.take_if(passed).is_some()
    }
}

/// An error that no time mends.
pub(super) fn is_lasting(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{BadCompression, BadMessage, InvalidMessage, NotImplemented};
    matches!(code, NotImplemented | BadCompression | BadMessage | InvalidMessage)
}

impl Loop {
    pub(super) fn cannot_read(&mut self, error: &KafkaError) {
        if self.unreadable.failed(Instant::now()) {
            let line = format!("a partition has records that cannot be read, and waits before them: {error}");
            self.context().partitions.unreadable(Some(line));
        }
    }

    pub(super) fn tell_readable(&mut self) {
        if self.unreadable.has_passed(Instant::now()) {
            self.context().partitions.unreadable(None);
        }
    }

    /// A partition begins anew, perhaps behind those records, or has come in place of theirs: if not, the next fetch says so.
    pub(super) fn forget_unreadable(&mut self) {
        if self.unreadable.0.take().is_some() {
            self.context().partitions.unreadable(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_passes_with_a_record_after_which_no_fetch_fails() {
        let mut unreadable = Unreadable::default();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        unreadable.record_came();
        assert!(!unreadable.has_passed(after(100)), "it never failed");
        assert!(unreadable.failed(after(100)));
        assert!(!unreadable.failed(after(101)));
        assert!(!unreadable.has_passed(after(110)), "nothing has come");
        unreadable.record_came();
        assert!(!unreadable.failed(after(111)), "of another partition");
        assert!(!unreadable.has_passed(after(120)), "nothing has come since");
        unreadable.record_came();
        assert!(!unreadable.has_passed(after(116)));
        assert!(unreadable.has_passed(after(117)));
        assert!(!unreadable.has_passed(after(118)), "told already");
        assert!(unreadable.failed(after(119)), "news again");
    }
}
