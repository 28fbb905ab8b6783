use super::{Admission, Candidates, Hint, Index, Picker, Score, Strategy};
use crate::{
    backend::Backend,
    hash::mix,
    strategy::consistent_hash::{Hashing, Maglev, MaglevTable, Table},
};
use std::sync::Arc;

/// A stage before any strategy: each key, a tenant, say, has a few backends of its own, drawn at random from all. A tenant
/// that is too much for its backends slows down none of the others, but for the few who share all of his.
///
/// The hand is dealt over all members, in or out, so it does not change with health; the same key gets the same hand from
/// every balancer with the same members, and hardly changes as others come and go. Where all of a hand are out, the request
/// goes anywhere: so this keeps load apart, and not requests that kill whoever gets them. A request without a key goes
/// anywhere too. Best with strategies that look at load: those that are built over all members, as
/// [`WeightedRoundRobin`](super::WeightedRoundRobin), serve so few of them by lot. It stands inside of a
/// [`Grouped`](super::Grouped), not around it: that would sort each hand anew.
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

/// Draws for each of a hand before it stays smaller: enough that it hardly ever does.
const DRAWS: usize = 16;

impl<G> ShuffleShard<G> {
    /// So many backends for each key, from 1 to 32.
    pub fn new(size: usize, inner: G) -> Self {
        Self { size: size.clamp(1, MOST), inner }
    }
}

impl<G: Strategy> Strategy for ShuffleShard<G> {
    type Picker = ShuffleShardPicker<G::Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        let size = self.size.min(members.len());
        ShuffleShardPicker { size, deck: Maglev::new().table(members), inner: self.inner.build(members) }
    }
}

/// The picker of a [`ShuffleShard`].
#[derive(Debug)]
pub struct ShuffleShardPicker<P> {
    size: usize,
    /// Each draw is a look into a table that hardly changes as backends come and go.
    deck: MaglevTable,
    inner: P,
}

impl<P> ShuffleShardPicker<P> {
    /// Deals to `key`, and returns how many.
    fn deal(&self, key: u64, hand: &mut [Index; MOST]) -> usize {
        let (key, mut dealt) = (mix(key, DEAL), 0);
        for draw in 0..(self.size * DRAWS) as u64 {
            let Some(index) = self.deck.first(mix(key, draw), |_| true) else { break };
            if !hand[..dealt].contains(&index) {
                hand[dealt] = index;
                dealt += 1;
            }
            if dealt == self.size {
                break;
            }
        }
        dealt
    }
}

impl<P: Picker> Picker for ShuffleShardPicker<P> {
    fn admit(&self, candidates: &Candidates<'_>) -> Admission {
        self.inner.admit(candidates)
    }

    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let mut hand = [Index::new(0); MOST];
        let dealt = hint.key.map_or(0, |key| self.deal(key, &mut hand));
        let mut eligible = 0;
        for at in 0..dealt {
            if candidates.is_eligible(hand[at]) {
                hand[eligible] = hand[at];
                eligible += 1;
            }
        }
        let hand = &mut hand[..eligible];
        hand.sort_unstable();
        let among_hand = (!hand.is_empty()).then(|| self.inner.pick(&candidates.among(hand), hint)).flatten();
        among_hand.or_else(|| self.inner.pick(candidates, hint))
    }

    fn binds(&self, index: Index, hint: &Hint<'_>) -> bool {
        self.inner.binds(index, hint)
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        self.inner.score(candidates, index, hint)
    }
}

/// Keeps the deal apart from what else is drawn for the key.
const DEAL: u64 = 0x6465_616c;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::RoundRobin;

    fn hands(ids: impl Iterator<Item = u32>) -> Vec<Vec<String>> {
        let members: Vec<_> = ids.map(|n| Arc::new(Backend::new(n.to_string()))).collect();
        let picker = ShuffleShard::new(4, RoundRobin::new()).build(&members);
        let hand = |key| {
            let mut hand = [Index::new(0); MOST];
            let dealt = picker.deal(key, &mut hand);
            let mut ids: Vec<_> = hand[..dealt].iter().map(|index| members[index.get()].id().to_string()).collect();
            ids.sort();
            ids
        };
        (0..300).map(hand).collect()
    }

    #[test]
    fn hands_hardly_change_as_backends_come_and_go_nor_by_their_order() {
        let before = hands(0..100);
        assert!(before.iter().all(|hand| hand.len() == 4));
        let kept =
            |after: Vec<Vec<String>>| before.iter().zip(&after).filter(|(before, after)| before == after).count();
        assert!(kept(hands((0..100).rev())) > 290);
        for gone in [0, 50, 99] {
            // One hand in 25 had it, and Maglev moves some more.
            let kept = kept(hands((0..100).filter(|n| *n != gone)));
            assert!(kept > 270, "{gone}: {kept} of 300");
        }
    }

    #[test]
    fn a_small_pool_is_dealt_whole() {
        assert!(hands(0..3).iter().all(|hand| hand.len() == 3));
        assert!(hands(0..0).iter().all(Vec::is_empty));
    }
}
