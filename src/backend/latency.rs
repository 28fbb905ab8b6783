use super::Outcome;
use crate::{
    ewma::{blend, decay},
    sync::{AtomicU64, Ordering},
};
use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How many samples the averages remember: enough that one odd request in a hundred does not show, few enough that a
/// backend that turns slow is known after a dozen answers.
const MEMORY: u64 = 20;

/// Finagle's time constant for the peak-sensitive average: a peak is forgotten over tens of seconds, not over requests.
const PEAK_TAU: Duration = Duration::from_secs(10);

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
    pub fn mean(&self, now: Instant) -> Option<Sampled> {
        self.mean.read(now)
    }

    /// The peak-sensitive average of Finagle's Peak EWMA: it jumps to a sample above it and otherwise closes in on
    /// samples by the time that has passed, with a time constant of 10 s. Read as it has decayed by `now`.
    pub fn peak(&self, now: Instant) -> Option<Duration> {
        let Sampled { value, idle } = self.peak.read(now)?;
        Some(Duration::from_secs_f64(value * decay(idle, PEAK_TAU.as_secs_f64())))
    }

    /// The share of about the last 20 requests that failed for the backend's fault, from 0 to 1.
    pub fn faults(&self, now: Instant) -> Option<Sampled> {
        self.faults.read(now)
    }

    /// How long ago, on average, the `in_flight` open requests were started.
    pub(super) fn mean_age(&self, in_flight: u32, now: Instant) -> Duration {
        let Some(n) = u64::from(in_flight).checked_sub(1).map(|n| n + 1) else { return Duration::ZERO };
        // Counting and adding are two steps: between them the sum may be off by one request, in either direction.
        let sum = micros(now).wrapping_mul(n).wrapping_sub(self.started.load(Ordering::Relaxed));
        Duration::from_micros(if sum > u64::MAX / 2 { 0 } else { sum / n })
    }

    pub(super) fn begin(&self, now: Instant) {
        self.started.fetch_add(micros(now), Ordering::Relaxed);
    }

    pub(super) fn end(&self, started: Instant) {
        self.started.fetch_sub(micros(started), Ordering::Relaxed);
    }

    /// Takes in how one of `completed` requests went.
    pub(super) fn record(&self, outcome: Outcome, took: Duration, completed: u64, now: Instant) {
        // The first samples are averaged evenly: the very first one is not worth twenty.
        let weight = 1.0 / (completed + 1).min(MEMORY) as f64;
        let took = took.as_secs_f64();
        match outcome {
            Outcome::Cancelled => return,
            Outcome::Success | Outcome::ClientFault => {
                self.mean.update(now, |seen| seen.map_or(took, |mean| blend(mean.value, took, weight)));
                self.peak.update(now, |seen| match seen {
                    Some(Sampled { value, idle }) if took < value => {
                        blend(took, value, decay(idle, PEAK_TAU.as_secs_f64()))
                    }
                    _ => took,
                });
            }
            Outcome::Timeout => {
                self.mean.update(now, |seen| seen.map_or(took, |mean| blend(mean.value, took.max(mean.value), weight)));
                self.peak.update(now, |seen| seen.map_or(took, |peak| took.max(peak.value)));
            }
            _ => {}
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
    fn read(&self, now: Instant) -> Option<Sampled> {
        unpack(self.0.load(Ordering::Relaxed), millis(now))
    }

    fn update(&self, now: Instant, next: impl Fn(Option<Sampled>) -> f64) {
        let now = millis(now);
        let step = |word| Some(pack(next(unpack(word, now)), now));
        // It always has a next value, so it cannot fail.
        _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
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

/// The first moment that this process heard of; times are counted from there, since an `Instant` has no number.
fn epoch(now: Instant) -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(|| now)
}

fn micros(now: Instant) -> u64 {
    now.saturating_duration_since(epoch(now)).as_micros() as u64
}

fn millis(now: Instant) -> u32 {
    now.saturating_duration_since(epoch(now)).as_millis() as u32
}
