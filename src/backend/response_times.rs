// Not those that models watch: each is added to on its own, and there is nothing to interleave.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How long a backend took to the heads of its answers, counted since it was created.
///
/// Buckets of fixed, round bounds, so that those of several backends, or of several processes, can be added up. An answer
/// counts whatever it said, and one that did not come in time with the time that it was waited for: leaving out the
/// slowest would make a bad tail look good. What was refused, broken off or given up says nothing about how long answers
/// take.
///
/// ```
/// use std::{sync::Arc, time::{Duration, Instant}};
/// use tower_balancer::backend::{Backend, Lease, Outcome};
///
/// let (backend, now) = (Arc::new(Backend::new("a")), Instant::now());
/// Lease::take(Arc::clone(&backend), now).complete(Outcome::Success, now + Duration::from_millis(3));
/// let times = backend.load().response_times();
/// assert_eq!((times.count(), times.sum()), (1, Duration::from_millis(3)));
/// let (bound, below) = times.cumulative().nth(3).unwrap();
/// assert_eq!((bound, below), (Some(Duration::from_millis(5)), 1));
/// ```
#[derive(Debug, Default)]
pub struct ResponseTimes {
    /// Each without those below it; the last is beyond all bounds.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The bounds in microseconds: a small answer from the next rack is below the first, and whoever waits for longer than the
/// last is gone. Some two to one: finer ones would take more than the two cache lines that these share with the sum.
const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// By the number of binary digits of a time: the first bucket that it may belong to, which is at most two off.
const FIRST: [u8; 65] = {
    let mut first = [0; 65];
    let mut digits = 1;
    while digits <= 64 {
        let least = 1 << (digits - 1);
        let mut bucket = first[digits - 1];
        while (bucket as usize) < BOUNDS.len() && BOUNDS[bucket as usize] < least {
            bucket += 1;
        }
        first[digits] = bucket;
        digits += 1;
    }
    first
};

impl ResponseTimes {
    /// The bounds of the buckets, each the longest time that is in it; beyond the last there is one more bucket.
    pub fn bounds() -> impl Iterator<Item = Duration> {
        BOUNDS.into_iter().map(Duration::from_micros)
    }

    /// Answers in each bucket, not counting those in the buckets below; the last is beyond all bounds.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// Counts all of `others` as well: those of another thread, say.
    pub fn add(&self, others: &Self) {
        for (count, more) in self.counts.iter().zip(others.counts()) {
            count.fetch_add(more, Ordering::Relaxed);
        }
        self.micros.fetch_add(others.micros.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Each bound with the answers that took up to so long; beyond the last bound, `None`, are all.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = Self::bounds().map(Some).chain([None]);
        let below = self.counts().scan(0, |below, count| {
            *below += count;
            Some(*below)
        });
        bounds.zip(below)
    }

    /// How many answers are counted.
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }

    /// Counts one answer more, which took so long. For the times of something else than a backend.
    pub fn record(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        self.counts[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

fn bucket(micros: u64) -> usize {
    let mut bucket = FIRST[(u64::BITS - micros.leading_zeros()) as usize].into();
    while bucket < BOUNDS.len() && BOUNDS[bucket] < micros {
        bucket += 1;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_it_does_not_exceed() {
        let times = (0..3_000).chain(BOUNDS.into_iter().flat_map(|bound| [bound - 1, bound, bound + 1]));
        for micros in times.chain([u64::MAX]) {
            let expected = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
            assert_eq!(bucket(micros), expected, "{micros}");
        }
    }

    #[test]
    fn the_buckets_are_cumulative_and_the_last_has_all() {
        let times = ResponseTimes::default();
        for millis in [0, 1, 2, 700, 60_000] {
            times.record(Duration::from_millis(millis));
        }
        let below: Vec<_> = times.cumulative().map(|(_, below)| below).collect();
        assert_eq!(below, [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5]);
        assert_eq!(times.cumulative().last(), Some((None, times.count())));
        assert_eq!(times.sum(), Duration::from_millis(60_703));
    }

    #[test]
    fn they_share_two_cache_lines_with_their_sum() {
        assert_eq!(size_of::<ResponseTimes>(), 128);
    }
}
