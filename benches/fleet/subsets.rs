//! Who is connected to whom: all to all, by subsets, and by deterministic apertures.

use super::probes::gateways;
use std::sync::Arc;
use tower_balancer::{
    backend::Backend,
    strategy::{Aperture, Grouping, RoundRobin, Subset},
};

/// How gateways choose whom they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Mesh,
    Subset,
    Aperture,
}

impl Choice {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mesh => "all",
            Self::Subset => "`Subset`",
            Self::Aperture => "`Aperture`",
        }
    }
}

/// What all gateways together come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connected {
    /// Gateways that are connected to a backend: the fewest, the mean, the most.
    pub fewest: usize,
    pub mean: f64,
    pub most: usize,
    /// The load of the busiest backend over the mean, and that of the least busy, where all gateways have the same traffic.
    pub busiest: f64,
    pub idlest: f64,
    /// The share of the connections of those who stay that are new when one gateway leaves: the first by number, and the last.
    pub first_left: f64,
    pub last_left: f64,
    /// The same when a backend leaves.
    pub backend_left: f64,
}

pub fn members(count: usize) -> Vec<Arc<Backend>> {
    super::probes::backends(count).into_iter().map(|id| Arc::new(Backend::new(&*id))).collect()
}

/// What part of each member each of so many gateways has. A number leads to a name: with the first gateway gone, the second
/// is the first by number.
pub fn parts(choice: Choice, names: &[Arc<str>], least: usize, members: &[Arc<Backend>]) -> Vec<Vec<f64>> {
    let of = |(place, name): (usize, &Arc<str>)| match choice {
        Choice::Mesh => vec![1.0; members.len()],
        Choice::Subset => {
            let groups = Subset::new(name, least).groups(members);
            groups.into_iter().map(|group| if group == 0 { 1.0 } else { 0.0 }).collect()
        }
        Choice::Aperture => Aperture::new(place, names.len(), RoundRobin::new).least(least).parts(members),
    };
    names.iter().enumerate().map(of).collect()
}

pub fn connect(choice: Choice, count: usize, least: usize, backends: usize, seed: u64) -> Connected {
    let (names, members) = (gateways(count, seed), members(backends));
    let all = parts(choice, &names, least, &members);
    let (mut connections, mut loads) = (vec![0_usize; backends], vec![0.0; backends]);
    for parts in &all {
        let sum: f64 = parts.iter().sum();
        for (backend, part) in parts.iter().enumerate().filter(|(_, part)| **part > 0.0) {
            connections[backend] += 1;
            loads[backend] += part / sum;
        }
    }
    let mean = count as f64 / backends as f64;
    let left = |names: &[Arc<str>], before: &[Vec<f64>], members: &[Arc<Backend>]| match names {
        [] => 0.0,
        names => opened(before, &parts(choice, names, least, members)),
    };
    // Without its last column, which is the backend that leaves.
    let shorter: Vec<_> = all.iter().map(|parts| parts[..backends - 1].to_vec()).collect();
    Connected {
        fewest: connections.iter().copied().min().unwrap_or_default(),
        mean: connections.iter().sum::<usize>() as f64 / backends as f64,
        most: connections.iter().copied().max().unwrap_or_default(),
        busiest: loads.iter().copied().fold(0.0, f64::max) / mean,
        idlest: loads.iter().copied().fold(f64::INFINITY, f64::min) / mean,
        first_left: left(&names[1..], &all[1..], &members),
        last_left: left(&names[..count - 1], &all[..count - 1], &members),
        backend_left: left(&names, &shorter, &members[..backends - 1]),
    }
}

/// The share of the connections afterwards that were not there before.
fn opened(before: &[Vec<f64>], after: &[Vec<f64>]) -> f64 {
    let pairs = || before.iter().zip(after).flat_map(|(before, after)| before.iter().zip(after));
    let there = pairs().filter(|(_, after)| **after > 0.0).count();
    let new = pairs().filter(|(before, after)| **before == 0.0 && **after > 0.0).count();
    new as f64 / there.max(1) as f64
}
