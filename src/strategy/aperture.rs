use super::{
    GroupedPicker, Strategy,
    grouped::{GroupState, Strategies},
};
use crate::backend::Backend;
use std::{fmt, sync::Arc};

/// A stage before any strategy: each of several balancers uses a few backends of its own, such that all of them together
/// use all backends alike. Finagle's deterministic aperture.
///
/// Balancers and backends stand on two rings of the same length. Each balancer takes its own slice, and as many of the
/// next ones as it needs for the least number of backends. A backend at the end of its aperture, of which it has a part
/// only, gets that part of its share: that part of the requests may go there, by lot and by key, and the others are
/// picked for among the rest of the aperture. So each balancer has few connections, and each backend the same load, in
/// proportion to its weight, from strategies that are even. Every balancer has to know its number, and how many there are;
/// where numbers are not to be had, a [`Subset`](super::Subset) is even on average. When all backends of an aperture are
/// out, the others serve.
///
/// That is paid for when a balancer comes or goes: all apertures shift, and up to half of the connections are new, fewer the more
/// balancers there are to a backend.
///
/// With and without each end, an aperture has a strategy of its own. What holds of [`Grouped`](super::Grouped) holds here:
/// they are kept, and a [`Sticky`](super::Sticky) goes around.
///
/// ```
/// use tower_balancer::strategy::{Aperture, LeastRequest};
///
/// // The third of ten balancers, with at least 12 backends.
/// let strategy = Aperture::new(2, 10, LeastRequest::new);
/// # let _ = strategy;
/// ```
pub struct Aperture<G, M> {
    slice: Slice,
    strategies: Strategies<G, M>,
}

/// What a balancer has of the ring.
#[derive(Clone, Copy, Debug)]
struct Slice {
    balancer: usize,
    balancers: usize,
    least: usize,
}

impl<G: Strategy, M: Fn() -> G> Aperture<G, M> {
    /// The aperture of one of so many `balancers`, counted from 0, over at least 12 backends; `make` makes the strategies
    /// within. A number beyond the last begins again at the first; more than a million balancers count as a million.
    pub fn new(balancer: usize, balancers: usize, make: M) -> Self {
        let balancers = balancers.clamp(1, 1_000_000);
        let slice = Slice { balancer: balancer % balancers, balancers, least: 12 };
        Self { slice, strategies: Strategies::new(make) }
    }

    /// Over at least so many backends, and at least 1. All balancers need the same number here.
    pub fn least(self, least: usize) -> Self {
        Self { slice: Slice { least: least.max(1), ..self.slice }, ..self }
    }

    /// What part of each of the `members` this balancer has, from 0 for none to 1 for all of it: whom it connects to, and
    /// what shares of its requests they get beside each other, where they weigh the same. O(n log n).
    pub fn parts(&self, members: &[Arc<Backend>]) -> Vec<f64> {
        self.slice.parts(members)
    }
}

impl Slice {
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

impl<G: Strategy, M: Fn() -> G + Send + Sync + 'static> Strategy for Aperture<G, M> {
    type Picker = AperturePicker<G::Picker>;

    /// As layers: on the whole aperture lies, as thick as its lesser end is a part, what the lesser end has; on the aperture
    /// without that end lies what the other end has beyond; and on the aperture without either the rest of 1. A layer gets of
    /// the requests what it has of it all. So each backend gets its part, if every layer is even in itself.
    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        let parts = self.slice.parts(members);
        let mut tops: Vec<f64> = parts.iter().copied().filter(|&part| part > 0.0).collect();
        tops.sort_unstable_by(f64::total_cmp);
        tops.dedup();
        let places = |is_in: &dyn Fn(f64) -> bool| (0..members.len()).filter(|&place| is_in(parts[place])).collect();
        let layers = tops.iter().map(|&top| places(&|part| part >= top));
        let mut groups: Vec<(u32, Vec<usize>)> = (0..).zip(layers).collect();
        groups.push((REST, places(&|part| part == 0.0)));
        let thickness: Vec<f64> =
            tops.iter().scan(0.0, |below, top| Some(top - std::mem::replace(below, *top))).collect();
        self.strategies.build(members, groups, move |standings| shares(standings, &thickness))
    }
}

/// The group of those that are not in the aperture.
const REST: u32 = u32::MAX;

/// What each layer has of it all; the rest has nothing.
fn shares(standings: &[GroupState], thickness: &[f64]) -> Vec<f64> {
    // Where nothing weighs anything, backends count.
    let layers = || standings.iter().zip(thickness);
    let weighs = layers().any(|(layer, _)| layer.weight > 0.0);
    let size = |layer: &GroupState| if weighs { layer.weight } else { layer.eligible as f64 };
    layers().map(|(layer, thickness)| size(layer) * thickness).collect()
}

/// The picker of an [`Aperture`].
pub type AperturePicker<P> = GroupedPicker<P>;

impl<G, M> fmt::Debug for Aperture<G, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Aperture").field(&self.slice).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Weight,
        rng::Rng,
        strategy::{
            AnyStrategy, Candidates, ConsistentHash, Eligible, Hint, Index, Maglev, Picker, Random, RoundRobin,
            conformance,
        },
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

    /// What each backend gets of all requests through one balancer, with nothing in flight.
    fn loads<S: Strategy>(aperture: &S, members: &[Arc<Backend>], eligible: &Eligible) -> Vec<f64> {
        const PICKS: u32 = 40_000;
        let (picker, mut rng) = (aperture.build(members), Rng::new(1));
        let mut loads = vec![0.0; members.len()];
        for _ in 0..PICKS {
            let hint = Hint::new(now(), rng.next_u64()).key(rng.next_u64());
            let index = picker.pick(&Candidates::new(members, eligible), &hint).unwrap();
            loads[index.get()] += 1.0 / f64::from(PICKS);
        }
        loads
    }

    fn assert_near(loads: &[f64], expected: impl IntoIterator<Item = f64>, what: &str) {
        let expected: Vec<f64> = expected.into_iter().collect();
        let near = loads.iter().zip(&expected).all(|(load, expected)| (load - expected).abs() < 0.01);
        assert!(near && loads.len() == expected.len(), "{what}: {loads:.3?}, expected {expected:.3?}");
    }

    #[test]
    fn each_backend_gets_its_part_from_each_balancer_and_the_same_load_from_all() {
        let names =
            ["round_robin", "weighted_round_robin", "random", "maglev", "rendezvous", "least_request", "peak_ewma"];
        // Two ends, one, none; and apertures of ends alone.
        for (n, balancers, least) in [(3, 2, 1), (10, 4, 3), (5, 3, 2), (7, 20, 2), (6, 3, 1)] {
            let (members, all) = (members(n), Eligible::new((0..n).map(|_| true)));
            for name in names {
                let mut together = vec![0.0; n];
                for balancer in 0..balancers {
                    let make = move || name.parse::<AnyStrategy>().unwrap();
                    let aperture = Aperture::new(balancer, balancers, make).least(least);
                    let loads = loads(&aperture, &members, &all);
                    let parts = aperture.slice.parts(&members);
                    let sum: f64 = parts.iter().sum();
                    let what = format!("{name}, {balancer} of {balancers}");
                    assert_near(&loads, parts.iter().map(|part| part / sum), &what);
                    together.iter_mut().zip(loads).for_each(|(all, load)| *all += load / balancers as f64);
                }
                assert_near(&together, vec![1.0 / n as f64; n], name);
            }
        }
    }

    #[test]
    fn parts_are_parts_of_the_weights() {
        let members = members(3);
        let aperture = || Aperture::new(0, 2, || Random).least(1);
        let parts = aperture().slice.parts(&members);
        let all = Eligible::new([true; 3]);
        // One whole, half of another, and one that is not in it.
        let place = |part: f64| parts.iter().position(|&had| had == part).unwrap();
        for (whole, half) in [(1.0, 4.0), (3.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)] {
            members[place(1.0)].set_weight(Weight::new(whole).unwrap());
            members[place(0.5)].set_weight(Weight::new(half).unwrap());
            // Where neither weighs anything they are alike.
            let (whole, half) = if whole + half == 0.0 { (1.0, 1.0) } else { (whole, half) };
            let loads = loads(&aperture(), &members, &all);
            let expected = whole / (whole + half / 2.0);
            let loads = [loads[place(1.0)], loads[place(0.5)], loads[place(0.0)]];
            assert_near(&loads, [expected, 1.0 - expected, 0.0], &format!("{whole} {half}"));
        }
        // Without its whole one the half is all there is, and without both the rest serves.
        let none_whole = all.with(Index::new(place(1.0)), false);
        assert_eq!(loads(&aperture(), &members, &none_whole)[place(0.5)].round(), 1.0);
        let none = none_whole.with(Index::new(place(0.5)), false);
        assert_eq!(loads(&aperture(), &members, &none)[place(0.0)].round(), 1.0);
    }

    #[test]
    fn equal_keys_meet_the_same_backend() {
        let members = members(10);
        let picker = Aperture::new(1, 4, || ConsistentHash::new(Maglev::new())).least(3).build(&members);
        let all = Eligible::new([true; 10]);
        let of = |key, seed| picker.pick(&Candidates::new(&members, &all), &Hint::new(now(), seed).key(key));
        let mut rng = Rng::new(1);
        for _ in 0..500 {
            let key = rng.next_u64();
            assert_eq!(of(key, rng.next_u64()), of(key, rng.next_u64()));
        }
    }
}
