use super::Eligible;
use crate::{
    backend::Backend,
    error::{Reason, Unavailable},
};
use std::sync::Arc;

/// The place of a backend among the members of one snapshot.
///
/// It means nothing in any other snapshot: take it from [`Candidates`], give it back as the pick, do not keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index(u32);

impl Index {
    /// The place as a number, to look up in a table that was built over the same members.
    pub fn get(self) -> usize {
        self.0 as usize
    }

    /// The `place`-th member.
    ///
    /// # Panics
    ///
    /// Where `place` is above `u32::MAX`.
    pub fn new(place: usize) -> Self {
        Self(u32::try_from(place).expect("a pool has at most u32::MAX members"))
    }
}

/// What a picker picks from: all members of a snapshot, and which of them are eligible.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    backends: &'a [Arc<Backend>],
    list: &'a [Index],
    /// What the list is of; `None` where somebody made a list of his own.
    set: Option<&'a Eligible>,
}

impl<'a> Candidates<'a> {
    /// All of `backends`, of which the `eligible` may be picked.
    pub fn new(backends: &'a [Arc<Backend>], eligible: &'a Eligible) -> Self {
        Self { backends, list: eligible.as_slice(), set: Some(eligible) }
    }

    /// All of `backends`, of which those in `list` may be picked: some of these candidates, in the order of their places.
    pub(super) fn among<'b>(&self, list: &'b [Index]) -> Candidates<'b>
    where
        'a: 'b,
    {
        Candidates { backends: self.backends, list, set: None }
    }

    /// The number of the set that may be picked; `None` where it has none, or will not come again.
    pub(super) fn version(&self) -> Option<u64> {
        self.set.map(Eligible::version).filter(|&version| version != Eligible::ONE_OFF)
    }

    /// Every member, eligible or not, in the order in which the picker's tables were built.
    pub fn backends(&self) -> &'a [Arc<Backend>] {
        self.backends
    }

    /// How many may be picked.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether none may be picked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members that may be picked, in the order of their places.
    pub fn eligible(&self) -> &'a [Index] {
        self.list
    }

    /// Whether the backend at `index` may be picked. O(1), or O(log n) in a short list that a stage made.
    pub fn is_eligible(&self, index: Index) -> bool {
        match self.set {
            Some(set) => set.contains(index),
            None => self.list.binary_search(&index).is_ok(),
        }
    }

    /// The backend at `index`; `None` where the index is of another snapshot and too large for this one.
    pub fn get(&self, index: Index) -> Option<&'a Arc<Backend>> {
        self.backends.get(index.get())
    }

    /// The backends that may be picked, with their places.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Index, &'a Arc<Backend>)> + use<'a> {
        let backends = self.backends;
        self.eligible().iter().map(move |&index| (index, &backends[index.get()]))
    }

    /// Why nothing can be picked, for when nothing can.
    pub fn unavailable(&self) -> Unavailable {
        Unavailable::new(if self.backends.is_empty() { Reason::NoBackends } else { Reason::AllUnhealthy })
    }
}
