use super::{HealthChecker, pace::Intervals, streak::Thresholds};
use crate::backend::Backend;
use std::time::{Duration, Instant};

/// Short enough that an outage is seen within seconds, long enough that the checks are no load.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// While something is not settled, an answer is worth a few more questions.
pub const DEFAULT_FAST_INTERVAL: Duration = Duration::from_secs(1);

/// A server that takes longer than this for its health page is not one to send users to.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// Few enough that a large pool costs no burst of connections, many enough that silent backends hold up nobody.
pub const DEFAULT_CONCURRENCY: usize = 64;

/// Enough that backends, and processes, do not stay in step.
pub const DEFAULT_JITTER: f64 = 0.1;

/// How a checker checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) intervals: Intervals,
    pub(super) timeout: Duration,
    pub(super) thresholds: Thresholds,
    pub(super) concurrency: usize,
    pub(super) seed: Option<u64>,
    out_until_checked: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            intervals: Intervals::new(DEFAULT_INTERVAL, DEFAULT_FAST_INTERVAL, DEFAULT_JITTER),
            timeout: DEFAULT_TIMEOUT,
            thresholds: Thresholds { healthy: 1, unhealthy: 1 },
            concurrency: DEFAULT_CONCURRENCY,
            seed: None,
            out_until_checked: false,
        }
    }
}

impl Settings {
    /// Takes out a backend of which nobody has said anything yet, where that is wanted.
    pub(super) fn seclude(&self, backend: &Backend, now: Instant) {
        if self.out_until_checked && backend.health().cause().is_none() {
            backend.mark_unhealthy("not checked yet", now);
        }
    }
}

impl<T, P> HealthChecker<T, P> {
    /// The time from the start of one check of a backend to the start of its next, by default 5 s. From 1 ms, which is what 0
    /// counts as, to a year. A check that takes longer delays the next.
    pub fn interval(self, interval: Duration) -> Self {
        self.intervals(|intervals| intervals.steady(interval))
    }

    /// The interval while something is not settled, by default 1 s: results have begun to contradict a backend's state and
    /// are too few yet to change it, something other than this checker has taken it out, or it has failed no more than five
    /// checks in a row and may be restarting. From 1 ms, which is what 0 counts as; more than the
    /// [`interval`](Self::interval) counts as that.
    pub fn fast_interval(self, interval: Duration) -> Self {
        self.intervals(|intervals| intervals.fast(interval))
    }

    /// The longest interval for a backend that has failed 10 checks in a row, by default six times the
    /// [`interval`](Self::interval), so 30 s: from then on each is twice as long as the one before, up to this. One check that
    /// passes ends it, and while no backend is in, all are asked at the interval. Anything up to the interval, 0 among it,
    /// turns it off; more than a year counts as that.
    pub fn down_interval(self, interval: Duration) -> Self {
        self.intervals(|intervals| intervals.down(interval))
    }

    /// The share of an interval by which it is longer or shorter at random, by default 0.1, for ±10 %. From 0.0 to 1.0; what
    /// is outside counts as the nearer of the two. With 0.0 nothing is left to chance: every checker of the same pool asks at
    /// the same times.
    pub fn jitter(self, share: f64) -> Self {
        self.intervals(|intervals| intervals.jitter(share))
    }

    /// Where the chance of [`jitter`](Self::jitter) comes from, by default another number in each run: the same seed makes the
    /// same intervals.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// The time that one backend has for its answer, by default 3 s. Silence beyond it is a failure. With 0 only an answer
    /// that is there at once is one.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How many checks in a row a backend that is in must fail to be taken out, by default 1; 0 counts as 1. The first result
    /// of a backend counts by itself.
    pub fn unhealthy_threshold(mut self, results: u32) -> Self {
        self.settings.thresholds.unhealthy = results.max(1);
        self
    }

    /// How many checks in a row a backend that is out must pass to be put in, by default 1; 0 counts as 1. The first result
    /// of a backend counts by itself.
    pub fn healthy_threshold(mut self, results: u32) -> Self {
        self.settings.thresholds.healthy = results.max(1);
        self
    }

    /// How many checks are under way at once, by default 64; 0 counts as 1. Beyond that, who has been due for longest goes
    /// first.
    pub fn concurrency(mut self, checks: usize) -> Self {
        self.settings.concurrency = checks.max(1);
        self
    }

    /// Keeps a backend out until its first check has passed, from the moment that the run knows of it. By default a new one is
    /// in, as if it were well. A backend about which something was observed before keeps its state.
    pub fn out_until_checked(mut self) -> Self {
        self.settings.out_until_checked = true;
        self
    }

    fn intervals(mut self, change: impl FnOnce(Intervals) -> Intervals) -> Self {
        self.settings.intervals = change(self.settings.intervals);
        self
    }
}
