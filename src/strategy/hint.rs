use super::{Candidates, Index, SessionToken};
use crate::{
    backend::{Backend, BackendId, Moment},
    hash::mix,
    rng::Rng,
};
use std::{fmt, time::Instant};

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
    /// The token of the session that the request belongs to, for [`Sticky`](super::Sticky).
    pub session: Option<SessionToken>,
    /// How much work the request is expected to be, where an ordinary one is 1: bytes over the mean of bytes, tokens over
    /// the mean of tokens. Strategies that count requests in flight weigh them by it.
    pub cost: f64,
    /// Backends that this request must not go to, because they were tried already.
    ///
    /// Exact, and nothing a strategy need look at: they are taken from the candidates before it is asked. Where nothing
    /// else is left they stay, since a second try beats none.
    pub excluded: &'a [BackendId],
    /// They must not be picked where nothing else is left either: what took one of them too long would take it too long again.
    pub others_only: bool,
    /// The stages that have drawn a lot for it.
    draws: u64,
    /// What stages around the strategy take off the weights.
    scale: Option<&'a Scale<'a>>,
}

/// A factor on the weights, and those of the stages further out.
#[derive(Clone, Copy)]
pub(super) struct Scale<'a> {
    pub(super) factor: &'a dyn Factor,
    pub(super) outer: Option<&'a Scale<'a>>,
}

/// What part of its weight a backend has, from 0 to 1, for a reason beside its weight.
pub(super) trait Factor: Sync {
    fn of(&self, backend: &Backend, now: Moment) -> f64;
}

impl fmt::Debug for Scale<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scale")
    }
}

/// Keeps the lots of the stages apart from what else is drawn from the same key.
const LOT: u64 = 0x67_726f_7570;

/// A request that costs more than so many ordinary ones counts as so many.
const MOST_COST: f64 = 1e6;

impl<'a> Hint<'a> {
    /// A hint about a request of which nothing is known.
    pub fn new(now: Instant, seed: u64) -> Self {
        Self {
            now,
            seed,
            key: None,
            session: None,
            cost: 1.0,
            excluded: &[],
            others_only: false,
            draws: 0,
            scale: None,
        }
    }

    /// The same hint, with the hash of what the request is bound to.
    pub fn key(self, key: u64) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same hint, with the token of a session.
    pub fn session(self, token: SessionToken) -> Self {
        Self { session: Some(token), ..self }
    }

    /// The same hint, for a request that is as much work as so many ordinary ones.
    pub fn cost(self, cost: f64) -> Self {
        Self { cost, ..self }
    }

    /// The same hint, without the backends that were tried already.
    pub fn excluding(self, excluded: &'a [BackendId]) -> Self {
        Self { excluded, ..self }
    }

    /// The same hint, bound to no session.
    pub(crate) fn unbound(self) -> Self {
        Self { session: None, ..self }
    }

    /// A number in `0.0..1.0`, the same for equal keys, and the hint for the next stage, which draws another.
    pub(super) fn draw(&self) -> (f64, Self) {
        let lot = mix(self.key.unwrap_or(self.seed), LOT.wrapping_add(self.draws));
        (Rng::new(lot).unit(), Self { draws: self.draws + 1, ..*self })
    }

    /// Runs `decide` with the same hint where the weights have one more factor.
    pub(super) fn scaled<R>(&self, factor: &dyn Factor, decide: impl FnOnce(&Hint<'_>) -> R) -> R {
        decide(&Hint { scale: Some(&Scale { factor, outer: self.scale }), ..*self })
    }

    /// What part of its weight a backend has: the product of all factors.
    pub(super) fn factor(&self, backend: &Backend) -> f64 {
        if self.scale.is_none() {
            return 1.0;
        }
        let now = Moment::of(self.now);
        let scales = std::iter::successors(self.scale, |scale| scale.outer);
        scales.map(|scale| scale.factor.of(backend, now)).product()
    }

    /// A generator that starts at the hint's seed.
    pub fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }

    /// [`cost`](Self::cost) as a number to count with: what is negative or no number is 1, and a million is the most.
    pub fn work(&self) -> f64 {
        if self.cost >= 0.0 { self.cost.min(MOST_COST) } else { 1.0 }
    }

    /// The weight of a backend for this decision: its own, less what a stage around the strategy takes off, because it is
    /// not warm yet, say. For strategies that weigh what is in flight.
    ///
    /// Of less than one request in flight nobody can have a part: while nothing is in flight on it, a backend has all of its
    /// weight by lot, as often as a part is left of it. Beside others that are idle it would never be picked otherwise.
    pub fn weight(&self, backend: &Backend) -> f64 {
        let factor = self.factor(backend);
        let is_whole = factor >= 1.0 || (backend.load().in_flight() == 0 && self.lot(backend) < factor);
        if is_whole { backend.weight() } else { backend.weight() * factor }
    }

    /// Whether a backend takes its turn: always, or by lot where a stage takes something off its weight. For strategies
    /// that go by turns, tables or keys: where it does not, offer the turn to the next. The same backend always gives the
    /// same answer to the same hint.
    pub fn takes(&self, candidates: &Candidates<'_>, index: Index) -> bool {
        let Some(backend) = candidates.get(index) else { return true };
        let factor = self.factor(backend);
        factor >= 1.0 || self.lot(backend) < factor
    }

    /// Whether a backend would have this turn, if each of so many had one by lot, and it as often as a part is left of its
    /// weight.
    pub(super) fn turns_to(&self, backend: &Backend, of: usize) -> bool {
        self.lot(backend) * (of as f64) < self.factor(backend)
    }

    /// A number in `0.0..1.0` for this decision and this backend.
    fn lot(&self, backend: &Backend) -> f64 {
        Rng::new(mix(self.seed, backend.id().hash64())).unit()
    }
}
