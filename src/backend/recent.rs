//! What came within the last seconds, and what part of it.

use super::Moment;
use crate::sync::{AtomicU64, Ordering};

/// The current second is one of them, so what is counted is nine seconds old at least and ten at most.
pub(crate) const SLOTS: u64 = 10;

/// Two counts of the last ten seconds: of all, and of those among them that are the point. One addition for each.
///
/// A slot for each second, in one word, so that no reader sees the counts of one and the number of another: which second it is
/// (20 bits, twelve days), all (24), the part (20).
#[derive(Debug, Default)]
pub(crate) struct Recent {
    slots: [AtomicU64; SLOTS as usize],
}

pub(crate) const PART: u64 = 1;
/// There is room for fewer of the part in a second.
pub(crate) const ALL: u64 = 1 << 20;
const NUMBER: u64 = 1 << 44;
const NUMBERS: u64 = (1 << 20) - 1;

/// What was counted.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) all: u64,
    pub(crate) part: u64,
}

/// One second of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Second(u64);

impl Second {
    pub(crate) fn of(now: Moment) -> Self {
        // The first is not what an empty slot says, but once in twelve days.
        Self(now.micros() / 1_000_000 + 1)
    }

    fn number(self) -> u64 {
        self.0 & NUMBERS
    }

    /// Whether `slot` is of this second.
    fn has(self, slot: u64) -> bool {
        slot / NUMBER == self.number()
    }
}

impl Recent {
    /// Adds `what`, of [`ALL`] and [`PART`], and says whether it is the first of its second.
    pub(crate) fn add(&self, what: u64, second: Second) -> bool {
        let (slot, first) = (self.slot(second), second.number() * NUMBER + what);
        let seen = slot.load(Ordering::Relaxed);
        let is_first =
            !second.has(seen) && slot.compare_exchange(seen, first, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        // Who comes second adds to what the first has left.
        if !is_first {
            slot.fetch_add(what, Ordering::Relaxed);
        }
        is_first
    }

    /// The counts of the ten seconds that end with `second`.
    pub(crate) fn until(&self, second: Second) -> Counts {
        let seen = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let recent = seen.filter(|seen| second.number().wrapping_sub(seen / NUMBER) & NUMBERS < SLOTS);
        recent
            .map(Counts::of)
            .fold(Counts::default(), |sum, counts| Counts { all: sum.all + counts.all, part: sum.part + counts.part })
    }

    pub(crate) fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    }

    fn slot(&self, second: Second) -> &AtomicU64 {
        &self.slots[(second.0 % SLOTS) as usize]
    }
}

#[cfg(feature = "http")]
impl Recent {
    /// Takes one of the part back. A second that is over has been forgotten, and it with it.
    pub(crate) fn take_back(&self, second: Second) {
        let take = |seen: u64| (second.has(seen) && Counts::of(seen).part > 0).then(|| seen - PART);
        _ = self.slot(second).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }

    /// The counts of `second` alone.
    pub(crate) fn within(&self, second: Second) -> Counts {
        let seen = self.slot(second).load(Ordering::Relaxed);
        if second.has(seen) { Counts::of(seen) } else { Counts::default() }
    }
}

impl Counts {
    fn of(seen: u64) -> Self {
        Self { all: seen % NUMBER / ALL, part: seen % ALL }
    }
}
