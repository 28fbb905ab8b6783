use super::{Moment, Outcome};
use crate::{
    ewma::{blend, decay},
    sync::{AtomicU64, Ordering},
};
use std::time::Duration;

/// How many samples the mean remembers: enough that luck does not tell alike backends apart, few enough that a backend
/// that turns slow is known after a dozen answers.
const MEMORY: u64 = 40;

/// How many requests the share of failures remembers: fewer, since a failure is no matter of luck.
const FAULT_MEMORY: u64 = 20;

/// A sample counts as so many times the mean at most: all that waited for one pause to end say the same thing, and it is
/// over when they say it. A backend that turned slow shows all the same, in the mean of the samples and in open requests.
const OUTLIER: f64 = 5.0;

/// Finagle's time constant for the peak-sensitive average: a peak is forgotten over tens of seconds, not over requests.
const PEAK_TAU: f64 = 10.0;

/// The peak, in seconds, that a failure counts as.
const FAILURE_PEAK: f64 = 1.0;

/// What completed and open requests say about how fast a backend is.
///
/// A fast failure must not make a backend look fast, so only answers count as samples of the latency, and failures are
/// an average of their own. A request that timed out, or that nobody waits for any more, took at least as long as it did:
/// it can raise the mean, and never lower it. While it is open its age counts like every other's.
#[derive(Debug, Default)]
pub struct Latency {
    mean: Average,
    peak: Average,
    faults: Average,
    /// The requests that wait for an answer: how many, in the low 20 bits, and above them their start times added up,
    /// modulo 2^44 units of 16 microseconds. One word, so that no reader sees one without the other.
    waiting: AtomicU64,
}

const COUNT_BITS: u32 = 20;
const SUM_BITS: u32 = u64::BITS - COUNT_BITS;

/// A request that has waited since `started`, to be added to the word or taken from it.
fn one_waiting(started: Moment) -> u64 {
    (started.micros() / 16) << COUNT_BITS | 1
}

impl Latency {
    /// The mean latency of about the last 40 answers.
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

    /// How long ago, on average, the requests that wait for an answer were started: what a backend that has stopped
    /// answering cannot hide. One whose answer has begun waits no more, however long its body is.
    pub fn mean_age(&self, now: Moment) -> Duration {
        match self.ages(now) {
            (_, 0) => Duration::ZERO,
            (sum, n) => Duration::from_micros(sum * 16 / n),
        }
    }

    /// The same in seconds, for less.
    pub(crate) fn mean_age_secs(&self, now: Moment) -> f64 {
        match self.ages(now) {
            (0, _) => 0.0,
            (sum, n) => sum as f64 * 16e-6 / n as f64,
        }
    }

    /// How old those are together that wait, in units of 16 microseconds, and how many they are.
    fn ages(&self, now: Moment) -> (u64, u64) {
        let word = self.waiting.load(Ordering::Relaxed);
        let (n, started) = (word & ((1 << COUNT_BITS) - 1), word >> COUNT_BITS);
        let sum = (now.micros() / 16).wrapping_mul(n).wrapping_sub(started) << COUNT_BITS >> COUNT_BITS;
        // A request that was started a moment ahead of this clock is not as old as the sum is wide.
        (if sum >> (SUM_BITS - 1) == 1 { 0 } else { sum }, n)
    }

    /// Whether no request waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// How many requests do, modulo 2^20.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed) & ((1 << COUNT_BITS) - 1)
    }

    pub(super) fn begin(&self, now: Moment) {
        self.waiting.fetch_add(one_waiting(now), Ordering::Relaxed);
    }

    pub(super) fn end(&self, started: Moment) {
        self.waiting.fetch_sub(one_waiting(started), Ordering::Relaxed);
    }

    /// Takes in that a request was given up after `took`: it would have taken at least that.
    pub(super) fn record_given_up(&self, took: Duration, samples: u64, now: Moment) {
        let (took, weight) = (took.as_secs_f64(), weight::<MEMORY>(samples));
        if let Some(Sampled { value, .. }) = self.mean.read(now).filter(|mean| took > mean.value) {
            self.mean.update(now, |_| blend(value, bounded(took, value, samples), weight));
        }
    }

    /// Takes in how a request went, after so many `samples`.
    pub(super) fn record(&self, outcome: Outcome, took: Duration, samples: u64, now: Moment) {
        let (took, weight) = (took.as_secs_f64(), weight::<MEMORY>(samples));
        match outcome {
            Outcome::Cancelled | Outcome::Lost => return,
            Outcome::Success | Outcome::ClientFault => {
                self.mean.sample(took, samples, now);
                self.peak.update(now, |seen| match seen {
                    // Nothing has decayed since a moment ago.
                    Some(Sampled { value, idle: 0.0 }) => value.max(took),
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
        self.faults.update(now, |seen| {
            seen.map_or(fault, |faults| blend(faults.value, fault, self::weight::<FAULT_MEMORY>(samples)))
        });
    }
}

/// The weight of one sample after so many. The first are averaged evenly: the very first one is not worth forty.
fn weight<const MEMORY: u64>(samples: u64) -> f64 {
    // Mostly there were enough, and there is nothing to divide.
    if samples + 1 >= MEMORY { 1.0 / MEMORY as f64 } else { 1.0 / (samples + 1) as f64 }
}

/// What one of so many samples counts for, beside the mean of those before. Until there is a mean to go by, every sample is
/// as good as any.
fn bounded(took: f64, mean: f64, samples: u64) -> f64 {
    if samples >= MEMORY && mean > 0.0 { took.min(mean * OUTLIER) } else { took }
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
pub(super) struct Average(AtomicU64);

impl Average {
    pub(super) fn read(&self, now: Moment) -> Option<Sampled> {
        unpack(self.0.load(Ordering::Relaxed), now.millis())
    }

    /// Takes in how long one answer took, after so many samples.
    pub(super) fn sample(&self, took: f64, samples: u64, now: Moment) {
        self.update(now, |seen| {
            seen.map_or(took, |mean| blend(mean.value, bounded(took, mean.value, samples), weight::<MEMORY>(samples)))
        });
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
    let idle = if idle > u32::MAX - 10_000 { 0.0 } else { f64::from(idle) * 1e-3 };
    (word != 0).then(|| Sampled { value: f64::from(f32::from_bits(value).abs()), idle })
}
