use super::{Candidates, Hint, Index, sample::failures};
use crate::{
    backend::{Backend, Moment},
    hash::mix,
    rng::Rng,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Up to so many eligible backends the requests in flight are added up for each decision, which is exact.
const EXACT: usize = 512;
/// Beyond, the sum is this old at most, in microseconds.
const FRESH: u64 = 1_000;

/// What costs less counts as so much: the slots are whole requests.
const LEAST: f64 = 1e-3;

/// The bound on the load of one backend, and the last sums of a large pool.
#[derive(Debug)]
pub(super) struct Bound {
    factor: f64,
    active: AtomicU64,
    weight: AtomicU64,
    /// When they were added up, in microseconds, plus 1; 0 is never.
    summed: AtomicU64,
}

/// What each backend may have in flight, for one decision.
pub(super) struct Room<'a> {
    candidates: &'a Candidates<'a>,
    now: Moment,
    seed: u64,
    factor: f64,
    cost: f64,
    active: f64,
    /// Of all eligible; 0 where all weigh nothing, and are alike.
    weight: f64,
}

impl Bound {
    pub(super) fn new(factor: f64) -> Self {
        Self { factor, active: AtomicU64::new(0), weight: AtomicU64::new(0), summed: AtomicU64::new(0) }
    }

    pub(super) fn room<'a>(&self, candidates: &'a Candidates<'a>, hint: &Hint<'_>) -> Room<'a> {
        let now = Moment::of(hint.now);
        let (active, weight) = if candidates.len() <= EXACT { sum(candidates) } else { self.sum(candidates, now) };
        Room { candidates, now, seed: hint.seed, factor: self.factor, cost: hint.work().max(LEAST), active, weight }
    }

    fn sum(&self, candidates: &Candidates<'_>, now: Moment) -> (f64, f64) {
        let stamp = now.micros() + 1;
        let summed = self.summed.load(Ordering::Relaxed);
        let is_fresh = summed != 0 && stamp.saturating_sub(summed) < FRESH;
        // One pick adds up, the others of the moment go by the last sum.
        let mine =
            !is_fresh && self.summed.compare_exchange(summed, stamp, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine || summed == 0 {
            let (active, weight) = sum(candidates);
            self.active.store(active.to_bits(), Ordering::Relaxed);
            self.weight.store(weight.to_bits(), Ordering::Relaxed);
            return (active, weight);
        }
        let read = |sum: &AtomicU64| f64::from_bits(sum.load(Ordering::Relaxed));
        (read(&self.active), read(&self.weight))
    }
}

/// What is in flight on all eligible backends, and what they weigh together.
fn sum(candidates: &Candidates<'_>) -> (f64, f64) {
    candidates.iter().fold((0.0, 0.0), |(active, weight), (_, backend)| {
        (active + backend.load().work(), weight + share(backend.weight()))
    })
}

/// Weights are summed in a unit in which no sum of them is infinite.
fn share(weight: f64) -> f64 {
    weight / f64::from(u32::MAX)
}

impl Room<'_> {
    /// Whether the backend at `index` may take the request.
    pub(super) fn is_at(&self, index: Index) -> bool {
        self.candidates.get(index).is_some_and(|backend| self.fits(backend) && self.trusts(backend))
    }

    /// The same, however it fails.
    pub(super) fn fits_at(&self, index: Index) -> bool {
        self.candidates.get(index).is_some_and(|backend| self.fits(backend))
    }

    fn fits(&self, backend: &Backend) -> bool {
        let work = backend.load().work();
        let share =
            if self.weight > 0.0 { share(backend.weight()) / self.weight } else { 1.0 / self.candidates.len() as f64 };
        let fits = work + self.cost <= slots(self.factor, self.active, self.cost, share);
        // What is larger than a backend's whole share has to go somewhere.
        (fits || (work == 0.0 && share > 0.0)) && !backend.is_full()
    }

    /// The one with the least in flight for its weight, of those that are taken and not at their limit; of several, by the
    /// key. O(n).
    pub(super) fn least(&self, key: u64, takes: impl Fn(&Backend) -> bool) -> Option<Index> {
        let taken = self.candidates.iter().filter(|(_, backend)| !backend.is_full() && takes(backend));
        let cost = |backend: &Backend| {
            let weight = if self.weight > 0.0 { backend.weight() } else { 1.0 };
            ((backend.load().work() + self.cost) / weight, mix(key, backend.id().hash64()))
        };
        let costs = taken.map(|(index, backend)| (index, cost(backend)));
        let least = costs.min_by(|(_, one), (_, other)| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        least.map(|(index, _)| index)
    }

    /// One that fails at once always has room, and would get what the others have none for: it is as good as full.
    pub(super) fn trusts(&self, backend: &Backend) -> bool {
        let failures = failures(backend.load(), self.now);
        failures == 0.0 || Rng::new(mix(self.seed, backend.id().hash64())).unit() < 1.0 / (1.0 + failures)
    }
}

/// What a backend with such a share may have in flight, where `active` is in flight on all, and `cost` is to come.
fn slots(factor: f64, active: f64, cost: f64, share: f64) -> f64 {
    // Rounding must not make a whole number one more.
    (factor * (active + cost) * share / cost - 1e-9).ceil() * cost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Lease, strategy::Eligible};
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    #[test]
    fn slots_are_the_share_of_one_more_request_than_there_are_rounded_up() {
        let slots: Vec<_> = (0..=10).map(|active| slots(1.5, f64::from(active), 1.0, 0.25)).collect();
        assert!(slots == [1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 4.0, 5.0]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn to_512_backends_each_pick_adds_up_and_beyond_one_a_millisecond_does() {
        let start = Instant::now();
        for (members, seen) in [(512, [1.0, 2.0, 3.0]), (513, [1.0, 1.0, 3.0])] {
            let backends: Vec<_> = (0..members).map(|place| Arc::new(Backend::new(place.to_string()))).collect();
            let all = Eligible::new(backends.iter().map(|_| true));
            let (candidates, bound) = (Candidates::new(&backends, &all), Bound::new(1.25));
            let mut open = Vec::new();
            let active = [0, 999, 1_000].map(|micros| {
                let now = start + Duration::from_micros(micros);
                open.push(Lease::take(Arc::clone(&backends[0]), now));
                bound.room(&candidates, &Hint::new(now, 0)).active
            });
            assert_eq!(active, seen, "{members}");
        }
    }

    #[test]
    fn what_costs_more_takes_more_of_the_share() {
        // Two requests of cost 10 are in flight, and a third comes: one share of four, times 1.5, is two of them.
        assert_eq!(slots(1.5, 20.0, 10.0, 0.25), 20.0);
    }
}
