use crate::{
    backend::Moment,
    sync::{AtomicU32, AtomicU64, Ordering},
};
use std::time::Duration;

/// How long the requests of the last ten to twenty seconds took, to a fifth of each value.
///
/// Two halves: one is written while the other is ten seconds old at most; then the older one is cleared and written. What
/// two threads lose between them as the halves change does not matter.
#[derive(Debug)]
pub(super) struct Histogram {
    halves: [Half; 2],
    /// The last answer to [`quantile`](Self::quantile), and when it was worked out: microseconds below, tenths of a second above.
    cached: AtomicU64,
}

#[derive(Debug)]
struct Half {
    /// Which ten seconds these are.
    turn: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

/// Four to each doubling, from a microsecond to an hour.
const BUCKETS: usize = 32 * 4;
const TURN: u64 = 10_000_000;
const MICROS: u64 = (1 << 40) - 1;

impl Histogram {
    pub(super) fn new() -> Self {
        let half = || Half { turn: AtomicU64::new(0), counts: [const { AtomicU32::new(0) }; BUCKETS] };
        Self { halves: [half(), half()], cached: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, took: Duration, now: Moment) {
        let turn = now.micros() / TURN;
        let half = &self.halves[(turn % 2) as usize];
        // Mostly it is the same, and then nobody writes what all read.
        if half.turn.load(Ordering::Relaxed) != turn && half.turn.swap(turn, Ordering::Relaxed) != turn {
            half.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
        half.counts[bucket(took.as_micros() as u64)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time within which that part of the requests was answered; `None` while there were fewer than `least`. Worked out
    /// anew ten times a second.
    pub(super) fn quantile(&self, part: f64, least: u32, now: Moment) -> Option<Duration> {
        let tenth = now.micros() / 100_000 + 1;
        let cached = self.cached.load(Ordering::Relaxed);
        let micros = if cached >> 40 == tenth & 0xff_ffff {
            cached & MICROS
        } else {
            let micros = self.work_out(part, least, now).unwrap_or(0).min(MICROS);
            self.cached.store((tenth & 0xff_ffff) << 40 | micros, Ordering::Relaxed);
            micros
        };
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    fn work_out(&self, part: f64, least: u32, now: Moment) -> Option<u64> {
        let turn = now.micros() / TURN;
        let recent = |half: &&Half| turn - half.turn.load(Ordering::Relaxed).min(turn) <= 1;
        let mut counts = [0_u32; BUCKETS];
        for half in self.halves.iter().filter(recent) {
            for (sum, count) in counts.iter_mut().zip(&half.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        let all: u32 = counts.iter().sum();
        if all < least.max(1) {
            return None;
        }
        let rank = (f64::from(all) * part) as u32;
        let mut below = 0;
        let found = counts.iter().position(|count| {
            below += count;
            below > rank
        });
        Some(upper_end(found.unwrap_or(BUCKETS - 1)))
    }
}

/// Two bits below the leading one.
fn bucket(micros: u64) -> usize {
    let micros = micros.max(4);
    let log = micros.ilog2();
    let quarter = (micros >> (log - 2)) & 3;
    ((log as usize - 2) * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The first value that is above a bucket.
fn upper_end(bucket: usize) -> u64 {
    let (log, quarter) = (bucket / 4, bucket as u64 % 4);
    (4 + quarter + 1) << log
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_bucket_holds_what_is_below_its_end_and_not_below_the_one_before() {
        for micros in (4..100_000).chain([1 << 30, (1 << 33) - 1]) {
            let bucket = bucket(micros);
            assert!(micros < upper_end(bucket) && (bucket == 0 || micros >= upper_end(bucket - 1)), "{micros}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn a_quantile_is_right_to_a_fifth_and_forgets() {
        let (histogram, start) = (Histogram::new(), origin());
        let at = |millis: u64| Moment::of(start + Duration::from_millis(millis));
        for request in 1..=99 {
            histogram.record(Duration::from_millis(request), at(0));
        }
        assert_eq!(histogram.quantile(0.95, 100, at(0)), None);
        histogram.record(Duration::from_millis(100), at(0));
        // What was worked out a moment ago stands for a tenth of a second.
        assert_eq!(histogram.quantile(0.95, 100, at(0)), None);
        let p95 = histogram.quantile(0.95, 100, at(200)).unwrap();
        assert!((95..=115).contains(&p95.as_millis()), "{p95:?}");
        assert_eq!(histogram.quantile(0.95, 100, at(25_000)), None);
    }
}
