use super::{Hashing, Index, Table};
use crate::{
    backend::Backend,
    hash::{below, mix},
};
use std::sync::Arc;

/// The table of Google's Maglev (Eisenbud and others 2016): one look-up a key, and shares that are even to a percent.
///
/// The table has 65 537 slots; with more than 163 backends twice as many, with more than 327 four times, and so on to a
/// million, always a prime. (A size for each number of backends would move nearly all keys at each change.) A change of the
/// size does move nearly all keys: where the number of backends goes back and forth across one, see
/// [`with_slots`](Self::with_slots).
///
/// Backends choose slots in turns, each in an order of its own, and one with half the mean weight has every other turn. So
/// it moves a few keys more than it must when the backends change: 0.4 % of the others when one of a thousand leaves. In
/// which order they are listed does not matter. A backend of weight 0 owns nothing while another has weight. With tens of
/// thousands of backends the table takes a second to fill: look at [`Memento`](super::Memento).
#[derive(Clone, Copy, Debug, Default)]
pub struct Maglev {
    /// `None` is by the number of backends.
    slots: Option<usize>,
}

const SLOTS: usize = 65_537;
const SLOTS_A_BACKEND: usize = 400;
/// With thousands of backends, so many slots are enough, as long as each has its share of them.
const ENOUGH: usize = 1 << 20;
const LEAST_A_BACKEND: usize = 64;

/// 64 MiB.
const MOST: usize = 1 << 24;

/// The owners of a key that are out or full before all are ranked instead. With half of them out: never.
const ATTEMPTS: u64 = 64;

impl Maglev {
    /// A size that follows the number of backends.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many slots, or the next prime, however many backends there are: a hundred for each of the most that there will be
    /// make shares even to a percent. At most 2²⁴; twice as many, and so on, where there are fewer than 64 for each backend.
    pub fn with_slots(slots: usize) -> Self {
        Self { slots: Some(slots.clamp(1, MOST)) }
    }

    fn size(&self, members: usize) -> usize {
        let least = members * LEAST_A_BACKEND;
        let (mut size, enough) = match self.slots {
            Some(slots) => (slots, least),
            None => (SLOTS, (members * SLOTS_A_BACKEND).min(ENOUGH).max(least)),
        };
        while size < enough {
            size *= 2;
        }
        next_prime(size)
    }
}

impl Hashing for Maglev {
    type Table = MaglevTable;

    fn table(&self, members: &[Arc<Backend>]) -> MaglevTable {
        let listed = members.iter().enumerate();
        let mut choosers: Vec<_> =
            listed.map(|(place, backend)| (backend.id().hash64(), place as u32, backend.weight())).collect();
        // Who chooses first must not depend on the order of the list: two balancers may have it in different ones.
        choosers.sort_unstable_by_key(|&(hash, place, _)| (hash, place));
        MaglevTable { slots: fill(&choosers, self.size(members.len())) }
    }
}

/// The table of a [`Maglev`].
#[derive(Clone, Debug)]
pub struct MaglevTable {
    slots: Box<[u32]>,
}

impl Table for MaglevTable {
    fn first(&self, key: u64, takes: impl Fn(Index) -> bool) -> Option<Index> {
        // Another look-up with another hash of the key: what an owner leaves spreads over all the others.
        let hash = |attempt| if attempt == 0 { key } else { mix(key, attempt) };
        let owner =
            |attempt| self.slots.get(below(hash(attempt), self.slots.len())).map(|&place| Index::new(place as usize));
        (0..ATTEMPTS).filter_map(owner).find(|&index| takes(index))
    }
}

/// The slots, each with the place of its owner; none where there are no backends. They come with hash, place and weight, in
/// the order in which they choose.
fn fill(backends: &[(u64, u32, f64)], size: usize) -> Box<[u32]> {
    if backends.is_empty() {
        return Box::default();
    }
    let heaviest = backends.iter().map(|&(_, _, weight)| weight).fold(0.0, f64::max);
    // In parts of the heaviest, so that no sum overflows; where none weighs anything, all alike.
    let part = |weight: f64| if heaviest > 0.0 { weight / heaviest } else { 1.0 };
    let mean = backends.iter().map(|&(_, _, weight)| part(weight)).sum::<f64>() / backends.len() as f64;
    // By the mean, not by the heaviest: beside one that outweighs all others, most rounds would fill one slot.
    let turns = |weight: f64| part(weight) / mean;
    let mut choosers: Vec<Chooser> = (backends.iter())
        .filter(|&&(_, _, weight)| turns(weight) > 0.0)
        .map(|&(hash, place, weight)| Chooser {
            place,
            next: below(mix(hash, 1), size),
            skip: below(mix(hash, 2), size - 1) + 1,
            turns: turns(weight),
            due: 0.0,
        })
        .collect();

    let mut slots = vec![0; size];
    // A bit for each: looking for a free one is most of the work, and these fit into a cache where the slots do not.
    let mut taken = vec![0_u64; size.div_ceil(64)];
    let mut free = size;
    while free > 0 {
        for chooser in &mut choosers {
            chooser.due += chooser.turns;
            while chooser.due >= 1.0 && free > 0 {
                chooser.due -= 1.0;
                // The size is prime, so its steps come to every slot.
                while taken[chooser.next / 64] & 1 << (chooser.next % 64) != 0 {
                    chooser.next += chooser.skip;
                    if chooser.next >= size {
                        chooser.next -= size;
                    }
                }
                taken[chooser.next / 64] |= 1 << (chooser.next % 64);
                slots[chooser.next] = chooser.place;
                free -= 1;
            }
        }
    }
    slots.into()
}

/// A backend that chooses slots, in the order that its hash gives it.
struct Chooser {
    place: u32,
    next: usize,
    skip: usize,
    turns: f64,
    due: f64,
}

fn next_prime(from: usize) -> usize {
    let is_prime = |n: usize| (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    (from..).find(|&n| is_prime(n)).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Weight, rng::Rng};

    fn weighted(weights: &[f64]) -> Vec<Arc<Backend>> {
        let backend = |(place, &weight): (usize, &f64)| {
            let backend = Backend::new(place.to_string());
            backend.set_weight(Weight::new(weight).unwrap());
            Arc::new(backend)
        };
        weights.iter().enumerate().map(backend).collect()
    }

    /// How many slots each backend has, and how many there are.
    fn entries(maglev: Maglev, members: &[Arc<Backend>]) -> (Vec<usize>, usize) {
        let table = maglev.table(members);
        let mut entries = vec![0; members.len()];
        table.slots.iter().for_each(|&place| entries[place as usize] += 1);
        (entries, table.slots.len())
    }

    #[test]
    fn backends_that_are_alike_have_as_many_slots_give_or_take_one() {
        for members in [1, 2, 3, 7, 100, 163, 164, 500, 2_000] {
            let (entries, size) = entries(Maglev::new(), &weighted(&vec![1.0; members]));
            let (least, most) = (*entries.iter().min().unwrap(), *entries.iter().max().unwrap());
            assert!(most - least <= 1, "{members}: {least} to {most}");
            // The paper has 1 % where there are a hundred for each; there are four times as many.
            assert!(
                size >= 100 * members && most as f64 / (size as f64 / members as f64) <= 1.004,
                "{members}: {most}"
            );
        }
    }

    #[test]
    fn slots_follow_any_weights_to_a_turn() {
        let mut rng = Rng::new(1);
        for round in 0..20 {
            let weight = |rng: &mut Rng| [0.0, 0.1, 1.0, 1.0 + rng.unit(), 10.0 * rng.unit()][rng.below(5)];
            let weights: Vec<f64> = (0..1 + rng.below(150)).map(|_| weight(&mut rng)).chain([1.0]).collect();
            let (entries, size) = entries(Maglev::new(), &weighted(&weights));
            let (total, n) = (weights.iter().sum::<f64>(), weights.len() as f64);
            for (place, (&slots, weight)) in entries.iter().zip(&weights).enumerate() {
                let (expected, turn) = (size as f64 * weight / total, n * weight / total);
                let near = (slots as f64 - expected).abs() <= turn + 1.0 && (*weight > 0.0 || slots == 0);
                assert!(near, "round {round}: number {place} of {n} has {slots} slots, not {expected}");
            }
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter_to_any_slot() {
        let mut rng = Rng::new(2);
        for members in [2, 20, 200] {
            let mut listed = weighted(&(0..members).map(|_| rng.unit()).collect::<Vec<_>>());
            let owners = |listed: &[Arc<Backend>]| -> Vec<u64> {
                let table = Maglev::new().table(listed);
                table.slots.iter().map(|&place| listed[place as usize].id().hash64()).collect()
            };
            let before = owners(&listed);
            for _ in 0..3 {
                (1..members).for_each(|last| listed.swap(last, rng.below(last + 1)));
                assert!(owners(&listed) == before, "{members}");
            }
        }
    }

    #[test]
    fn the_size_grows_by_doubling_and_only_where_it_must() {
        let size = |maglev: Maglev, members| maglev.size(members);
        for (members, expected) in [(1, 65_537), (163, 65_537), (164, 131_101), (327, 131_101), (328, 262_151)] {
            assert_eq!(size(Maglev::new(), members), expected, "{members}");
        }
        // Enough is enough, until there are fewer than 64 for each.
        assert_eq!(size(Maglev::new(), 3_000), size(Maglev::new(), 16_000));
        assert!(size(Maglev::new(), 20_000) > size(Maglev::new(), 16_000));
        for (slots, members, expected) in
            [(10_007, 150, 10_007), (10_000, 10, 10_007), (10_007, 157, 20_021), (0, 1, 67)]
        {
            assert_eq!(size(Maglev::with_slots(slots), members), expected, "{slots} for {members}");
        }
        assert!(size(Maglev::with_slots(usize::MAX), 1) < MOST + 1_000);
    }
}
