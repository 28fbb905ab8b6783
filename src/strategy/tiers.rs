use super::{GroupState, Grouping};
use crate::backend::Backend;
use std::sync::Arc;

/// Groups by [priority](crate::backend::Locality::priority): all traffic goes to the first tier while enough of it is
/// healthy, and what it cannot take spills over to the next.
///
/// The arithmetic is Envoy's: a tier takes 1.4 times its healthy part, so that it spills only when more than two in seven
/// are out. Where all tiers together cannot take everything, each gets its part of what they can.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tiers;

impl Grouping for Tiers {
    fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32> {
        members.iter().map(|backend| backend.locality().priority).collect()
    }

    fn shares(&self, groups: &[GroupState]) -> Vec<f64> {
        // Whole percents, as Envoy counts.
        let health = |tier: &GroupState| (140 * tier.eligible / tier.members.max(1)).min(100);
        let takes: Vec<usize> = groups.iter().map(health).collect();
        let all: usize = takes.iter().sum::<usize>().min(100);
        let mut left = 100;
        let share = |takes: &usize| {
            // Of what is there to be had, so that it comes to 100 even where health does not.
            let share = (takes * 100).checked_div(all).unwrap_or(0).min(left);
            left -= share;
            share as f64
        };
        takes.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spill_over_is_envoys() {
        let shares = |healthy: &[usize]| {
            let tier = |(group, &eligible): (usize, &usize)| GroupState {
                group: group as u32,
                members: 100,
                eligible,
                weight: 1.0,
            };
            Tiers.shares(&healthy.iter().enumerate().map(tier).collect::<Vec<_>>())
        };
        for (healthy, expected) in [
            ([100, 100], [100.0, 0.0]),
            ([72, 72], [100.0, 0.0]),
            ([71, 71], [99.0, 1.0]),
            ([50, 60], [70.0, 30.0]),
            ([25, 100], [35.0, 65.0]),
            ([25, 25], [50.0, 50.0]),
            ([0, 10], [0.0, 100.0]),
            ([0, 0], [0.0, 0.0]),
        ] {
            assert!(shares(&healthy) == expected, "{healthy:?}");
        }
    }
}
