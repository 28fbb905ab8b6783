//! The same backend for the same key, and as few keys as possible moved when the backends change.

mod bounded;
mod maglev;
mod memento;
mod rendezvous;
mod ring;
#[cfg(test)]
mod tests;

pub use self::{
    maglev::{Maglev, MaglevTable},
    memento::{Memento, MementoTable},
    rendezvous::{Rendezvous, RendezvousTable},
    ring::{Ring, RingPoints},
};

use super::{Candidates, Hint, Index, Picker, Strategy, sample};
use crate::{backend::Backend, hash::mix};
use bounded::Bound;
use std::{cmp::Ordering, sync::Arc};

/// How keys are laid out over backends.
pub trait Hashing: Send + Sync + 'static {
    /// The layout over one list of members.
    type Table: Table;

    /// Lays the keys out over `members`: all of them, so that a backend that is out keeps its keys for its return.
    fn table(&self, members: &[Arc<Backend>]) -> Self::Table;
}

/// One layout. Each key has all backends in an order of its own; the first is its owner.
pub trait Table: Send + Sync + 'static {
    /// The first backend in the order of `key` of which `takes` says yes. `None` where none does, or where the search
    /// would be long: then the eligible are ranked one by one.
    fn first(&self, key: u64, takes: impl Fn(Index) -> bool) -> Option<Index>;
}

/// The backend that owns the request's key: caches stay warm, sessions stay where they are.
///
/// The key comes with the [`Hint`]; a request without one goes anywhere. When the owner is out, its keys go to the next
/// backend in each key's own order, so they spread over all, and come back with it.
///
/// A pick without a bound costs, while most backends are in:
///
/// | layout | a pick | memory | when a backend leaves |
/// |---|---|---|---|
/// | [`Maglev`] | O(1) | some 2 KB a backend | its keys, and some 0.4 % of the others |
/// | [`Ring`] | O(1) expected | 16 bytes a point, 160 points a backend | its keys only |
/// | [`Rendezvous`] | O(n) | 16 bytes a backend | its keys only; exactly by weight |
/// | [`Memento`] | O(1) expected | 16 bytes a backend | its keys only; no weights, and the layout depends on the past |
///
/// # Bounded load
///
/// One hot key must not drown its owner. With [`bounded`](Self::bounded) no backend gets more than its share of the
/// requests in flight, times a factor; what is above goes to the next in the key's order (Mirrokni, Thorup,
/// Zadimoghaddam 2018). A backend that fails at once always has room, so it counts as full by as much as it fails; and one
/// at its limit is full. Where that leaves too little room, the one with the least in flight for its weight is taken.
///
/// ```
/// use std::{sync::Arc, time::Instant};
/// use tower_balancer::{
///     backend::Backend,
///     strategy::{Candidates, ConsistentHash, Eligible, Hint, Maglev, Picker, Strategy, hash_key},
/// };
///
/// let backends: Vec<_> = ["a", "b", "c"].map(|id| Arc::new(Backend::new(id))).into();
/// let picker = ConsistentHash::new(Maglev::new()).bounded(1.25).build(&backends);
/// let owner = |eligible: &Eligible| {
///     let hint = Hint::new(Instant::now(), 0).key(hash_key("user-17"));
///     picker.pick(&Candidates::new(&backends, eligible), &hint).unwrap()
/// };
///
/// let all = Eligible::new([true; 3]);
/// let first = owner(&all);
/// let second = owner(&all.with(first, false));
/// assert_ne!(first, second);
/// assert_eq!(owner(&all), first);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ConsistentHash<H> {
    hashing: H,
    bound: Option<f64>,
}

impl<H: Hashing> ConsistentHash<H> {
    /// By key, whatever the load.
    pub fn new(hashing: H) -> Self {
        Self { hashing, bound: None }
    }

    /// No backend takes more than `factor` times its share of all requests in flight, rounded up. Shares go by weight.
    /// Typical is 1.25; the closer to 1, the more requests miss their owner. Below 1 it counts as 1.
    ///
    /// Each pick adds up all requests in flight, O(n). With more than 512 eligible backends one pick a millisecond does, and
    /// the others go by its sum, O(1).
    pub fn bounded(self, factor: f64) -> Self {
        Self { bound: Some(if factor > 1.0 { factor } else { 1.0 }), ..self }
    }
}

impl<H: Hashing> Strategy for ConsistentHash<H> {
    type Picker = ConsistentHashPicker<H::Table>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        ConsistentHashPicker { table: self.hashing.table(members), bound: self.bound.map(Bound::new) }
    }
}

/// The layout of a [`ConsistentHash`] over the members of a pool.
#[derive(Debug)]
pub struct ConsistentHashPicker<T> {
    table: T,
    bound: Option<Bound>,
}

impl<T: Table> Picker for ConsistentHashPicker<T> {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let key = hint.key.unwrap_or(hint.seed);
        let is_in = |index| candidates.is_eligible(index) && hint.takes(candidates, index);
        let Some(bound) = &self.bound else {
            return self.first(candidates, key, is_in).or_else(|| self.first(candidates, key, |_| true));
        };
        let room = bound.room(candidates, hint);
        self.first(candidates, key, |index| is_in(index) && room.is_at(index))
            .or_else(|| self.first(candidates, key, |index| room.is_at(index)))
            // Those that have room fail, are at their limit, or cannot be had whole: then the bound is that of the others.
            .or_else(|| room.least(key, |backend| room.trusts(backend)))
            .or_else(|| self.first(candidates, key, |index| room.fits_at(index)))
            .or_else(|| room.least(key, |_| true))
            .or_else(|| self.first(candidates, key, |_| true))
    }
}

impl<T: Table> ConsistentHashPicker<T> {
    /// The first eligible one in the order of `key` that is taken.
    fn first(&self, candidates: &Candidates<'_>, key: u64, takes: impl Fn(Index) -> bool) -> Option<Index> {
        let takes = |index| candidates.is_eligible(index) && takes(index);
        self.table.first(key, takes).or_else(|| rank(candidates, key, takes))
    }
}

/// The first in the order of `key` among those that are taken, by rendezvous: O(n), for when nearly all are out or full.
fn rank(candidates: &Candidates<'_>, key: u64, takes: impl Fn(Index) -> bool) -> Option<Index> {
    let ranked = candidates.iter().filter(|&(index, _)| takes(index)).map(|(index, backend)| {
        let hash = mix(key, backend.id().hash64());
        (index, (rendezvous::score(hash, backend.weight()), hash))
    });
    ranked.max_by(|(_, one), (_, other)| one.partial_cmp(other).unwrap_or(Ordering::Equal)).map(|(index, _)| index)
}
