use super::{
    Candidates, Grouped, GroupedPicker, Grouping, Hint, Index, Picker, Score, Standing, Strategy, hint::Factor,
};
use crate::backend::{Backend, Moment};
use std::{fmt, sync::Arc};

/// A stage before any strategy: each of several balancers uses a few backends of its own, such that all of them together
/// use all backends alike. Finagle's deterministic aperture.
///
/// Balancers and backends stand on two rings of the same length. Each balancer takes its own slice, and as many of the
/// next ones as it needs for the least number of backends. A backend at the end of its aperture, of which it has a part
/// only, gets that part of its share. So each balancer has few connections, and each backend the same load. Every balancer
/// has to know its number, and how many there are; where numbers are not to be had, a [`Subset`](super::Subset) is even on
/// average. When all backends of an aperture are out, the others serve.
///
/// ```
/// use tower_balancer::strategy::{Aperture, LeastRequest};
///
/// // The third of ten balancers, with at least 12 backends.
/// let strategy = Aperture::new(2, 10, LeastRequest::new);
/// # let _ = strategy;
/// ```
pub struct Aperture<G, M> {
    inner: Grouped<Slice, G, M>,
    slice: Slice,
    make: M,
}

/// What a balancer has of the ring.
#[derive(Clone, Copy, Debug)]
struct Slice {
    balancer: usize,
    balancers: usize,
    least: usize,
}

impl<G: Strategy, M: Fn() -> G + Clone> Aperture<G, M> {
    /// The aperture of one of so many `balancers`, counted from 0, over at least 12 backends; `make` makes the strategy
    /// within. A number beyond the last begins again at the first.
    pub fn new(balancer: usize, balancers: usize, make: M) -> Self {
        let balancers = balancers.max(1);
        Self::over(Slice { balancer: balancer % balancers, balancers, least: 12 }, make)
    }

    /// Over at least so many backends, and at least 1. All balancers need the same number here.
    pub fn least(self, least: usize) -> Self {
        Self::over(Slice { least: least.max(1), ..self.slice }, self.make)
    }

    fn over(slice: Slice, make: M) -> Self {
        Self { inner: Grouped::new(slice, make.clone()), slice, make }
    }
}

impl Slice {
    /// What part of each member the balancer has, from 0 to 1.
    fn parts(&self, members: &[Arc<Backend>]) -> Vec<f64> {
        let (n, balancers) = (members.len(), self.balancers);
        // In slices: a member is `balancers / n` of them long. As many of them as cover the least number of members.
        let slices = (self.least.min(n) * balancers).div_ceil(n.max(1)).min(balancers);
        let (begin, end) = (self.balancer * n, (self.balancer + slices) * n);
        // Everybody has the members in the order of their ids' hashes, from wherever they learned of them.
        let mut ring: Vec<usize> = (0..n).collect();
        ring.sort_unstable_by_key(|&place| (members[place].id().hash64(), members[place].id()));
        let mut parts = vec![0.0; n];
        for (at, place) in ring.into_iter().enumerate() {
            // In units of which the ring has `n * balancers`. Once around, and once more for what goes over the end.
            let overlap = |turn: usize| {
                let (from, to) = ((at + turn * n) * balancers, (at + 1 + turn * n) * balancers);
                to.min(end).saturating_sub(from.max(begin))
            };
            parts[place] = (overlap(0) + overlap(1)) as f64 / balancers as f64;
        }
        parts
    }
}

impl Grouping for Slice {
    fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32> {
        self.parts(members).into_iter().map(|part| u32::from(part == 0.0)).collect()
    }

    fn shares(&self, groups: &[Standing]) -> Vec<f64> {
        groups.iter().map(|group| if group.group == 0 { 1.0 } else { 0.0 }).collect()
    }
}

impl<G: Strategy, M: Fn() -> G + Send + Sync + 'static> Strategy for Aperture<G, M> {
    type Picker = AperturePicker<G::Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        let parts = self.slice.parts(members);
        let ends = members.iter().zip(parts).filter(|(_, part)| (0.0..1.0).contains(part) && *part > 0.0);
        let ends = ends.map(|(backend, part)| (backend.id().hash64(), part)).collect();
        AperturePicker { inner: self.inner.build(members), ends: Ends(ends) }
    }
}

/// The picker of an [`Aperture`].
#[derive(Debug)]
pub struct AperturePicker<P> {
    inner: GroupedPicker<Slice, P>,
    ends: Ends,
}

/// The members of which the balancer has a part only: two at the most, by the hash of their ids.
#[derive(Debug)]
struct Ends(Vec<(u64, f64)>);

impl Factor for Ends {
    fn of(&self, backend: &Backend, _now: Moment) -> f64 {
        let end = self.0.iter().find(|(hash, _)| *hash == backend.id().hash64());
        end.map_or(1.0, |(_, part)| *part)
    }
}

impl<P: Picker> Picker for AperturePicker<P> {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        hint.scaled(&self.ends, |hint| self.inner.pick(candidates, hint))
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        hint.scaled(&self.ends, |hint| self.inner.score(candidates, index, hint))
    }
}

impl<G, M> fmt::Debug for Aperture<G, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Aperture").field(&self.slice).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rng::Rng,
        strategy::{Eligible, Random, RoundRobin, conformance},
    };
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn now() -> Instant {
        Instant::now()
    }

    fn members(n: usize) -> Vec<Arc<Backend>> {
        (0..n).map(|n| Arc::new(Backend::new(n.to_string()))).collect()
    }

    #[test]
    fn it_conforms_around_others() {
        conformance::check(|| Aperture::new(0, 1, RoundRobin::new), now());
        conformance::check(|| Aperture::new(1, 3, || Random), now());
    }

    #[test]
    fn all_balancers_together_have_each_backend_equally_often() {
        for (n, balancers, least) in
            [(10, 3, 1), (10, 3, 4), (7, 20, 3), (100, 7, 12), (3, 5, 12), (1, 4, 1), (5, 5, 2)]
        {
            let members = members(n);
            let mut had = vec![0.0; n];
            for balancer in 0..balancers {
                let slice = Slice { balancer, balancers, least };
                let parts = slice.parts(&members);
                let covered = parts.iter().filter(|part| **part > 0.0).count();
                assert!(covered >= least.min(n), "{covered} of {n} for {balancers}");
                assert!(parts.iter().sum::<f64>() < (least.min(n) + n.div_ceil(balancers)) as f64 + 1e-9);
                had.iter_mut().zip(parts).for_each(|(had, part)| *had += part);
            }
            assert!(had.iter().all(|part| (part - had[0]).abs() < 1e-9), "{had:?}");
        }
    }

    #[test]
    fn every_backend_gets_the_same_load_from_all_balancers_together() {
        let members = members(10);
        let all = Eligible::new([true; 10]);
        let mut counts = [0.0; 10];
        let mut rng = Rng::new(1);
        for balancer in 0..4 {
            let picker = Aperture::new(balancer, 4, || Random).least(3).build(&members);
            for _ in 0..20_000 {
                let hint = Hint::new(now(), rng.next_u64());
                counts[picker.pick(&Candidates::new(&members, &all), &hint).unwrap().get()] += 1.0 / 8_000.0;
            }
        }
        assert!(counts.iter().all(|count: &f64| (count - 1.0).abs() < 0.06), "{counts:?}");
    }
}
