use super::{Latency, Moment, Outcome};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// More samples than any average remembers.
const FEW: u64 = 64;

/// What one backend is doing and has done, counted over every balancer of the process.
///
/// The counters of one backend share two cache lines with nothing else, so that busy backends do not slow each other
/// down. They are statistics: each is exact once the threads that count have been joined, and none orders any other
/// memory access, hence `Relaxed` throughout.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    in_flight: AtomicU32,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    latency: Latency,
}

impl Load {
    /// Requests that hold a [`Lease`](super::Lease) now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that ended with `outcome` since the backend was created.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Requests that ended, however they did, since the backend was created.
    pub fn completed(&self) -> u64 {
        Outcome::ALL.into_iter().map(|outcome| self.count(outcome)).sum()
    }

    /// How fast it is.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// How long ago, on average, the requests in flight were started: what a backend that has stopped answering cannot
    /// hide.
    pub fn mean_age(&self, now: Moment) -> Duration {
        self.latency.mean_age(self.in_flight(), now)
    }

    pub(super) fn begin(&self, now: Moment) {
        self.latency.begin(now);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record(&self, outcome: Outcome, took: Duration, now: Moment) {
        // How many there were matters only while they are few.
        let successes = self.count(Outcome::Success);
        let completed = if successes < FEW { self.completed() } else { successes };
        self.latency.record(outcome, took, completed, now);
    }

    pub(super) fn end(&self, outcome: Outcome, started: Moment) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.latency.end(started);
    }
}
