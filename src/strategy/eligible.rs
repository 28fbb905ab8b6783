use super::Index;
use std::sync::atomic::{AtomicU64, Ordering};

/// The members that may be picked: as a sorted list, to step through, and as a bit set, to ask about one.
///
/// Immutable once published. A change makes a new one from the old in one copy, without looking at any backend, so that
/// a health change in a pool of 10 000 costs microseconds.
#[derive(Clone, Debug, Default)]
pub struct Eligible {
    list: Vec<Index>,
    bits: Vec<u64>,
    members: usize,
    /// [`ONE_OFF`](Self::ONE_OFF) where it has none.
    version: u64,
}

impl Eligible {
    /// The version of a set that will not come again.
    pub(super) const ONE_OFF: u64 = 0;

    /// The places at which `flags` says yes.
    pub fn new(flags: impl IntoIterator<Item = bool>) -> Self {
        Self { version: next_version(), ..Self::for_once(flags) }
    }

    /// The same for one decision: see [`one_off`](Self::one_off).
    pub(crate) fn for_once(flags: impl IntoIterator<Item = bool>) -> Self {
        let mut eligible = Self::default();
        for (place, flag) in flags.into_iter().enumerate() {
            if place % 64 == 0 {
                eligible.bits.push(0);
            }
            eligible.members += 1;
            if flag {
                eligible.bits[place / 64] |= 1 << (place % 64);
                eligible.list.push(Index::new(place));
            }
        }
        eligible
    }

    /// The places, in order.
    pub fn as_slice(&self) -> &[Index] {
        &self.list
    }

    /// A number that no other set has, and every copy of this one: what was worked out for the set holds for it still. Or
    /// [`ONE_OFF`](Self::ONE_OFF).
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The same set for one decision: nobody need remember what he works out for it, nor for what it is changed into.
    pub(crate) fn one_off(self) -> Self {
        Self { version: Self::ONE_OFF, ..self }
    }

    /// Whether `index` is among them. O(1).
    pub fn contains(&self, index: Index) -> bool {
        self.bits.get(index.get() / 64).is_some_and(|word| word >> (index.get() % 64) & 1 == 1)
    }

    /// The same set with `index` in it or not. An index beyond the members changes nothing.
    pub fn with(&self, index: Index, flag: bool) -> Self {
        let mut changed = self.clone();
        changed.set(index, flag);
        changed
    }

    /// Changes whether `index` is in the set; nothing where it is beyond the members.
    pub(crate) fn set(&mut self, index: Index, flag: bool) {
        let Some(word) = self.bits.get_mut(index.get() / 64).filter(|_| index.get() < self.members) else { return };
        match (self.list.binary_search(&index), flag) {
            (Ok(at), false) => {
                self.list.remove(at);
                *word &= !(1 << (index.get() % 64));
            }
            (Err(at), true) => {
                self.list.insert(at, index);
                *word |= 1 << (index.get() % 64);
            }
            _ => return,
        }
        if self.version != Self::ONE_OFF {
            self.version = next_version();
        }
    }
}

fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl PartialEq for Eligible {
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members && self.list == other.list
    }
}

impl Eq for Eligible {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_sequence_of_changes_is_as_good_as_building_anew(
            start in proptest::collection::vec(any::<bool>(), 1..200),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..50),
        ) {
            let mut flags = start.clone();
            let mut eligible = Eligible::new(start);
            for (place, flag) in changes {
                let place = place.index(flags.len());
                flags[place] = flag;
                eligible = eligible.with(Index::new(place), flag);
            }
            prop_assert_eq!(&eligible, &Eligible::new(flags.iter().copied()));
            for (place, flag) in flags.into_iter().enumerate() {
                prop_assert_eq!(eligible.contains(Index::new(place)), flag);
            }
        }
    }

    #[test]
    fn an_index_beyond_the_members_is_never_in_the_set() {
        let eligible = Eligible::new([true, true]);
        for beyond in [2, 5, 63, 64, 1_000].map(Index::new) {
            assert!(!eligible.contains(beyond));
            assert_eq!(eligible.with(beyond, true), eligible);
        }
    }
}
