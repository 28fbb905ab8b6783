use super::{Moment, Outcome};
use crate::{
    ewma::{blend, decay},
    sync::{AtomicU64, Ordering},
};
use std::time::Duration;

/// How many samples the averages remember: enough that one odd request in a hundred does not show, few enough that a
/// backend that turns slow is known after a dozen answers.
const MEMORY: u64 = 20;

/// Finagle's time constant for the peak-sensitive average: a peak is forgotten over tens of seconds, not over requests.
const PEAK_TAU: f64 = 10.0;

/// The peak, in seconds, that a failure counts as.
const FAILURE_PEAK: f64 = 1.0;

/// What completed and open requests say about how fast a backend is.
///
/// A fast failure must not make a backend look fast, so only answers count as samples of the latency, and failures are
/// an average of their own. A request that timed out took at least as long as it did. One that was cancelled says
/// nothing once it is gone; while it is open its age counts like every other's.
#[derive(Debug, Default)]
pub struct Latency {
    mean: Average,
    peak: Average,
    faults: Average,
    /// The start times of all open requests, added up modulo 2^64.
    started: AtomicU64,
}

impl Latency {
    /// The mean latency of about the last 20 answers.
    pub fn mean(&self, now: Moment) -> Option<Sampled> {
        self.mean.read(now)
    }

    /// The peak-sensitive average of Finagle's Peak EWMA: it jumps to a sample above it and otherwise closes in on
    /// samples by the time that has passed, with a time constant of 10 s. In seconds, as it has decayed by `now`.
    pub fn peak(&self, now: Moment) -> Option<f64> {
        self.peak.read(now).map(|peak| peak.value * decay(peak.idle, PEAK_TAU))
    }

    /// The share of about the last 20 requests that failed for the backend's fault, from 0 to 1.
    pub fn faults(&self, now: Moment) -> Option<Sampled> {
        self.faults.read(now)
    }

    /// How long ago, on average, the `in_flight` open requests were started.
    pub(super) fn mean_age(&self, in_flight: u32, now: Moment) -> Duration {
        let Some(n) = u64::from(in_flight).checked_sub(1).map(|n| n + 1) else { return Duration::ZERO };
        // Counting and adding are two steps: between them the sum may be off by one request, in either direction.
        let sum = now.micros().wrapping_mul(n).wrapping_sub(self.started.load(Ordering::Relaxed));
        Duration::from_micros(if sum > u64::MAX / 2 { 0 } else { sum / n })
    }

    pub(super) fn begin(&self, now: Moment) {
        self.started.fetch_add(now.micros(), Ordering::Relaxed);
    }

    pub(super) fn end(&self, started: Moment) {
        self.started.fetch_sub(started.micros(), Ordering::Relaxed);
    }

    /// Takes in how one of `completed` requests went.
    pub(super) fn record(&self, outcome: Outcome, took: Duration, completed: u64, now: Moment) {
        // The first samples are averaged evenly: the very first one is not worth twenty.
        let weight = 1.0 / (completed + 1).min(MEMORY) as f64;
        let took = took.as_secs_f64();
        match outcome {
            Outcome::Cancelled => return,
            Outcome::Success | Outcome::ClientFault => {
                self.mean.update(now, |seen| seen.map_or(took, |mean| blend(mean.value, took, weight)));
                self.peak.update(now, |seen| match seen {
                    Some(Sampled { value, idle }) if took < value => blend(took, value, decay(idle, PEAK_TAU)),
                    _ => took,
                });
            }
            Outcome::Timeout => {
                self.mean.update(now, |seen| seen.map_or(took, |mean| blend(mean.value, took.max(mean.value), weight)));
                self.peak.update(now, |seen| seen.map_or(took, |peak| took.max(peak.value)));
            }
            // Not the short time that it took, which would attract the next one.
            _ => self.peak.update(now, |seen| {
                seen.map_or(FAILURE_PEAK, |peak| FAILURE_PEAK.max(peak.value * decay(peak.idle, PEAK_TAU)))
            }),
        }
        let fault = f64::from(u8::from(outcome.is_fault()));
        self.faults.update(now, |seen| seen.map_or(fault, |faults| blend(faults.value, fault, weight)));
    }
}

/// An average, and how long ago it was last changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// The average: seconds, or a share.
    pub value: f64,
    /// Seconds since the last sample.
    pub idle: f64,
}

/// An average and the time of its last sample in one word, so that no reader sees one without the other: an `f32`, and
/// milliseconds modulo 2^32. Zero is no sample yet.
#[derive(Debug, Default)]
struct Average(AtomicU64);

impl Average {
    fn read(&self, now: Moment) -> Option<Sampled> {
        unpack(self.0.load(Ordering::Relaxed), now.millis())
    }

    /// Of two updates at the same moment one may be lost: a sample more or less does not show in an average, and a plain
    /// store costs a fraction of an exchange.
    fn update(&self, now: Moment, next: impl Fn(Option<Sampled>) -> f64) {
        let now = now.millis();
        let seen = unpack(self.0.load(Ordering::Relaxed), now);
        self.0.store(pack(next(seen), now), Ordering::Relaxed);
    }
}

fn pack(value: f64, now: u32) -> u64 {
    // A value of exactly zero at time zero would be no sample; the sign bit is free to tell them apart.
    u64::from((-(value as f32).abs()).to_bits()) << 32 | u64::from(now)
}

fn unpack(word: u64, now: u32) -> Option<Sampled> {
    let (value, then) = ((word >> 32) as u32, word as u32);
    let idle = now.wrapping_sub(then);
    // Threads read their clocks in their own order: a sample from a moment ahead is not 49 days old.
    let idle = if idle > u32::MAX / 2 { 0.0 } else { f64::from(idle) / 1_000.0 };
    (word != 0).then(|| Sampled { value: f64::from(f32::from_bits(value).abs()), idle })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn clock() -> impl Fn(f64) -> Moment {
        let start = Instant::now();
        move |seconds| Moment::of(start + Duration::from_secs_f64(seconds))
    }

    fn near(measured: f64, expected: f64) -> bool {
        (measured - expected).abs() < 1e-3 * expected.abs().max(1e-3)
    }

    #[test]
    fn the_mean_takes_the_first_samples_evenly_and_remembers_about_twenty() {
        let (latency, at) = (Latency::default(), clock());
        assert_eq!(latency.mean(at(0.0)), None);
        for (completed, millis) in [10, 20, 30].into_iter().enumerate() {
            latency.record(Outcome::Success, Duration::from_millis(millis), completed as u64, at(1.0));
        }
        assert!(near(latency.mean(at(1.0)).unwrap().value, 0.020));
        for completed in 3..200 {
            latency.record(Outcome::ClientFault, Duration::from_millis(50), completed, at(2.0));
        }
        let mean = latency.mean(at(5.0)).unwrap();
        assert!(near(mean.value, 0.050) && near(mean.idle, 3.0), "{mean:?}");
    }

    #[test]
    fn a_failure_is_no_sample_of_the_latency_and_a_timeout_only_of_more() {
        let (latency, at) = (Latency::default(), clock());
        latency.record(Outcome::Success, Duration::from_millis(100), 0, at(1.0));
        latency.record(Outcome::BackendFault, Duration::from_millis(1), 1, at(1.0));
        latency.record(Outcome::Timeout, Duration::from_millis(50), 2, at(1.0));
        latency.record(Outcome::Cancelled, Duration::from_secs(9), 3, at(1.0));
        assert!(near(latency.mean(at(1.0)).unwrap().value, 0.100));
        assert!(near(latency.faults(at(1.0)).unwrap().value, 2.0 / 3.0));
        latency.record(Outcome::Timeout, Duration::from_secs(1), 3, at(1.0));
        assert!(near(latency.mean(at(1.0)).unwrap().value, 0.325));
    }

    #[test]
    fn the_peak_jumps_up_and_decays_as_finagle_has_it() {
        let (latency, at) = (Latency::default(), clock());
        latency.record(Outcome::Success, Duration::from_secs(1), 0, at(1.0));
        for (seconds, left) in [(1.0, 0.905), (5.0, 0.607), (10.0, 0.368), (23.0, 0.100)] {
            assert!((latency.peak(at(1.0 + seconds)).unwrap() - left).abs() < 1e-3, "{seconds}");
        }
        latency.record(Outcome::Success, Duration::ZERO, 1, at(11.0));
        assert!((latency.peak(at(11.0)).unwrap() - 0.368).abs() < 1e-3);
        latency.record(Outcome::Success, Duration::from_secs(3), 2, at(11.0));
        assert!(near(latency.peak(at(11.0)).unwrap(), 3.0));
    }

    #[test]
    fn open_requests_show_their_age() {
        let (latency, at) = (Latency::default(), clock());
        assert_eq!(latency.mean_age(0, at(9.0)), Duration::ZERO);
        latency.begin(at(1.0));
        latency.begin(at(3.0));
        assert_eq!(latency.mean_age(2, at(4.0)), Duration::from_secs(2));
        latency.end(at(1.0));
        assert_eq!(latency.mean_age(1, at(4.0)), Duration::from_secs(1));
        // Caught between the count and the sum: no age rather than a wrong one.
        assert_eq!(latency.mean_age(0, at(4.0)), Duration::ZERO);
        latency.end(at(3.0));
    }

    #[test]
    fn odd_times_are_harmless() {
        let (latency, at) = (Latency::default(), clock());
        latency.record(Outcome::Success, Duration::MAX, 0, at(5.0));
        latency.record(Outcome::Success, Duration::ZERO, 1, at(4.0));
        let mean = latency.mean(at(3.0)).unwrap();
        assert!(mean.value.is_finite() && mean.idle == 0.0, "{mean:?}");
        assert_eq!(Latency::default().peak(at(0.0)), None);
    }
}
