//! What sharing costs: one look at all backends by the real rule, and the bytes that an etcd carries.

use super::{
    ballot::{Ballot, Vote},
    council::Council,
    probes::{backends, gateways, probers},
};
use allocation_counter::measure;
use std::sync::Arc;

/// A fleet in which everybody has voted, as one of its gateways sees it.
pub struct Seen {
    council: Council,
    backends: Vec<Arc<str>>,
    ballots: Vec<Ballot>,
}

/// What one look costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Backends that fall to this gateway.
    pub mine: usize,
    /// Votes that are read.
    pub votes: usize,
    pub allocations: u64,
    /// The most that is held at once, in bytes.
    pub memory: u64,
}

/// Bytes of the ballots as they stand in etcd.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wire {
    /// The longest one.
    pub ballot: usize,
    /// All of them, which is what a gateway reads when it comes.
    pub all: usize,
    /// What etcd is told, and what it tells, when one backend goes out or comes back: on average, over all backends.
    pub told: f64,
    pub tells: f64,
}

impl Seen {
    pub fn new(count: usize, backends_count: usize, k: usize, seed: u64) -> Self {
        let (names, backends) = (gateways(count, seed), backends(backends_count));
        let mut ballots = vec![Ballot { digest: u64::MAX, ..Ballot::default() }; count];
        for (backend, asked_by) in backends.iter().zip(probers(&names, &backends, k)) {
            asked_by.into_iter().for_each(|place| _ = ballots[place].votes.insert(Arc::clone(backend), Vote::Well));
        }
        let mut council = Council::new(Arc::clone(&names[0]), k);
        council.vote(ballots[0].clone());
        names.iter().zip(&ballots).for_each(|(name, ballot)| council.hear(Arc::clone(name), Some(ballot.clone())));
        Self { council, backends, ballots }
    }

    /// Looks at all backends, as it is done after each change.
    pub fn look(&self) -> usize {
        let round = self.council.round();
        self.backends.iter().filter(|backend| round.rule(backend).is_mine).count()
    }

    pub fn cost(&self) -> Look {
        let mut mine = 0;
        let measured = measure(|| mine = self.look());
        let votes = self.ballots.iter().map(|ballot| ballot.votes.len()).sum();
        Look { mine, votes, allocations: measured.count_total, memory: measured.bytes_max }
    }

    pub fn wire(&self) -> Wire {
        let bytes = |ballot: &Ballot| serde_json::to_vec(ballot).expect("a ballot is JSON").len();
        let sizes: Vec<_> = self.ballots.iter().map(bytes).collect();
        // Each that asks a backend writes all that it has to say, and every gateway hears it.
        let told = self.ballots.iter().zip(&sizes).map(|(ballot, size)| ballot.votes.len() * size).sum::<usize>();
        let told = told as f64 / self.backends.len() as f64;
        Wire {
            ballot: sizes.iter().copied().max().unwrap_or_default(),
            all: sizes.iter().sum(),
            told,
            tells: told * self.ballots.len() as f64,
        }
    }
}
