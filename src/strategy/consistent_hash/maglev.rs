use super::{Hashing, Index, Table};
use crate::{
    backend::Backend,
    hash::{below, mix},
};
use std::sync::Arc;

/// The table of Google's Maglev (Eisenbud and others 2016): one look-up a key, and shares that are even to a percent.
///
/// The table has 65 537 slots; with more than 163 backends twice as many, and so on, always a prime. (A size for
/// each number of backends would move nearly all keys at each change.) Backends choose slots in turns, each in an order of
/// its own, and one with half the mean weight has every other turn. So it moves a few keys more than it must when the
/// backends change: 0.4 % of the others when one of a thousand leaves. A backend of weight 0 owns nothing while another has
/// weight. With tens of thousands of backends the table takes a second to fill: look at [`Memento`](super::Memento).
#[derive(Clone, Copy, Debug, Default)]
pub struct Maglev;

const SLOTS: usize = 65_537;
const SLOTS_A_BACKEND: usize = 400;
/// With thousands of backends, so many slots are enough, as long as each has its share of them.
const ENOUGH: usize = 1 << 20;
const LEAST_A_BACKEND: usize = 64;
const FREE: u32 = u32::MAX;

/// The owners of a key that are out or full before all are ranked instead. With half of them out: never.
const ATTEMPTS: u64 = 64;

impl Maglev {
    /// The table.
    pub fn new() -> Self {
        Self
    }
}

impl Hashing for Maglev {
    type Table = MaglevTable;

    fn table(&self, members: &[Arc<Backend>]) -> MaglevTable {
        let weights: Vec<f64> = members.iter().map(|backend| backend.weight()).collect();
        let hashes: Vec<u64> = members.iter().map(|backend| backend.id().hash64()).collect();
        MaglevTable { slots: fill(&hashes, &weights) }
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

/// The slots, each with the place of its owner; none where there are no backends.
fn fill(hashes: &[u64], weights: &[f64]) -> Box<[u32]> {
    if hashes.is_empty() {
        return Box::default();
    }
    let mut size = SLOTS;
    let least = hashes.len() * LEAST_A_BACKEND;
    while size < (hashes.len() * SLOTS_A_BACKEND).min(ENOUGH).max(least) {
        size *= 2;
    }
    let size = next_prime(size);
    let heaviest = weights.iter().copied().fold(0.0, f64::max);
    // In parts of the heaviest, so that no sum overflows; where none weighs anything, all alike.
    let part = |weight: f64| if heaviest > 0.0 { weight / heaviest } else { 1.0 };
    let mean = weights.iter().map(|&weight| part(weight)).sum::<f64>() / weights.len() as f64;
    // By the mean, not by the heaviest: beside one that outweighs all others, most rounds would fill one slot.
    let turns = |weight: f64| part(weight) / mean;
    let mut choosers: Vec<Chooser> = (hashes.iter().zip(weights).enumerate())
        .filter(|&(_, (_, &weight))| turns(weight) > 0.0)
        .map(|(place, (&hash, &weight))| Chooser {
            place: place as u32,
            next: below(mix(hash, 1), size),
            skip: below(mix(hash, 2), size - 1) + 1,
            turns: turns(weight),
            due: 0.0,
        })
        .collect();

    let mut slots = vec![FREE; size];
    let mut free = size;
    while free > 0 {
        for chooser in &mut choosers {
            chooser.due += chooser.turns;
            while chooser.due >= 1.0 && free > 0 {
                chooser.due -= 1.0;
                // The size is prime, so its steps come to every slot.
                while slots[chooser.next] != FREE {
                    chooser.next = (chooser.next + chooser.skip) % size;
                }
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
