//! How long the partitions of a dead instance stand still.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What was committed before the death may show a moment after it.
const SETTLED_AFTER: Duration = Duration::from_millis(200);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// Positions by partition.
pub type Positions = BTreeMap<i32, i64>;

/// One death, being watched.
#[derive(Clone, Debug)]
pub struct Takeover {
    died_at: Instant,
    owned: Vec<i32>,
    /// Where the dead one's partitions stood.
    stood: Option<Positions>,
}

impl Takeover {
    pub fn begin(owned: Vec<i32>) -> Self {
        Self { died_at: Instant::now(), owned, stood: None }
    }

    /// The time from the death until the last of the partitions went on, as soon as all have.
    pub fn look(&mut self, positions: &Positions) -> Option<Duration> {
        let elapsed = self.died_at.elapsed();
        if elapsed < SETTLED_AFTER {
            return None;
        }
        let stood = self.stood.get_or_insert_with(|| positions.clone());
        let goes_on = |partition| positions.get(partition) > stood.get(partition);
        self.owned.iter().all(goes_on).then_some(elapsed)
    }

    pub fn is_given_up(&self) -> bool {
        self.died_at.elapsed() > GIVEN_UP_AFTER
    }
}
