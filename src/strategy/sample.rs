use super::{Candidates, Hint, Index};
use crate::{
    backend::{Backend, Load, Moment},
    ewma::fade,
    rng::Rng,
};

/// The most candidates that are sampled without looking at all of them.
const MOST: usize = 32;

/// The candidate with the least cost among `d` distinct ones, chosen at random; among all of them where there are no
/// more than `d`, or where `d` is above 32. Ties are broken at random.
///
/// Distinct, because drawing the same one twice takes the worse of two hosts a quarter of the time.
pub(super) fn least<'a>(
    candidates: &Candidates<'a>,
    hint: &Hint<'_>,
    d: usize,
    cost: impl Fn(&'a Backend) -> f64,
) -> Option<Index> {
    let mut rng = hint.rng();
    let mut least = Least::default();
    let eligible = candidates.eligible();
    let mut consider = |index: Index, rng: &mut Rng| {
        if let Some(backend) = candidates.get(index) {
            least.offer(index, cost(backend), rng);
        }
    };
    if eligible.len() <= d || d > MOST {
        eligible.iter().for_each(|&index| consider(index, &mut rng));
    } else {
        distinct(eligible.len(), d, &mut rng, |place, rng| consider(eligible[place], rng));
    }
    least.index
}

/// What the recent failures of a backend cost, in costs of a request that succeeds: a hundred for each, by their share
/// among the last requests, forgotten over tens of seconds so that the backend is tried again.
pub(super) fn failures(load: &Load, now: Moment) -> f64 {
    match load.latency().faults(now) {
        Some(faults) if faults.value > 0.0 => faults.value * fade(faults.idle, FORGIVEN) * FAILURE,
        _ => 0.0,
    }
}

const FAILURE: f64 = 100.0;
/// Seconds after which two thirds of it are forgotten.
const FORGIVEN: f64 = 10.0;

/// `d` distinct numbers below `n`, for `d` of at most 32 and not above `n` (Floyd 1987).
pub(super) fn distinct(n: usize, d: usize, rng: &mut Rng, mut take: impl FnMut(usize, &mut Rng)) {
    // Two, the usual number, need no list of those that were drawn.
    if d == 2 {
        let first = rng.below(n);
        let second = rng.below(n - 1);
        take(first, rng);
        return take(if second < first { second } else { second + 1 }, rng);
    }
    let mut taken = [u32::MAX; MOST];
    for round in 0..d.min(MOST) {
        let top = n - d + round;
        let drawn = rng.below(top + 1);
        let drawn = if taken[..round].contains(&(drawn as u32)) { top } else { drawn };
        taken[round] = drawn as u32;
        take(drawn, rng);
    }
}

/// The least of what is offered; of several that cost the same, one at random.
#[derive(Default)]
pub(super) struct Least {
    pub(super) index: Option<Index>,
    cost: f64,
    ties: usize,
}

impl Least {
    pub(super) fn offer(&mut self, index: Index, cost: f64, rng: &mut Rng) {
        // A cost that is no number is worse than any.
        let cost = if cost.is_nan() { f64::INFINITY } else { cost };
        if self.index.is_none() || cost < self.cost {
            *self = Self { index: Some(index), cost, ties: 1 };
        } else if cost == self.cost {
            self.ties += 1;
            if rng.below(self.ties) == 0 {
                self.index = Some(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_distinct_and_every_pair_as_likely() {
        let mut rng = Rng::new(1);
        for (n, d) in [(2, 2), (3, 2), (5, 2), (5, 3), (5, 5), (40, 31), (32, 32), (1, 1)] {
            const ROUNDS: usize = 20_000;
            let mut pairs = vec![0; n * n];
            for _ in 0..ROUNDS {
                let mut drawn = Vec::new();
                distinct(n, d, &mut rng, |place, _| drawn.push(place));
                drawn.sort_unstable();
                let is_distinct = drawn.windows(2).all(|pair| pair[0] < pair[1]);
                assert!(is_distinct && drawn.len() == d && drawn[d - 1] < n, "{d} of {n}");
                for (at, one) in drawn.iter().enumerate() {
                    drawn[at + 1..].iter().for_each(|other| pairs[one * n + other] += 1);
                }
            }
            let expected = (ROUNDS * d * (d - 1)) as f64 / (n * (n - 1)).max(1) as f64;
            for (one, other) in (0..n).flat_map(|one| (one + 1..n).map(move |other| (one, other))) {
                let count = f64::from(pairs[one * n + other]);
                // Five standard deviations.
                assert!(
                    (count - expected).abs() <= 5.0 * expected.sqrt(),
                    "{d} of {n}: {one} with {other} {count} times"
                );
            }
        }
    }
}
