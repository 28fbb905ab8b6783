use super::{Latency, Moment, Outcome, ResponseTimes};
use crate::sync::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// What one backend is doing and has done, counted over every balancer of the process.
///
/// The counters of one backend share two cache lines with nothing else, and the times of its answers two more, so that busy
/// backends do not slow each other down. All that a pick looks at here is in the first. They are statistics: each is exact once
/// the threads that count have been joined, and none orders any other memory access, hence `Relaxed` throughout.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Load {
    /// In the lower [`BITS`] the requests in flight, above them those that ended well.
    flow: AtomicU64,
    /// What the requests in flight cost beyond 1 each, in [`UNITS`] of it.
    extra: AtomicI64,
    latency: Latency,
    /// When the first request came since the backend is in rotation: tenths of a second, plus 1; 0 is not yet.
    since: AtomicU32,
    /// The answers that it had given before.
    before: AtomicU32,
    /// Answers since then: in the upper half those that were looked at, in the lower half those of them that count.
    proven: AtomicU64,
    /// How the others ended, in the order of [`Outcome::ALL`].
    others: [AtomicU64; Outcome::ALL.len() - 1],
    response_times: ResponseTimes,
}

/// A million requests at once on one backend: more do not fit into a process either. The rest will do for a hundred
/// thousand a second in five years.
const BITS: u32 = 20;
const ONE_IN_FLIGHT: u64 = 1;
const ONE_SUCCESS: u64 = 1 << BITS;

/// Parts that a cost is kept in.
const UNITS: f64 = 65_536.0;

impl Load {
    /// Requests that hold a [`Lease`](super::Lease) now.
    pub fn in_flight(&self) -> u32 {
        in_flight(self.flow.load(Ordering::Relaxed))
    }

    /// What the requests in flight cost together: their number, where nothing else was said.
    pub fn work(&self) -> f64 {
        // Between the two loads a request may come or go; a sum below nothing is nothing.
        (f64::from(self.in_flight()) + self.extra.load(Ordering::Relaxed) as f64 / UNITS).max(0.0)
    }

    /// Seconds since the first request that the backend got after it came into rotation, to a tenth; `None` while it had
    /// none.
    pub fn in_rotation(&self, now: Moment) -> Option<f64> {
        let since = self.since.load(Ordering::Relaxed);
        (since != 0).then(|| f64::from(tenths(now).saturating_sub(since)) / 10.0)
    }

    /// Answers since it came into rotation, modulo 2^32.
    pub fn answers_in_rotation(&self) -> u32 {
        (self.answers() as u32).wrapping_sub(self.before.load(Ordering::Relaxed))
    }

    /// How many of those were found to prove that it is warm.
    pub(crate) fn proven(&self) -> u32 {
        self.proven.load(Ordering::Relaxed) as u32
    }

    /// Looks at the answers since the last look, which prove that it is warm or do not.
    pub(crate) fn prove(&self, good: bool) {
        let word = self.proven.load(Ordering::Relaxed);
        let (answers, seen, proven) = (self.answers_in_rotation(), (word >> 32) as u32, word as u32);
        let more = if good { answers.saturating_sub(seen) } else { 0 };
        let looked = u64::from(answers) << 32 | u64::from(proven.saturating_add(more));
        // Where it fails, another has looked just now.
        _ = self.proven.compare_exchange(word, looked, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Requests that ended with `outcome` since the backend was created.
    pub fn count(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Success => self.flow.load(Ordering::Relaxed) >> BITS,
            other => self.others[other as usize - 1].load(Ordering::Relaxed),
        }
    }

    /// How many requests ended with each outcome since the backend was created. Each number only ever grows.
    ///
    /// ```
    /// use std::{sync::Arc, time::Instant};
    /// use tower_balancer::backend::{Backend, Lease, Outcome};
    ///
    /// let backend = Arc::new(Backend::new("a"));
    /// Lease::take(Arc::clone(&backend), Instant::now()).complete(Outcome::Timeout, Instant::now());
    /// let seen: Vec<_> = backend.load().outcomes().filter(|(_, count)| *count > 0).collect();
    /// assert_eq!(seen, [(Outcome::Timeout, 1)]);
    /// assert_eq!(Outcome::Timeout.as_str(), "timeout");
    /// ```
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().map(|outcome| (outcome, self.count(outcome)))
    }

    /// Requests that ended, however they did, since the backend was created.
    pub fn completed(&self) -> u64 {
        self.outcomes().map(|(_, count)| count).sum()
    }

    /// How fast it is.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// How long its answers took.
    pub fn response_times(&self) -> &ResponseTimes {
        &self.response_times
    }

    /// Counts one more request in flight, unless there are `limit`.
    pub(super) fn try_begin(&self, cost: f64, now: Moment, limit: u32) -> bool {
        if limit != u32::MAX {
            let one_more = |flow: u64| (in_flight(flow) < limit).then(|| flow + ONE_IN_FLIGHT);
            if self.flow.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
                return false;
            }
        } else {
            self.flow.fetch_add(ONE_IN_FLIGHT, Ordering::Relaxed);
        }
        self.begun(cost, now);
        true
    }

    fn begun(&self, cost: f64, now: Moment) {
        self.latency.begin(now);
        if cost != 1.0 {
            self.extra.fetch_add(extra(cost), Ordering::Relaxed);
        }
        if self.since.load(Ordering::Relaxed) == 0 {
            self.since.store(tenths(now), Ordering::Relaxed);
        }
    }

    /// It comes into rotation anew.
    pub(super) fn restart(&self) {
        self.before.store(self.answers() as u32, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
        self.proven.store(0, Ordering::Relaxed);
    }

    /// Requests that were answered as they should be, the client's own faults among them, since the backend was created.
    pub(crate) fn answers(&self) -> u64 {
        self.count(Outcome::Success) + self.count(Outcome::ClientFault)
    }

    /// An answer has begun, or will not come: a sample of the latency.
    pub(super) fn answered(&self, outcome: Outcome, started: Moment, now: Moment) {
        let took = now.since(started);
        self.latency.record(outcome, took, self.samples(), now);
        self.latency.end(started);
        if outcome.is_answer() || outcome == Outcome::Timeout {
            self.response_times.record(took);
        }
    }

    /// Nobody waits for the answer any more, as of `now`.
    pub(super) fn given_up(&self, started: Moment, now: Moment) {
        self.latency.record_given_up(now.since(started), self.samples(), now);
        self.latency.end(started);
    }

    fn samples(&self) -> u64 {
        self.answers() + self.count(Outcome::Timeout)
    }

    /// An answer that had begun well did not end well.
    pub(super) fn failed_late(&self, outcome: Outcome, started: Moment, now: Moment) {
        self.latency.record(outcome, now.since(started), u64::from(u32::MAX), now);
    }

    /// Nobody waits for the answer any more, and nobody says since when.
    pub(super) fn abandoned(&self, started: Moment) {
        self.latency.end(started);
    }

    pub(super) fn end(&self, outcome: Outcome, cost: f64) {
        match outcome {
            Outcome::Success => self.flow.fetch_add(ONE_SUCCESS - ONE_IN_FLIGHT, Ordering::Relaxed),
            other => {
                self.others[other as usize - 1].fetch_add(1, Ordering::Relaxed);
                self.flow.fetch_sub(ONE_IN_FLIGHT, Ordering::Relaxed)
            }
        };
        if cost != 1.0 {
            self.extra.fetch_sub(extra(cost), Ordering::Relaxed);
        }
    }
}

fn in_flight(flow: u64) -> u32 {
    (flow & (ONE_SUCCESS - 1)) as u32
}

fn extra(cost: f64) -> i64 {
    ((cost - 1.0) * UNITS) as i64
}

/// Tenths of a second since the first moment, plus 1: thirteen years of them.
fn tenths(now: Moment) -> u32 {
    (now.micros() / 100_000 + 1) as u32
}
