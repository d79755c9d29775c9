//! Waits between tries: doubling, with jitter, up to a bound.

use std::time::Duration;

/// Exponential back-off; each wait is between half and all of its step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    step: Duration,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, step: first }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.most);
        step.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    pub fn reset(&mut self) {
        self.step = self.first;
    }
}
