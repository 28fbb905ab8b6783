//! Who asks whom, by the real rule: what the checks cost backends and gateways, and what moves.

use super::{
    council::{Gateway, first},
    draw::Stream,
    hash::hash_key,
};
use std::sync::Arc;

/// Gateways have names by chance where nobody gives them one.
pub fn gateways(count: usize, seed: u64) -> Vec<Arc<str>> {
    let mut names = Stream::new(seed, 11);
    (0..count).map(|_| format!("{:016x}", names.bits()).into()).collect()
}

pub fn backends(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| format!("http://10.0.{}.{}:8080", n / 256, n % 256).into()).collect()
}

/// Which gateways, by their places, ask each backend.
pub fn probers(gateways: &[Arc<str>], backends: &[Arc<str>], k: usize) -> Vec<Vec<usize>> {
    let order: Vec<_> = gateways.iter().map(Gateway::new).collect();
    let place = |gateway: Gateway<'_>| order.iter().position(|other| *other == gateway).expect("one of them");
    let asked_by = |backend: &Arc<str>| first(k, order.iter().copied(), hash_key(&**backend)).into_iter().map(place);
    backends.iter().map(|backend| asked_by(backend).collect()).collect()
}

/// How the work is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// How many gateways ask each backend.
    pub askers: usize,
    /// How many backends a gateway asks: of all gateways the mean, the most and the fewest.
    pub mean: f64,
    pub most: usize,
    pub fewest: usize,
    /// Backends that get another asker when one gateway leaves, and how many it had.
    pub moved: usize,
    pub had: usize,
}

/// Shares the checks of `backends` among `gateways`, and takes the first of them away.
pub fn share(gateways: &[Arc<str>], backends: &[Arc<str>], k: usize) -> Shares {
    let asked = probers(gateways, backends, k);
    let mut counts = vec![0_usize; gateways.len()];
    asked.iter().flatten().for_each(|&gateway| counts[gateway] += 1);
    let left = probers(&gateways[1..], backends, k);
    // Those who stay have one place less.
    let is_new = |(before, after): (&Vec<usize>, &Vec<usize>)| after.iter().any(|place| !before.contains(&(place + 1)));
    Shares {
        askers: asked.first().map_or(0, Vec::len),
        mean: counts.iter().sum::<usize>() as f64 / gateways.len() as f64,
        most: counts.iter().copied().max().unwrap_or_default(),
        fewest: counts.iter().copied().min().unwrap_or_default(),
        moved: asked.iter().zip(&left).filter(|&pair| is_new(pair)).count(),
        had: counts[0],
    }
}
