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

fn cost(backend: &Backend, hint: &Hint<'_>, now: Moment) -> f64 {
    let load = backend.load();
    (load.work() + hint.work()) * (1.0 + sample::failures(load, now)) / hint.weight(backend)
}
