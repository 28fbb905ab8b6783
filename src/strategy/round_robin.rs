use super::{Candidates, Hint, Index, Picker, Strategy};
use crate::backend::Backend;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// One after the other: a cursor over the eligible backends. O(1), one atomic addition.
///
/// Exactly even: of any `k·n` picks in a row over `n` eligible backends each gets `k`, however many threads pick. The
/// cursor survives updates and health changes; it belongs to the strategy, so balancers that share the strategy take
/// turns together. Weights are ignored.
///
/// Right for backends that are alike and requests that are alike. Where either differs, a strategy that looks at load
/// keeps the tail flatter.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    cursor: Arc<AtomicU64>,
}

/// Turns that may be passed on in one pick.
const PASSES: usize = 32;

impl RoundRobin {
    /// A cursor at the first backend.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for RoundRobin {
    type Picker = Self;

    fn build(&self, _members: &[Arc<Backend>]) -> Self {
        self.clone()
    }
}

impl Picker for RoundRobin {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let eligible = candidates.eligible();
        let n = eligible.len() as u64;
        if n == 0 {
            return None;
        }
        let next = || eligible[(self.cursor.fetch_add(1, Ordering::Relaxed) % n) as usize];
        // One that warms up may pass its turn on, but not for ever.
        (0..PASSES).map(|_| next()).find(|&index| hint.takes(candidates, index)).or_else(|| Some(next()))
    }
}
