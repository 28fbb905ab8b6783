use super::{GroupState, Grouping};
use crate::{backend::Backend, hash::mix, strategy::hash_key};
use std::sync::Arc;

/// Two groups: some of the members, which this balancer uses, and the rest, for when all of those are out. With thousands
/// of balancers and thousands of backends, every one of each holding a connection to every other is too many.
///
/// The subset is the best `size` in the balancer's own ranking of all members, by rendezvous hashing (gRPC A68): a backend
/// that comes or goes changes each subset by one at most, and a balancer that comes or goes changes none. All subsets together are
/// as even as chance makes them: with `m` of them to a backend on average, the shares of the load are spread by `1/√m`, and a
/// part of `e⁻ᵐ` of the backends is in no subset. Where an [`Aperture`](super::Aperture) is not to be had, make `size` ten times
/// the backends over the balancers, and more.
#[derive(Clone, Copy, Debug)]
pub struct Subset {
    balancer: u64,
    size: usize,
}

impl Subset {
    /// The subset of the balancer that is called `balancer`, a name that no other has: of so many members, at least 1.
    pub fn new(balancer: &str, size: usize) -> Self {
        Self { balancer: hash_key(balancer), size: size.max(1) }
    }
}

impl Grouping for Subset {
    fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32> {
        let mut ranked: Vec<usize> = (0..members.len()).collect();
        ranked.sort_by_cached_key(|&place| mix(self.balancer, members[place].id().hash64()));
        let mut groups = vec![1; members.len()];
        ranked.into_iter().take(self.size).for_each(|place| groups[place] = 0);
        groups
    }

    fn shares(&self, groups: &[GroupState]) -> Vec<f64> {
        groups.iter().map(|group| if group.group == 0 { 1.0 } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(range: std::ops::Range<u32>) -> Vec<Arc<Backend>> {
        range.map(|n| Arc::new(Backend::new(n.to_string()))).collect()
    }

    fn chosen(balancer: &str, members: &[Arc<Backend>]) -> Vec<String> {
        let groups = Subset::new(balancer, 5).groups(members);
        let chosen = members.iter().zip(groups).filter(|(_, group)| *group == 0);
        chosen.map(|(backend, _)| backend.id().to_string()).collect()
    }

    #[test]
    fn a_backend_that_comes_or_goes_changes_a_subset_by_one_at_most() {
        for balancer in (0..100).map(|n| format!("balancer {n}")) {
            let (before, after) = (chosen(&balancer, &members(0..50)), chosen(&balancer, &members(1..51)));
            assert_eq!(before.len(), 5);
            let stayed = before.iter().filter(|id| after.contains(id)).count();
            // One went and one came.
            assert!(stayed >= 3, "{before:?} {after:?}");
        }
    }

    #[test]
    fn all_subsets_together_are_even() {
        let (members, mut counts) = (members(0..50), vec![0_u32; 50]);
        for balancer in (0..2_000).map(|n| format!("balancer {n}")) {
            chosen(&balancer, &members).iter().for_each(|id| counts[id.parse::<usize>().unwrap()] += 1);
        }
        // 200 each, give or take four standard deviations.
        assert!(counts.iter().all(|count| (145..255).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_subset_larger_than_the_pool_is_all_of_it() {
        assert_eq!(chosen("a", &members(0..3)).len(), 3);
        assert!(Subset::new("a", 0).groups(&members(0..3)).iter().filter(|group| **group == 0).count() == 1);
    }
}
