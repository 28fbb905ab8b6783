use super::{Latency, Moment, Outcome};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

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

    pub(super) fn begin(&self, now: Moment) {
        self.latency.begin(now);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer has begun, or will not come: a sample of the latency.
    pub(super) fn answered(&self, outcome: Outcome, started: Moment, now: Moment) {
        let samples = self.count(Outcome::Success) + self.count(Outcome::ClientFault) + self.count(Outcome::Timeout);
        self.latency.record(outcome, now.since(started), samples, now);
        self.latency.end(started);
    }

    /// Nobody waits for the answer any more.
    pub(super) fn abandoned(&self, started: Moment) {
        self.latency.end(started);
    }

    pub(super) fn end(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
