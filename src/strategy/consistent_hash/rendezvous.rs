use super::{Hashing, Index, Table};
use crate::{backend::Backend, hash::mix};
use std::sync::Arc;

/// Highest random weight (Thaler, Ravishankar 1998): each key ranks all backends, and the first of them owns it. O(n).
///
/// Exact in everything: a backend that leaves moves its own keys and no other, and each owns a share of the keys in
/// proportion to its weight, by the score `−weight / ln u` (Schindelhauer, Schomaker 2005). Best up to some 64 backends.
/// A backend of weight 0 owns nothing while another has weight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rendezvous;

impl Hashing for Rendezvous {
    type Table = RendezvousTable;

    fn table(&self, members: &[Arc<Backend>]) -> RendezvousTable {
        let weights: Vec<f64> = members.iter().map(|backend| backend.weight()).collect();
        let alike = weights.windows(2).all(|pair| pair[0] == pair[1]);
        RendezvousTable {
            hashes: members.iter().map(|backend| backend.id().hash64()).collect(),
            weights: if alike { Vec::new() } else { weights },
        }
    }
}

/// The backends that a [`Rendezvous`] ranks.
#[derive(Clone, Debug)]
pub struct RendezvousTable {
    hashes: Vec<u64>,
    /// Empty where all are alike: then the hashes rank by themselves, without a logarithm.
    weights: Vec<f64>,
}

impl Table for RendezvousTable {
    fn first(&self, key: u64, takes: impl Fn(Index) -> bool) -> Option<Index> {
        let ranked = self.hashes.iter().enumerate().map(|(place, &hash)| (place, mix(key, hash)));
        if self.weights.is_empty() {
            return best(ranked, takes);
        }
        // Where none of those that are left has weight, the hash decides alone.
        best(ranked.map(|(place, hash)| (place, (score(hash, self.weights[place]), hash))), takes)
    }
}

/// The place with the greatest score, of those that are taken. It asks only about one that would be the best.
fn best<S: PartialOrd>(scored: impl Iterator<Item = (usize, S)>, takes: impl Fn(Index) -> bool) -> Option<Index> {
    let mut best: Option<(Index, S)> = None;
    for (place, score) in scored {
        if best.as_ref().is_none_or(|(_, least)| score > *least) && takes(Index::new(place)) {
            best = Some((Index::new(place), score));
        }
    }
    best.map(|(index, _)| index)
}

/// `−weight / ln u`, where `u` is the number between 0 and 1 that the hash stands for. In a unit in which no weight makes it
/// infinite.
pub(super) fn score(hash: u64, weight: f64) -> f64 {
    // Below 1 and above 0, so that the logarithm is neither 0 nor infinite.
    let u = ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    weight * UNIT / -ln(u)
}

/// 2⁻⁶⁴, which is exact.
const UNIT: f64 = 1.0 / 18_446_744_073_709_551_616.0;

/// The natural logarithm of an ordinary positive number, off by less than 1e-6. Additions, multiplications and one
/// division: the same bits on every machine, which the mathematical library does not promise.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = 1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0 + square * (1.0 / 9.0))));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_logarithm_is_one() {
        for x in [1e-16, 0.001, 0.1, 0.25, 0.5, 0.75, 0.999, 0.999_999_9] {
            assert!((ln(x) - f64::ln(x)).abs() < 2e-6 * f64::ln(x).abs().max(1.0), "{x}");
        }
    }
}
