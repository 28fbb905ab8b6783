use crate::{backend::BackendId, rng::Rng};
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
    /// The hash of what the request is bound to, for strategies that keep equal keys together.
    pub key: Option<u64>,
    /// Backends that this request must not go to, because they were tried already.
    ///
    /// Exact, and nothing a strategy need look at: they are taken from the candidates before it is asked. Where nothing
    /// else is left they stay, since a second try beats none.
    pub excluded: &'a [BackendId],
}

impl<'a> Hint<'a> {
    /// A hint about a request of which nothing is known.
    pub fn new(now: Instant, seed: u64) -> Self {
        Self { now, seed, key: None, excluded: &[] }
    }

    /// The same hint, with the hash of what the request is bound to.
    pub fn key(self, key: u64) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same hint, without the backends that were tried already.
    pub fn excluding(self, excluded: &'a [BackendId]) -> Self {
        Self { excluded, ..self }
    }

    /// A generator that starts at the hint's seed.
    pub fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }
}
