use super::{Candidates, Hint, Index, Picker, Score, Strategy, sample};
use crate::backend::{Backend, Moment};
use std::sync::Arc;

/// The least busy of `d` random backends: the power of two choices (Mitzenmacher 2001), over requests in flight. O(d).
///
/// Compares `(in flight + 1) / weight`, times what the backend's recent failures make it cost: one that fails at once has
/// little in flight, and would draw the requests that it fails. Ties are broken at random. With two choices no backend is ever the busiest by
/// much, whatever the number of balancers; more choices help in a small way, up to looking at all.
///
/// Right where latency says nothing: requests of very different size, backends that are alike. A backend of weight 0 is
/// picked only where all that were sampled have weight 0.
#[derive(Clone, Copy, Debug)]
pub struct LeastRequest {
    choices: usize,
}

impl LeastRequest {
    /// Two choices.
    pub fn new() -> Self {
        Self { choices: 2 }
    }

    /// So many choices, at least 1. With more than 32, or more than there are candidates, all are looked at.
    pub fn choices(self, choices: usize) -> Self {
        Self { choices: choices.max(1) }
    }
}

impl Default for LeastRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl Strategy for LeastRequest {
    type Picker = Self;

    fn build(&self, _members: &[Arc<Backend>]) -> Self {
        *self
    }
}

impl Picker for LeastRequest {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let now = Moment::of(hint.now);
        sample::least(candidates, hint, self.choices, |backend| cost(backend, hint, now))
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let (backend, now) = (candidates.get(index)?, Moment::of(hint.now));
        let load = backend.load();
        let parts =
            [("in flight", load.work()), ("failures", sample::failures(load, now)), ("weight", hint.weight(backend))];
        Some(Score::new(cost(backend, hint, now), parts))
    }
}

/// What a request costs on `backend`, by what is in flight from here.
pub(super) fn cost(backend: &Backend, hint: &Hint<'_>, now: Moment) -> f64 {
    let load = backend.load();
    (load.work() + hint.work()) * (1.0 + sample::failures(load, now)) / hint.weight(backend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Lease, Weight},
        rng::Rng,
        strategy::Eligible,
    };
    use std::time::Instant;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn of_the_two_it_drew_it_never_takes_the_busier_one() {
        let (mut rng, now) = (Rng::new(1), Instant::now());
        for members in [2, 3, 10, 200] {
            let backends: Vec<_> = (0..members).map(|place| Arc::new(Backend::new(place.to_string()))).collect();
            let mut loads: Vec<Lease> = Vec::new();
            for _ in 0..members * 5 {
                loads.push(Lease::take(Arc::clone(&backends[rng.below(members)]), now));
            }
            backends.iter().for_each(|backend| backend.set_weight(Weight::new(1.0 + rng.unit()).unwrap()));
            let flags: Vec<bool> = (0..members).map(|place| place < 2 || rng.below(2) == 0).collect();
            let eligible = Eligible::new(flags);
            for _ in 0..500 {
                let hint = Hint::new(now, rng.next_u64());
                let mut drawn = Vec::new();
                let among = eligible.as_slice();
                sample::distinct(among.len(), 2, &mut hint.rng(), |place, _| drawn.push(among[place]));
                let busy = |index: Index| {
                    let backend = &backends[index.get()];
                    f64::from(backend.load().in_flight() + 1) / backend.weight()
                };
                let picked = LeastRequest::new().pick(&Candidates::new(&backends, &eligible), &hint).unwrap();
                // Of two candidates both are looked at, in whatever order.
                assert!(drawn.contains(&picked), "{members}: another than the two");
                assert!(drawn.iter().all(|&index| busy(picked) <= busy(index)), "{members}: the busier one");
            }
        }
    }
}
