use crate::rng::Rng;
use std::time::Duration;

/// How long a backend is out for what traffic has found: `base` the first time, twice as long each time in a row, up to
/// `cap`; a fifth more or less by chance, so that those that went together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first time, 5 s by default; a millisecond at least.
    pub base: Duration,
    /// At most, 300 s by default; a year in any case.
    pub cap: Duration,
}

/// Shorter than this is no time to be out, and longer no time that a clock can add.
const LEAST: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_secs(365 * 86_400);

impl Backoff {
    /// The first length, without chance.
    pub(super) fn base(self) -> Duration {
        self.base.min(self.cap).clamp(LEAST, MOST)
    }

    /// The length after `before` others in a row.
    pub(crate) fn length(self, before: u32, seed: u64) -> Duration {
        let doubled = self.base.saturating_mul(1_u32 << before.min(31)).min(self.cap).clamp(LEAST, MOST);
        doubled.mul_f64(0.8 + 0.4 * Rng::new(seed ^ u64::from(before)).unit())
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(5), cap: Duration::from_secs(300) }
    }
}
