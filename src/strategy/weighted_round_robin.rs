use super::{Candidates, Hint, Index, Picker, Strategy, random::scan};
use crate::backend::Backend;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Turns in proportion to the weights: gRPC's static stride scheduler. No lock, one atomic counter.
///
/// The greatest weight is scaled to 65 535; each generation of the counter offers every backend once, and one with a
/// fraction of the greatest weight takes that fraction of its offers, spread as evenly as can be. A backend of weight 0
/// counts as the mean of the others. The counter belongs to the strategy and survives updates.
#[derive(Clone, Debug, Default)]
pub struct WeightedRoundRobin {
    sequence: Arc<AtomicU64>,
}

impl WeightedRoundRobin {
    /// A counter at its start.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for WeightedRoundRobin {
    type Picker = WeightedRoundRobinPicker;

    fn build(&self, members: &[Arc<Backend>]) -> WeightedRoundRobinPicker {
        let weights: Vec<f64> = members.iter().map(|backend| backend.weight()).collect();
        WeightedRoundRobinPicker { sequence: Arc::clone(&self.sequence), strides: strides(&weights) }
    }
}

/// The strides of [`WeightedRoundRobin`] over the members of a pool.
#[derive(Clone, Debug)]
pub struct WeightedRoundRobinPicker {
    sequence: Arc<AtomicU64>,
    strides: Vec<u16>,
}

const FULL: u64 = u16::MAX as u64;

/// Offers that may come to nothing, because a backend is out or not due, before the eligible are counted out instead.
const OFFERS: usize = 64;

impl Picker for WeightedRoundRobinPicker {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        pick(&self.sequence, &self.strides, |&stride| stride, candidates, hint)
    }
}

/// The next in turn, by `strides` that may change between two picks.
pub(super) fn pick<T>(
    sequence: &AtomicU64,
    strides: &[T],
    read: impl Fn(&T) -> u16,
    candidates: &Candidates<'_>,
    hint: &Hint<'_>,
) -> Option<Index> {
    let n = strides.len() as u64;
    if candidates.is_empty() || n == 0 {
        return None;
    }
    for _ in 0..OFFERS {
        let sequence = sequence.fetch_add(1, Ordering::Relaxed);
        let (generation, place) = (sequence / n, sequence % n);
        let index = Index::new(place as usize);
        let due = is_due(read(&strides[place as usize]), generation, place);
        if due && candidates.is_eligible(index) && hint.takes(candidates, index) {
            return Some(index);
        }
    }
    scan(candidates, &mut hint.rng(), |index, _| strides.get(index.get()).map_or(0.0, |stride| read(stride).into()))
}

/// Whether the backend at `place` takes its offer in this generation.
fn is_due(stride: u16, generation: u64, place: u64) -> bool {
    let stride = u64::from(stride);
    let at = stride.wrapping_mul(generation).wrapping_add(place * (FULL / 2)) % FULL;
    at >= FULL - stride
}

fn strides(weights: &[f64]) -> Vec<u16> {
    let scale = Scale::of(weights.iter().copied());
    weights.iter().map(|&weight| scale.stride(weight)).collect()
}

/// What the greatest weight is, and what one without a weight counts as.
pub(super) struct Scale {
    greatest: f64,
    /// In parts of the greatest, so that no sum overflows.
    mean: f64,
}

impl Scale {
    pub(super) fn of(weights: impl Iterator<Item = f64> + Clone) -> Self {
        let positive = weights.filter(|&weight| weight > 0.0);
        let greatest = positive.clone().fold(0.0, f64::max);
        let (sum, count) = positive.fold((0.0, 0.0), |(sum, count), weight| (sum + weight / greatest, count + 1.0));
        Self { greatest, mean: sum / count }
    }

    pub(super) fn stride(&self, weight: f64) -> u16 {
        let part = if weight > 0.0 { weight / self.greatest } else { self.mean };
        if part.is_nan() { u16::MAX } else { (part * FULL as f64).round().max(1.0) as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Weight, rng::Rng, strategy::Eligible};
    use std::time::Instant;

    /// The first picks over backends of such weights.
    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn letters(weights: &[f64], picks: usize) -> String {
        let backend = |(place, &weight): (usize, &f64)| {
            let backend = Backend::new(place.to_string());
            backend.set_weight(Weight::new(weight).unwrap());
            Arc::new(backend)
        };
        let members: Vec<_> = weights.iter().enumerate().map(backend).collect();
        let all = Eligible::new(members.iter().map(|_| true));
        let (picker, candidates) = (WeightedRoundRobin::new().build(&members), Candidates::new(&members, &all));
        let hint = Hint::new(Instant::now(), 0);
        let picked = |_| char::from(b'a' + picker.pick(&candidates, &hint).unwrap().get() as u8);
        (0..picks).map(picked).collect()
    }

    #[test]
    fn it_is_grpcs_static_stride() {
        assert_eq!(letters(&[3.0, 2.0, 1.0], 24), "abcaababcaababcaababcaab");
        assert_eq!(strides(&[1.0, 0.0, 0.5]), [65_535, 49_151, 32_768]);
        assert_eq!(letters(&[1.0, 0.0, 0.5], 20), "abcacababcabacababca");
    }

    #[test]
    fn shares_are_exact() {
        let picks = letters(&[3.0, 2.0, 1.0], 60_000);
        let count = |letter| picks.chars().filter(|&picked| picked == letter).count();
        assert_eq!([count('a'), count('b'), count('c')], [30_000, 20_000, 10_000]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn shares_are_exact_over_a_cycle_though_everything_is_rebuilt_after_each_pick_and_others_were_there_before() {
        let (strategy, mut rng, hint) = (WeightedRoundRobin::new(), Rng::new(1), Hint::new(Instant::now(), 0));
        // Divisors of 65 535, so that every share of the greatest weight is a whole number.
        for greatest in [3, 5, 15, 17, 51].repeat(4) {
            let weights: Vec<usize> =
                (0..1 + rng.below(5)).map(|_| 1 + rng.below(greatest)).chain([greatest]).collect();
            let backend = |(place, &weight): (usize, &usize)| {
                let backend = Backend::new(place.to_string());
                backend.set_weight(Weight::new(weight as f64).unwrap());
                Arc::new(backend)
            };
            let members: Vec<_> = weights.iter().enumerate().map(backend).collect();
            let all = Eligible::new(members.iter().map(|_| true));
            let next = || strategy.build(&members).pick(&Candidates::new(&members, &all), &hint).unwrap().get();
            // From anywhere in the cycle: the list before this one left it there.
            let mut counts = vec![0; weights.len()];
            (0..2 * weights.iter().sum::<usize>()).for_each(|_| counts[next()] += 1);
            assert!(counts.iter().zip(&weights).all(|(count, weight)| *count == 2 * weight), "{weights:?}: {counts:?}");
            (0..rng.below(100)).for_each(|_| _ = next());
        }
    }

    #[test]
    fn weights_that_are_all_zero_or_enormous_are_alike() {
        assert_eq!(strides(&[0.0, 0.0]), [u16::MAX; 2]);
        assert_eq!(strides(&[f64::MAX, f64::MAX]), [u16::MAX; 2]);
        assert_eq!(strides(&[1.0, 1e-300]), [u16::MAX, 1]);
    }
}
