use super::{Admission, Candidates, Hint, Index, Picker, Score, Strategy};
use crate::{backend::Backend, hash::mix, rng::Rng, strategy::sample::distinct};
use std::sync::Arc;

/// A stage before any strategy: each key, a tenant, say, has a few backends of its own, drawn at random from all. A tenant
/// that brings its backends down takes none of the others' with it, but for the few who share all of his.
///
/// The hand is dealt over all members, in or out, so it does not change with health; the same key gets the same hand from
/// every balancer with the same members in the same order. Where all of a hand are out, the request goes anywhere. A
/// request without a key goes anywhere too. Best with strategies that look at load: those that are built over all members, as
/// [`WeightedRoundRobin`](super::WeightedRoundRobin), serve so few of them by lot. It stands inside of a [`Grouped`](super::Grouped), not around it: that would sort each
/// hand anew.
///
/// ```
/// use tower_balancer::strategy::{LeastRequest, ShuffleShard};
///
/// // Of 100 backends, 4 for each tenant: two tenants share all four in 1 of 3 921 225 cases.
/// let strategy = ShuffleShard::new(4, LeastRequest::new());
/// # let _ = strategy;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ShuffleShard<G> {
    size: usize,
    inner: G,
}

const MOST: usize = 32;

impl<G> ShuffleShard<G> {
    /// So many backends for each key, from 1 to 32.
    pub fn new(size: usize, inner: G) -> Self {
        Self { size: size.clamp(1, MOST), inner }
    }
}

impl<G: Strategy> Strategy for ShuffleShard<G> {
    type Picker = ShuffleShard<G::Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        ShuffleShard { size: self.size, inner: self.inner.build(members) }
    }
}

impl<P: Picker> Picker for ShuffleShard<P> {
    fn admit(&self, candidates: &Candidates<'_>) -> Admission {
        self.inner.admit(candidates)
    }

    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let mut hand = [Index::new(0); MOST];
        let mut dealt = 0;
        if let Some(key) = hint.key {
            let members = candidates.backends().len();
            distinct(members, self.size.min(members), &mut Rng::new(mix(key, DEAL)), |place, _| {
                if candidates.is_eligible(Index::new(place)) {
                    hand[dealt] = Index::new(place);
                    dealt += 1;
                }
            });
        }
        let hand = &mut hand[..dealt];
        hand.sort_unstable();
        let among_hand = (!hand.is_empty()).then(|| self.inner.pick(&candidates.among(hand), hint)).flatten();
        among_hand.or_else(|| self.inner.pick(candidates, hint))
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        self.inner.score(candidates, index, hint)
    }
}

/// Keeps the deal apart from what else is drawn for the key.
const DEAL: u64 = 0x6465_616c;
