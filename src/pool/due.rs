use crate::{
    backend::Moment,
    sync::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

/// When time alone will change a backend of the pool. Nobody waits for that moment: the first request after it lets the
/// time pass, so that a pool needs no task of its own.
#[derive(Debug)]
pub(super) struct Due(AtomicU64);

impl Due {
    /// Something is due at `when`, if not before.
    pub(super) fn at(&self, when: Moment) {
        self.0.fetch_min(when.micros(), Ordering::Relaxed);
    }

    /// Nothing is; whoever says so looks at everything anew.
    pub(super) fn clear(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }

    /// Whether something is due by `now`. One load where nothing is due at all.
    pub(super) fn by(&self, now: Instant) -> bool {
        let due = self.0.load(Ordering::Relaxed);
        due != u64::MAX && Moment::of(now).micros() >= due
    }

    /// The time from `now` until something is due.
    pub(super) fn after(&self, now: Moment) -> Option<Duration> {
        let due = self.0.load(Ordering::Relaxed);
        (due != u64::MAX).then(|| Duration::from_micros(due.saturating_sub(now.micros())))
    }
}

impl Default for Due {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}
