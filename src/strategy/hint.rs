use super::{Candidates, Index, slow_start::Ramp};
use crate::{
    backend::{Backend, BackendId, Moment},
    hash::mix,
    rng::Rng,
};
use std::time::Instant;

/// What a decision may depend on beside the candidates. The clock and chance are arguments: the same hint and the same
/// candidates give the same pick.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Hint<'a> {
    /// The time of the decision.
    pub now: Instant,
    /// Fresh random bits for this decision; [`rng`](Self::rng) makes a generator of them.
    pub seed: u64,
    /// The hash of what the request is bound to, for strategies that keep equal keys together:
    /// [`hash_key`](super::hash_key) of a user, a path, an address.
    pub key: Option<u64>,
    /// How much work the request is expected to be, where an ordinary one is 1: bytes over the mean of bytes, tokens over
    /// the mean of tokens. Strategies that count requests in flight weigh them by it.
    pub cost: f64,
    /// Backends that this request must not go to, because they were tried already.
    ///
    /// Exact, and nothing a strategy need look at: they are taken from the candidates before it is asked. Where nothing
    /// else is left they stay, since a second try beats none.
    pub excluded: &'a [BackendId],
    /// Set by a [`SlowStart`](super::SlowStart) around the strategy.
    pub(super) ramp: Option<Ramp>,
}

/// A request that costs more than so many ordinary ones counts as so many.
const MOST_COST: f64 = 1e6;

impl<'a> Hint<'a> {
    /// A hint about a request of which nothing is known.
    pub fn new(now: Instant, seed: u64) -> Self {
        Self { now, seed, key: None, cost: 1.0, excluded: &[], ramp: None }
    }

    /// The same hint, with the hash of what the request is bound to.
    pub fn key(self, key: u64) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same hint, without the backends that were tried already.
    pub fn excluding(self, excluded: &'a [BackendId]) -> Self {
        Self { excluded, ..self }
    }

    /// The same hint while backends warm up.
    pub(super) fn ramp(self, ramp: Ramp) -> Self {
        Self { ramp: Some(ramp), ..self }
    }

    /// A generator that starts at the hint's seed.
    pub fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }

    /// [`cost`](Self::cost) as a number to count with: what is negative or no number is 1, and a million is the most.
    pub fn work(&self) -> f64 {
        if self.cost >= 0.0 { self.cost.min(MOST_COST) } else { 1.0 }
    }

    /// The weight of a backend for this decision: its own, less what it lacks of being warm. For strategies that weigh.
    pub fn weight(&self, backend: &Backend) -> f64 {
        match &self.ramp {
            None => backend.weight(),
            Some(ramp) => backend.weight() * ramp.factor(backend, Moment::of(self.now)),
        }
    }

    /// Whether a backend takes its turn: always when warm, by lot before. For strategies that go by turns, tables or keys:
    /// where it does not, offer the turn to the next. The same backend always gives the same answer to the same hint.
    pub fn takes(&self, candidates: &Candidates<'_>, index: Index) -> bool {
        let (Some(ramp), Some(backend)) = (&self.ramp, candidates.get(index)) else { return true };
        let factor = ramp.factor(backend, Moment::of(self.now));
        factor >= 1.0 || Rng::new(mix(self.seed, backend.id().hash64())).unit() < factor
    }
}
