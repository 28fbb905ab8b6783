use super::{Candidates, Hint, Index, Picker, Strategy};
use crate::{backend::Backend, rng::Rng};
use std::sync::Arc;

/// By lot, in proportion to the weights: Walker's alias method as Vose (1991) builds it. Build O(n), pick O(1).
///
/// Needs no shared memory at all, so it is the one strategy that threads cannot contend on. A backend of weight 0 is
/// picked only when every eligible backend has weight 0; then all of them are alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Strategy for Random {
    type Picker = RandomPicker;

    fn build(&self, members: &[Arc<Backend>]) -> RandomPicker {
        RandomPicker { table: alias_table(&members.iter().map(|backend| backend.weight()).collect::<Vec<_>>()) }
    }
}

/// The alias table of [`Random`] over the members of a pool.
#[derive(Clone, Debug)]
pub struct RandomPicker {
    table: Vec<Slot>,
}

/// A slot of the table: stay here with this probability, otherwise go to the alias.
#[derive(Clone, Copy, Debug)]
struct Slot {
    stay: f64,
    alias: u32,
}

/// Draws from the table that may hit a backend that is out, or one that passes its turn on, before the eligible ones are
/// counted out instead. With nine tenths of the weight out, all miss in 1 of 850 picks.
const DRAWS: usize = 64;

impl Picker for RandomPicker {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let mut rng = hint.rng();
        if !self.table.is_empty() {
            // Drawing again on a miss leaves the proportions among the eligible as they are, where one that passes on now may
            // take the next.
            for _ in 0..DRAWS {
                let index = self.draw(&mut rng);
                let Some(backend) = candidates.get(index).filter(|_| candidates.is_eligible(index)) else { continue };
                let factor = hint.factor(backend);
                if factor >= 1.0 || rng.unit() < factor {
                    return Some(index);
                }
            }
        }
        scan(candidates, &mut rng, |_, backend| backend.weight() * hint.factor(backend))
    }
}

impl RandomPicker {
    fn draw(&self, rng: &mut Rng) -> Index {
        let place = rng.below(self.table.len());
        let slot = self.table[place];
        Index::new(if rng.unit() < slot.stay { place } else { slot.alias as usize })
    }
}

/// The same lot, O(n), over the eligible alone.
pub(super) fn scan(
    candidates: &Candidates<'_>,
    rng: &mut Rng,
    weight: impl Fn(Index, &Backend) -> f64,
) -> Option<Index> {
    let weights = || candidates.iter().map(|(index, backend)| (index, weight(index, backend)));
    let heaviest = weights().map(|(_, weight)| weight).fold(0.0, f64::max);
    if heaviest == 0.0 {
        return candidates.eligible().get(rng.below(candidates.len())).copied();
    }
    // In parts of the heaviest, so that no sum overflows.
    let parts = || weights().map(|(index, weight)| (index, weight / heaviest));
    let mut left = rng.unit() * parts().map(|(_, part)| part).sum::<f64>();
    let mut last = None;
    for (index, part) in parts() {
        if part == 0.0 {
            continue;
        }
        left -= part;
        last = Some(index);
        if left < 0.0 {
            break;
        }
    }
    last
}

/// Empty where none weighs anything: then every pick goes through [`scan`].
fn alias_table(weights: &[f64]) -> Vec<Slot> {
    let heaviest = weights.iter().copied().fold(0.0, f64::max);
    if heaviest == 0.0 {
        return Vec::new();
    }
    // In parts of the heaviest, so that no sum overflows.
    let parts = || weights.iter().map(|weight| weight / heaviest);
    let mean = parts().sum::<f64>() / weights.len() as f64;
    let mut share: Vec<f64> = parts().map(|part| part / mean).collect();
    let mut table: Vec<Slot> = (0..weights.len() as u32).map(|alias| Slot { stay: 1.0, alias }).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..share.len()).partition(|&i| share[i] < 1.0);
    while let (Some(&under), Some(&over)) = (small.last(), large.last()) {
        small.pop();
        table[under] = Slot { stay: share[under], alias: over as u32 };
        share[over] -= 1.0 - share[under];
        if share[over] < 1.0 {
            large.pop();
            small.push(over);
        }
    }
    // Rounding may leave a slot that should have stayed exactly full: `stay: 1.0` is its start value. One of weight 0
    // can only be left over if rounding ate a whole share; it must still never stay.
    for &left in &small {
        if weights[left] == 0.0 {
            let heaviest = (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap_or(left);
            table[left] = Slot { stay: 0.0, alias: heaviest as u32 };
        }
    }
    table
}
