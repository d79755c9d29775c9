//! How soon one Kafka transaction follows another.

use std::time::Duration;

/// From the start of one transaction to the start of the next: each costs the broker markers in all partitions it wrote to.
const INTERVAL: Duration = Duration::from_millis(60);
/// The same while a backlog is worked off: fewer transactions leave it more of the processors.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(250);
/// Events a second of a backlog.
const BACKLOG_RATE: f64 = 1_000.0;

/// A reading over more than two of a backlog's intervals says enough by itself.
const LONG: Duration = BACKLOG_INTERVAL.saturating_mul(2);

/// Two transactions running say whether there is a backlog. One may hold what a pause has held up, or what comes between two
/// large batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    were_many: bool,
    is_backlog: bool,
}

impl Pace {
    /// A transaction of so many events began so long `after` the one before.
    pub fn transaction(&mut self, events: usize, after: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let are_many = events as f64 / after.max(INTERVAL).as_secs_f64() >= BACKLOG_RATE;
        if are_many == self.were_many || after > LONG {
            self.is_backlog = are_many;
        }
        self.were_many = are_many;
    }

    /// From the start of the last transaction to the start of the next.
    pub fn interval(self) -> Duration {
        if self.is_backlog { BACKLOG_INTERVAL } else { INTERVAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 1_000;

    fn interval(pace: &mut Pace, events: usize, after: Duration) -> Duration {
        pace.transaction(events, after);
        pace.interval()
    }

    #[test]
    fn two_transactions_running_begin_and_end_a_backlog() {
        let mut pace = Pace::default();
        let intervals =
            [1, MANY, 1, MANY, MANY, 1, MANY, 1, 1, MANY].map(|events| interval(&mut pace, events, INTERVAL));
        let [short, long] = [INTERVAL, BACKLOG_INTERVAL];
        assert_eq!(intervals, [short, short, short, short, long, long, long, long, short, short]);
    }

    #[test]
    fn a_backlog_does_not_outlive_a_rest() {
        let mut pace = Pace::default();
        let rest = Duration::from_secs(3600);
        let intervals = [(MANY, INTERVAL), (MANY, INTERVAL), (1, rest), (1, INTERVAL)]
            .map(|(events, after)| interval(&mut pace, events, after));
        assert_eq!(intervals, [INTERVAL, BACKLOG_INTERVAL, INTERVAL, INTERVAL]);
    }

    #[test]
    fn events_count_by_the_time_in_which_they_came() {
        for (events, after, expected) in [
            (250, 250, BACKLOG_INTERVAL),
            (249, 250, INTERVAL),
            (60, 0, BACKLOG_INTERVAL),
            (59, 0, INTERVAL),
            (MANY, 3_600_000, INTERVAL),
        ] {
            let (mut pace, after) = (Pace::default(), Duration::from_millis(after));
            interval(&mut pace, events, after);
            assert_eq!(interval(&mut pace, events, after), expected, "{events} in {after:?}");
        }
    }
}
