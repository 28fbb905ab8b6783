//! How well keys stay together, and how even the load is: the strategies that go by key, in a closed loop.

use super::draw::Stream;
use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};
use tower_balancer::{
    backend::{Backend, Lease},
    strategy::{
        AnyStrategy, Candidates, ConsistentHash, Eligible, Hashing, Hint, Maglev, Memento, Picker, Rendezvous, Ring,
        Strategy, hash_key,
    },
};

const NODES: usize = 20;
const IN_FLIGHT: usize = 400;
const KEYS: usize = 100_000;
const WARM_UP: usize = 20_000;

static EPOCH: LazyLock<Instant> = LazyLock::new(|| tokio::time::Instant::now().into_std());

/// What one strategy made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Affinity {
    pub strategy: String,
    /// The share of the requests that went to the owner of their key.
    pub affinity: f64,
    /// The requests of the busiest node over the mean, all requests together.
    pub max_mean: f64,
    /// The most that one node had in flight at any time, over the mean.
    pub worst: f64,
}

/// Every layout, plain and with bounds.
pub fn all(seed: u64, requests: usize) -> Vec<Affinity> {
    let mut rows = Vec::new();
    for bound in [None, Some(2.0), Some(1.25), Some(1.1)] {
        rows.push(of("ring", Ring::new, bound, seed, requests));
        rows.push(of("maglev", Maglev::new, bound, seed, requests));
        rows.push(of("rendezvous", || Rendezvous, bound, seed, requests));
        rows.push(of("memento", Memento::new, bound, seed, requests));
    }
    rows
}

/// 400 requests are in flight at any time: one ends by lot, and one begins with a key of a Zipf law over 100 000.
pub fn of<H: Hashing>(name: &str, hashing: impl Fn() -> H, bound: Option<f64>, seed: u64, requests: usize) -> Affinity {
    let nodes: Vec<_> = (0..NODES).map(|node| Arc::new(Backend::new(format!("node-{node}")))).collect();
    let (all, plain) = (Eligible::new([true; NODES]), ConsistentHash::new(hashing()));
    let bounded = match bound {
        Some(factor) => AnyStrategy::new(name, ConsistentHash::new(hashing()).bounded(factor)),
        None => AnyStrategy::new(name, ConsistentHash::new(hashing())),
    };
    let (owner, picker) = (plain.build(&nodes), bounded.build(&nodes));
    let candidates = Candidates::new(&nodes, &all);

    let (mut keys, mut ends) = (Stream::new(seed, 1), Stream::new(seed, 2));
    let zipf = zipf();
    let mut open: Vec<Lease> = Vec::new();
    let (mut at_home, mut counts, mut worst) = (0_u64, [0_u64; NODES], 0);
    for request in 0..WARM_UP + requests {
        if open.len() == IN_FLIGHT {
            let _ended = open.swap_remove(ends.below(IN_FLIGHT));
        }
        let drawn = keys.unit();
        let key = zipf.partition_point(|&up_to| up_to <= drawn);
        let hint = Hint::new(*EPOCH, keys.bits()).key(hash_key(key.to_le_bytes()));
        let index = picker.pick(&candidates, &hint).expect("all nodes are in");
        open.push(Lease::take(Arc::clone(&nodes[index.get()]), *EPOCH));
        if request >= WARM_UP {
            at_home += u64::from(owner.pick(&candidates, &hint) == Some(index));
            counts[index.get()] += 1;
            worst = worst.max(nodes[index.get()].load().in_flight());
        }
    }
    let mean = |sum: u64| sum as f64 / NODES as f64;
    let busiest = counts.iter().copied().max().unwrap_or_default();
    Affinity {
        strategy: bound.map_or(name.to_owned(), |bound| format!("{name}, bounded {bound}")),
        affinity: at_home as f64 / requests as f64,
        max_mean: busiest as f64 / mean(counts.iter().sum()),
        worst: f64::from(worst) / mean(IN_FLIGHT as u64),
    }
}

/// The probability of the keys up to each together, where the k-th is asked for 1/k as often as the first.
fn zipf() -> Vec<f64> {
    let total: f64 = (1..=KEYS).map(|rank| 1.0 / rank as f64).sum();
    let sums = (1..=KEYS).scan(0.0, |sum, rank| {
        *sum += 1.0 / rank as f64 / total;
        Some(*sum)
    });
    sums.collect()
}
